"""Mirrors and commits at their edges: sizes, ends that fail, what is replaced."""

from __future__ import annotations

import asyncio
import errno
import itertools
import json
import os
import threading
from pathlib import Path

import pytest

from monitor.engine.drivers.base import Ranges
from monitor.engine.drivers.memory import MemoryDriver
from monitor.engine.errors import RequestError
from monitor.engine.graph import edit
from monitor.engine.graph.transaction import Transaction
from monitor.engine.jobs.mirror import MirrorJob
from tests.support import tools
from tests.support.bench import Bench
from tests.support.graphs import add, run
from tests.support.guests import contents
from tests.support.mirrors import disk, graph, guest_writes, mirror, target

MIB = 1 << 20


@pytest.mark.parametrize("size", [0, 1, 511, 1000, 65536, 65537, 3 * MIB + 10])
@pytest.mark.parametrize("verb", ["complete", "cancel"])
def test_zero_length_and_odd_lengths(tmp_path: Path, size: int, verb: str) -> None:
    """A target is as long as the source in whole sectors."""
    data = bytes(range(1, 252)) * (size // 251 + 1)

    async def main() -> None:
        async with disk(tmp_path / "disk", data[:size]) as bench:
            await target(bench, tmp_path / "copy", -(-size // 512) * 512)
            await mirror(bench)
            assert (await bench.engine.job_ended("j")).status == "ready"
            (ready,) = bench.named("BLOCK_JOB_READY")
            assert ready["len"] == ready["offset"]  # not what its last unit covers beyond the end
            await bench.do(f"block-job-{verb}", device="j")
            await bench.ended()

    run(main())
    held = (tmp_path / "copy").read_bytes()
    assert held[:size] == data[:size]
    assert not any(held[size:])


def test_other_sizes_are_refused_by_the_job(tmp_path: Path) -> None:
    async def main() -> None:
        async with disk(tmp_path / "disk", bytes(MIB)) as bench:
            await target(bench, tmp_path / "copy", MIB + 512)
            await mirror(bench)
            await bench.ended()
            (ended,) = bench.named("BLOCK_JOB_COMPLETED")
            assert ended["error"] == "Source and target image have different sizes"
            assert not any(node.is_filter for node in bench.nodes())

    run(main())


@pytest.mark.parametrize("way", ["resume", "force"])
def test_a_flush_that_fails_at_the_end(tmp_path: Path, way: str) -> None:
    """The job stops, and goes on when it is resumed; or it is cancelled, and the disk stays."""
    rules = {
        "inject-error": [
            {"event": "flush_to_disk", "state": 2, "iotype": "flush", "once": True},
        ],
        "set-state": [{"event": "flush_to_disk", "state": 1, "new_state": 2}],
    }

    async def main() -> None:
        async with disk(tmp_path / "disk", b"x" * MIB) as bench:
            await target(bench, tmp_path / "copy", MIB, **rules)
            await mirror(bench, on_target_error="stop")
            assert (await bench.engine.job_ended("j")).status == "ready"
            await asyncio.to_thread(guest_writes, bench, 0)  # so that there is something to flush
            await bench.do("job-complete", id="j")
            assert (await bench.engine.job_ended("j")).status == "standby"
            assert bench.named("BLOCK_JOB_ERROR") == [
                {"device": "j", "operation": "write", "action": "stop"}
            ]
            (job,) = await bench.do("query-block-jobs")
            assert job.io_status == "failed"
            if way == "resume":
                await bench.do("block-job-resume", device="j")
            else:
                await bench.do("block-job-cancel", device="j", force=True)
            await bench.ended()
            assert bench.drive.node is not None
            assert bench.drive.node.name == ("target" if way == "resume" else "disk")
            assert contents(bench.drive.node) == b"guest" * 100 + b"x" * (MIB - 500)

    run(main())


def test_cancelled_before_it_is_ready_it_leaves_the_disk(tmp_path: Path) -> None:
    async def main() -> None:
        async with disk(tmp_path / "disk", b"x" * 4 * MIB) as bench:
            await target(bench, tmp_path / "copy", 4 * MIB)
            before = graph(bench)
            await mirror(bench, speed=1024)
            assert any(driver == "mirror_top" for _, driver in graph(bench))
            await bench.do("block-job-cancel", device="j")
            await bench.ended()
            assert bench.named("BLOCK_JOB_CANCELLED")
            assert graph(bench) == before
            assert bench.drive.node is bench.engine.graph.nodes["disk"]

    run(main())


def test_an_existing_target_keeps_its_backing_image(tmp_path: Path) -> None:
    """``existing``: the link that the target's header has, not the source's."""
    tools.need("qemu-img")
    for name in ("base", "other"):
        tools.run("qemu-img", "create", "-q", "-f", "qcow2", tmp_path / name, "1M")
    for name, below in (("disk", "base"), ("copy", "other")):
        backing = ["-b", below, "-F", "qcow2"]
        tools.run("qemu-img", "create", "-q", "-f", "qcow2", *backing, tmp_path / name)

    async def main() -> None:
        bench = Bench()
        await bench.open(tmp_path / "disk", "qcow2")
        copy = str(tmp_path / "copy")
        await bench.do(
            "drive-mirror", job_id="j", device="d0", target=copy, sync="top", mode="existing"
        )
        assert (await bench.engine.job_ended("j")).status == "ready"
        await bench.do("job-complete", id="j")
        await bench.ended()
        assert bench.drive.node is not None
        assert bench.drive.node.backing is not None
        assert bench.drive.node.backing.filename == str(tmp_path / "other")
        await bench.engine.shut_down()

    run(main())
    assert "other" in tools.run("qemu-img", "info", tmp_path / "copy")


def test_zeroes_that_the_target_has_are_not_written(tmp_path: Path) -> None:
    """A fresh target gets data only, a used one zeroes where it holds something."""
    tools.need("qemu-img")
    for name in ("disk", "fresh", "used"):
        tools.run("qemu-img", "create", "-q", "-f", "qcow2", tmp_path / name, "4M")
    tools.run("qemu-io", "-f", "qcow2", "-c", "write -P 5 2M 1M", tmp_path / "used")
    tools.run("qemu-io", "-f", "qcow2", "-c", "write -P 7 1M 1M", tmp_path / "disk")

    async def main(name: str) -> None:
        bench = Bench()
        await bench.open(tmp_path / "disk", "qcow2")
        file = {"driver": "file", "filename": str(tmp_path / name)}
        await bench.do("blockdev-add", node_name="target", driver="qcow2", file=file)
        await mirror(bench)
        assert (await bench.engine.job_ended("j")).status == "ready"
        await bench.do("job-cancel", id="j")
        await bench.ended()
        await bench.engine.shut_down()

    for name, mapped in (("fresh", [False, True, False]), ("used", [False, True])):
        run(main(name))
        tools.run("qemu-img", "compare", tmp_path / "disk", tmp_path / name)
        found = json.loads(tools.run("qemu-img", "map", "--output=json", tmp_path / name))
        present = [part["present"] for part in found]
        assert [on for on, _ in itertools.groupby(present)] == mapped


@pytest.mark.parametrize("policy", ["report", "stop", "ignore"])
def test_scattered_data_is_copied_together(tmp_path: Path, policy: str) -> None:
    """Also after an error that does not come again, which is told."""
    together: list[int] = []

    class Target(MemoryDriver):
        def write_ranges(self, buffer: memoryview, ranges: Ranges) -> None:
            together.append(len(ranges))
            if len(together) == 1:
                raise OSError(errno.EIO, "injected")
            super().write_ranges(buffer, ranges)

    async def main() -> None:
        bench = Bench()
        await bench.open(tmp_path / "disk", "raw")
        add(bench.engine.graph, "target", Target(64 * MIB))
        await mirror(bench, on_target_error=policy)
        if policy == "stop":
            assert (await bench.engine.job_ended("j")).status == "paused"
            await bench.do("block-job-resume", device="j")
        ended = await bench.engine.job_ended("j")
        (error,) = bench.named("BLOCK_JOB_ERROR")
        assert (error["operation"], error["action"]) == ("write", policy)
        assert (ended.error is None) == (policy != "report")
        if policy != "report":
            assert ended.status == "ready"
            held = contents(bench.engine.graph.nodes["target"])
            assert held == (tmp_path / "disk").read_bytes()
            assert len(together) < 30
        await bench.engine.shut_down()

    with (tmp_path / "disk").open("wb") as file:
        file.truncate(64 * MIB)
        for number in range(64):
            os.pwrite(file.fileno(), bytes([number + 1]) * 65536, number * MIB)
    run(main())
    assert max(together) == 16


def test_zeroes_hide_what_the_target_will_have_below(tmp_path: Path) -> None:
    """The target knows no backing image while it is filled, and has the source's in the end."""
    tools.need("qemu-img")
    tools.run("qemu-img", "create", "-q", "-f", "qcow2", tmp_path / "base", "2M")
    tools.run("qemu-io", "-f", "qcow2", "-c", "write -P 5 0 2M", tmp_path / "base")
    backing = ("-b", tmp_path / "base", "-F", "qcow2")
    tools.run("qemu-img", "create", "-q", "-f", "qcow2", *backing, tmp_path / "disk")
    tools.run("qemu-io", "-f", "qcow2", "-c", "write -z 0 1M", tmp_path / "disk")

    async def main() -> None:
        bench = Bench()
        await bench.open(tmp_path / "disk", "qcow2")
        assert bench.drive.node is not None
        before = contents(bench.drive.node)
        copy = str(tmp_path / "copy")
        await bench.do("drive-mirror", job_id="j", device="d0", target=copy, sync="top")
        assert (await bench.engine.job_ended("j")).status == "ready"
        await bench.do("job-complete", id="j")
        await bench.ended()
        assert bench.drive.node is not None
        assert bench.drive.node.filename == copy
        assert contents(bench.drive.node) == before
        await bench.engine.shut_down()

    run(main())


def test_replacing_a_node_that_has_gone(tmp_path: Path) -> None:
    async def main() -> None:
        async with disk(tmp_path / "disk", bytes(MIB)) as bench:
            await target(bench, tmp_path / "copy", MIB)
            with pytest.raises(RequestError, match="Failed to find node with node-name='gone'"):
                await mirror(bench, replaces="gone")
            with pytest.raises(RequestError, match="abrupt change of visible data"):
                await mirror(bench, replaces="target")
            await mirror(bench, replaces="disk")
            assert (await bench.engine.job_ended("j")).status == "ready"
            job = bench.engine.job_table.find("j")
            del bench.engine.graph.nodes["disk"]
            with pytest.raises(RequestError, match="Node name 'disk' not found"):
                await bench.do("job-complete", id="j")
            bench.engine.graph.nodes["disk"] = bench.drive.node.below()  # type: ignore
            assert job is not None
            await bench.do("job-complete", id="j")
            await bench.ended()
            assert bench.drive.node is bench.engine.graph.nodes["target"]

    run(main())


@pytest.mark.parametrize("way", ["complete", "fail"])
def test_the_prompts_requests_wait_for_the_moment_that_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """qemu-io is a client of its own, and came into the drained section: what it wrote was lost."""
    reached, go_on = threading.Event(), threading.Event()
    prepare = MirrorJob.prepare

    def held(job: MirrorJob) -> None:
        reached.set()
        assert go_on.wait(20)
        if way == "fail":
            raise OSError(errno.EIO, "injected")
        prepare(job)

    async def main() -> None:
        async with disk(tmp_path / "disk", b"x" * MIB) as bench:
            await target(bench, tmp_path / "copy", MIB)
            await mirror(bench, auto_finalize=False)
            assert (await bench.engine.job_ended("j")).status == "ready"
            await bench.do("block-job-complete", device="j")
            assert (await bench.engine.job_ended("j")).status == "pending"
            await asyncio.to_thread(guest_writes, bench, 0)  # left to the end
            ending = asyncio.ensure_future(bench.do("job-finalize", id="j"))
            assert await asyncio.to_thread(reached.wait, 20)
            request = {"device": "d0", "operation": "write", "length": 4096, "pattern": 7}
            writing = asyncio.ensure_future(bench.do("x-blkmon-io", **request))
            mapping = asyncio.ensure_future(bench.do("x-blkmon-map", device="d0"))
            for _ in range(100):
                await asyncio.sleep(0)
            assert not writing.done()
            assert not mapping.done()
            go_on.set()
            await asyncio.gather(ending, writing, mapping)
            assert bench.drive.node is not None
            assert bench.drive.node.name == ("target" if way == "complete" else "disk")
            assert contents(bench.drive.node)[:4096] == bytes([7]) * 4096

    monkeypatch.setattr(MirrorJob, "prepare", held)
    run(main())


def test_a_node_that_no_longer_shows_the_same_is_not_replaced(tmp_path: Path) -> None:
    """The filter that is mirrored was led to another disk meanwhile."""

    async def main() -> None:
        async with disk(tmp_path / "disk", bytes(MIB)) as bench:
            await target(bench, tmp_path / "copy", MIB)
            for name in ("spare", "other"):
                (tmp_path / name).write_bytes(bytes(MIB))
                file = {"driver": "file", "filename": str(tmp_path / name)}
                await bench.do("blockdev-add", node_name=name, driver="raw", file=file)
            (tmp_path / "old").write_bytes(bytes(MIB))
            old = {"driver": "file", "filename": str(tmp_path / "old")}
            filter_ = {"driver": "copy-before-write", "file": "spare", "target": old}
            await bench.do("blockdev-add", node_name="above", **filter_)
            await mirror(bench, device="above", replaces="spare")
            assert (await bench.engine.job_ended("j")).status == "ready"
            graph = bench.engine.graph
            with Transaction() as edits:
                above, other = graph.nodes["above"], graph.nodes["other"]
                edit.point(edits, above.children["file"], other)
                edit.refresh(edits, [above, other, graph.nodes["spare"]])
                graph.commit(edits)
            await bench.do("job-complete", id="j")
            await bench.ended()
            (ended,) = bench.named("BLOCK_JOB_COMPLETED")
            assert ended["error"] == "Operation not permitted"
            assert not graph.nodes["target"].parents

    run(main())


def test_completing_twice_is_completing(tmp_path: Path) -> None:
    """The node that is replaced was held once more, for good: nobody could remove it any more."""

    async def main() -> None:
        async with disk(tmp_path / "disk", bytes(MIB)) as bench:
            await target(bench, tmp_path / "copy", MIB)
            await mirror(bench, replaces="disk")
            assert (await bench.engine.job_ended("j")).status == "ready"
            job = bench.engine.job_table.find("j")
            assert job is not None
            job.user_complete()
            job.user_complete()
            await bench.ended()
            await bench.do("blockdev-del", node_name="disk")

    run(main())


def test_the_end_of_the_engine_leaves_sound_images(tmp_path: Path) -> None:
    """Shut down while one mirror is ready: it is cancelled by force."""

    async def main() -> None:
        async with disk(tmp_path / "disk", b"y" * MIB) as bench:
            await target(bench, tmp_path / "copy", MIB)
            await mirror(bench, auto_dismiss=False)
            assert (await bench.engine.job_ended("j")).status == "ready"

    run(main())
    assert (tmp_path / "disk").read_bytes() == b"y" * MIB


def test_a_target_that_is_only_written_to_may_take_an_image_below(tmp_path: Path) -> None:
    """What is read consistently may not: the source, which already has one besides."""
    tools.need("qemu-img")
    for name in ("base", "copy"):
        tools.run("qemu-img", "create", "-q", "-f", "qcow2", tmp_path / name, "1M")

    async def main() -> None:
        async with disk(tmp_path / "disk", b"z" * MIB) as bench:
            for node, name, options in (
                ("target", "copy", {"backing": None}),
                ("base", "base", {}),
            ):
                file = {"driver": "file", "filename": str(tmp_path / name)}
                await bench.do("blockdev-add", node_name=node, driver="qcow2", file=file, **options)
            await mirror(bench)
            assert (await bench.engine.job_ended("j")).status == "ready"
            with pytest.raises(RequestError, match="The overlay is already in use"):
                await bench.do("blockdev-snapshot", node="base", overlay="disk")
            await bench.do("blockdev-snapshot", node="base", overlay="target")
            nodes = bench.engine.graph.nodes
            assert nodes["target"].backing is nodes["base"]
            await bench.do("job-complete", id="j")
            await bench.ended()
            assert contents(nodes["target"]) == b"z" * MIB

    run(main())
