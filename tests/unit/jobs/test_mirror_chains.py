"""Mirrors whose source and target have images below them."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from monitor.engine.graph.node import Node
from monitor.engine.jobs import mirroring
from monitor.engine.jobs.mirroring import Mirroring
from tests.support import tools
from tests.support.bench import Bench
from tests.support.graphs import run
from tests.support.guests import contents

CREATE = ("qemu-img", "create", "-q", "-f", "qcow2")


def guest_writes(bench: Bench) -> None:
    with bench.drive.lane():
        bench.drive.roots[0].write(memoryview(b"guest"), 70_000)


@pytest.mark.parametrize("mode", ["background", "write-blocking"])
@pytest.mark.parametrize("sync", ["top", "none"])
def test_a_last_write_leaves_the_rest_of_its_cluster(tmp_path: Path, sync: str, mode: str) -> None:
    """What comes between the last pass and the end is copied when the target knows nothing yet of
    the image that it has below in the end."""
    tools.need("qemu-img", "qemu-io")
    tools.run(*CREATE, tmp_path / "base", "4M")
    tools.run("qemu-io", "-f", "qcow2", "-c", "write -P 5 0 4M", tmp_path / "base")
    tools.run(*CREATE, "-b", tmp_path / "base", "-F", "qcow2", tmp_path / "disk")
    options = {"sync": sync, "copy_mode": mode, "granularity": 4096, "auto_finalize": False}

    async def main() -> None:
        bench = Bench()
        await bench.open(tmp_path / "disk", "qcow2")
        copy = str(tmp_path / "copy")
        await bench.do("drive-mirror", job_id="j", device="d0", target=copy, **options)
        assert (await bench.engine.job_ended("j")).status == "ready"
        await bench.do("job-complete", id="j")
        assert (await bench.engine.job_ended("j")).status == "pending"
        await asyncio.to_thread(guest_writes, bench)
        assert bench.drive.node is not None
        before = contents(bench.drive.node)
        await bench.do("job-finalize", id="j")
        await bench.ended()
        assert bench.drive.node.filename == copy
        assert contents(bench.drive.node) == before
        await bench.engine.shut_down()

    run(main())


@pytest.mark.parametrize("mode", ["background", "write-blocking"])
def test_the_end_of_a_long_run_and_short_ones_below_it(tmp_path: Path, mode: str) -> None:
    """The run is one cluster longer than a piece; what is left of it is no longer than the others,
    which lie below and above. One of them had been left out, and the job had said it was well."""
    tools.need("qemu-img", "qemu-io")
    tools.run(*CREATE, tmp_path / "base", "4M")
    tools.run("qemu-io", "-f", "qcow2", "-c", "write -P 5 0 4M", tmp_path / "base")
    tools.run(*CREATE, "-b", tmp_path / "base", "-F", "qcow2", tmp_path / "disk")
    writes = ("write -P 1 1472k 1088k", "write -P 2 2650k 4k", "write -P 3 395k 512")
    words = [word for command in writes for word in ("-c", command)]
    tools.run("qemu-io", "-f", "qcow2", *words, tmp_path / "disk")

    async def main() -> None:
        bench = Bench()
        await bench.open(tmp_path / "disk", "qcow2")
        assert bench.drive.node is not None
        before = contents(bench.drive.node)
        copy = str(tmp_path / "copy")
        options = {"target": copy, "sync": "top", "copy_mode": mode}
        await bench.do("drive-mirror", job_id="j", device="d0", **options)
        assert (await bench.engine.job_ended("j")).status == "ready"
        await bench.do("job-complete", id="j")
        await bench.ended()
        assert bench.drive.node.filename == copy
        assert contents(bench.drive.node) == before
        await bench.engine.shut_down()

    run(main())


def test_images_that_a_stream_took_out_are_not_asked(tmp_path: Path) -> None:
    """They are closed, and what their descriptors lead to by now is not the disk."""
    tools.need("qemu-img")
    below: tuple[object, ...] = ()
    for name in ("base", "gone", "middle", "disk"):
        tools.run(*CREATE, *below, tmp_path / name, "4M")
        below = ("-b", tmp_path / name, "-F", "qcow2")
    tools.run(*CREATE, tmp_path / "copy", "4M")

    async def main() -> None:
        bench = Bench()
        await bench.open(tmp_path / "disk", "qcow2")
        file = {"driver": "file", "filename": str(tmp_path / "copy")}
        await bench.do("blockdev-add", node_name="target", driver="qcow2", file=file)
        _, middle, gone, base = bench.engine.graph.nodes["disk"].chain()
        options = {"target": "target", "sync": "full", "copy_mode": "write-blocking"}
        await bench.do("blockdev-mirror", job_id="j", device="d0", **options)
        assert (await bench.engine.job_ended("j")).status == "ready"
        await bench.do("block-stream", job_id="s", device=middle.name, base_node=base.name)
        await bench.ended("s")
        assert gone not in bench.nodes()
        asked = []

        def closed(*request: int) -> Any:
            asked.append(request)
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

        gone.map = closed

        def guest_discards() -> None:
            with bench.drive.lane():
                bench.drive.roots[0].discard(1 << 20, 1 << 20)

        await asyncio.to_thread(guest_discards)
        await bench.do("job-complete", id="j")
        await bench.ended()
        assert not asked
        await bench.engine.shut_down()

    run(main())


def test_a_chain_in_fragments_is_looked_at_in_small_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drained section waits for each; where there is little to see they are long."""
    tools.need("qemu-img", "qemu-io")
    tools.run(*CREATE, tmp_path / "base", "64M")
    tools.run(*CREATE, "-b", tmp_path / "base", "-F", "qcow2", tmp_path / "disk")
    places = [*range(33 << 20, 35 << 20, 128 << 10), 63 << 20]
    words = [word for at in places for word in ("-c", f"write -P 7 {at} 64k")]
    tools.run("qemu-io", "-f", "qcow2", *words, tmp_path / "disk")
    monkeypatch.setattr(mirroring, "MANY_RUNS", 8)
    monkeypatch.setattr(mirroring, "_LEAST_STRETCH", 256 << 10)
    monkeypatch.setattr(mirroring, "_STRETCH", 4 << 20)
    steps: list[tuple[int, int, int]] = []
    mark = Mirroring._mark

    def noted(work: Mirroring, layers: list[Node], offset: int, end: int) -> int:
        count = mark(work, layers, offset, end)
        steps.append((offset, end - offset, count))
        return count

    monkeypatch.setattr(Mirroring, "_mark", noted)

    async def main() -> None:
        bench = Bench()
        await bench.open(tmp_path / "disk", "qcow2")
        copy = str(tmp_path / "copy")
        await bench.do("drive-mirror", job_id="j", device="d0", target=copy, sync="top")
        assert (await bench.engine.job_ended("j")).status == "ready"
        assert bench.drive.node is not None
        before = contents(bench.drive.node)
        await bench.do("job-complete", id="j")
        await bench.ended()
        assert contents(bench.drive.node) == before
        (end,) = bench.named("BLOCK_JOB_COMPLETED")
        assert end["len"] == len(places) << 16
        await bench.engine.shut_down()

    run(main())
    done = {offset: (length, count) for offset, length, count in steps}
    assert sum(length for length, _ in done.values()) == 64 << 20
    assert max(count for _, count in done.values()) <= 8
    assert max(length for length, _ in done.values()) >= 16 << 20
    assert len(steps) < 40
