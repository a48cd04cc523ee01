"""Mirrors and commits of real images while guests write: the copy is exact at the moment it counts.

What is compared is looked at inside the drained section in which a job makes its last changes.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.jobs.commit import CommitJob
from monitor.engine.jobs.mirror import MirrorJob
from tests.support import tools
from tests.support.bench import Bench
from tests.support.graphs import run
from tests.support.guests import MIB, SIZE, Guests, contents, make_disk


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    bench = Bench()

    def look(kind: Any, sides: Any) -> None:
        commit = kind.commit

        def looked(job: Any) -> None:
            commit(job)
            bench.ends.append(tuple(contents(node) for node in sides(job)))  # type: ignore[arg-type]

        monkeypatch.setattr(kind, "commit", looked)

    look(MirrorJob, lambda job: (job.plan.source, job.plan.target))
    look(CommitJob, lambda job: (job.plan.top, job.plan.base))
    return (yield bench)


@asynccontextmanager
async def shut(engine: EmbeddedEngine) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await engine.shut_down()


def chain(image: Path) -> list[dict[str, Any]]:
    said = tools.run("qemu-img", "info", "--backing-chain", "--output=json", image)
    found: list[dict[str, Any]] = json.loads(said)
    return found


MIRRORS = [
    (fmt, target, sync, mode, "complete" if (mode == "background") == (sync != "top") else "cancel")
    for fmt, target in (("raw", "qcow2"), ("qcow2", "qcow2"), ("qcow2", "raw"), ("raw", "raw"))
    for sync in ("full", "top", "none")
    for mode in ("background", "write-blocking")
    if not (target == "raw" and fmt == "qcow2" and sync != "full")
    and not (target == "raw" and sync == "none")
]
"""A raw image has no place for a backing link. Each verb comes with each mode and each sync."""


@pytest.mark.parametrize(("fmt", "target", "sync", "mode", "verb"), MIRRORS)
def test_the_copy_is_exact(
    tmp_path: Path, bench: Bench, fmt: str, target: str, sync: str, mode: str, verb: str
) -> None:
    disk, copy = make_disk(tmp_path, fmt), tmp_path / f"copy.{target}"

    async def main() -> None:
        await bench.open(disk, fmt, discard="unmap")
        async with shut(bench.engine):
            with Guests(bench.drive, seed=3) as guests:
                await bench.do(
                    "drive-mirror",
                    job_id="j",
                    device="d0",
                    target=str(copy),
                    format=target,
                    sync=sync,
                    copy_mode=mode,
                    speed=8 * MIB,
                )
                await guests.busy()
                assert (await bench.ready()).status == "ready"
                await guests.busy()
                command = "block-job-complete" if verb == "complete" else "block-job-cancel"
                await bench.do(command, device="j")
                await bench.ended()
                await guests.busy()
            node = bench.drive.node
            assert node is not None
            assert (node.name == "disk") == (verb == "cancel")

    run(main())
    ((source_held, target_held),) = bench.ends
    assert source_held == target_held[: len(source_held)]
    assert not any(target_held[len(source_held) :])
    if target == "qcow2":
        tools.run("qemu-img", "check", "-q", copy)
    if sync == "full" or (sync == "top" and fmt == "raw"):
        assert len(chain(copy)) == 1
    else:
        names = [str(disk)] * (sync == "none") + [str(tmp_path / "base.qcow2")] * (fmt == "qcow2")
        assert [image["filename"] for image in chain(copy)] == [str(copy), *names]


def make_chain(folder: Path, *, size: int = SIZE) -> Path:
    """low <- mid <- top; the middle is longer than what is below it, and hides some of it."""
    tools.need("qemu-img", "qemu-io")
    below: Path | None = None
    for name, length, commands in (
        ("low", size - 2 * MIB, ["write -P 1 0 3M"]),
        ("mid", size, ["write -P 2 1M 1M", "write -z 0 192k", "write -P 4 5M 100k"]),
        ("top", size, ["write -P 3 1500k 100k", "write -z 2M 64k"]),
    ):
        backing = ["-b", below, "-F", "qcow2"] if below else []
        below = folder / f"{name}.qcow2"
        tools.run("qemu-img", "create", "-q", "-f", "qcow2", *backing, below, str(length))
        words = [word for command in commands for word in ("-c", command)]
        tools.run("qemu-io", "-f", "qcow2", *words, below)
    assert below is not None
    return below


@pytest.mark.parametrize("base", ["low", "mid"])
@pytest.mark.parametrize("verb", ["complete", "cancel"])
def test_an_active_commit_is_exact(tmp_path: Path, bench: Bench, base: str, verb: str) -> None:
    top = make_chain(tmp_path)

    async def main() -> None:
        await bench.open(top, "qcow2")
        async with shut(bench.engine):
            with Guests(bench.drive, seed=5) as guests:
                await bench.do(
                    "block-commit",
                    job_id="j",
                    device="d0",
                    base=str(tmp_path / f"{base}.qcow2"),
                    speed=8 * MIB,
                )
                assert (await bench.ready()).status == "ready"
                await guests.busy()
                await bench.do(f"block-job-{verb}", device="j")
                await bench.ended()
                await guests.busy()
            assert bench.drive.node is not None
            name = f"{base if verb == 'complete' else 'top'}.qcow2"
            assert bench.drive.node.filename == str(tmp_path / name)

    run(main())
    ((top_showed, base_held),) = bench.ends
    assert top_showed == base_held
    for name in ("low", "mid", "top"):
        tools.run("qemu-img", "check", "-q", tmp_path / f"{name}.qcow2")


def test_a_commit_of_the_middle_changes_nothing_above(tmp_path: Path, bench: Bench) -> None:
    """The base grows, zeroes hide what was in it, and it is read-only again in the end."""
    top = make_chain(tmp_path)
    before = tmp_path / "before.raw"
    tools.run("qemu-img", "convert", "-O", "raw", top, before)

    async def main() -> None:
        await bench.open(top, "qcow2")
        async with shut(bench.engine):
            await bench.do(
                "block-commit", job_id="j", device="d0", top=str(tmp_path / "mid.qcow2"), speed=MIB
            )
            nodes = {node.filename: node for node in bench.engine.graph.nodes.values()}
            low = next(n for n in bench.engine.graph.nodes["disk"].chain() if n.backing is None)
            assert not low.read_only
            await bench.do("block-job-set-speed", device="j", speed=0)
            await bench.ended()
            assert low.read_only
            assert low.length() == SIZE
            assert bench.engine.graph.nodes["disk"].backing is low
            assert nodes

    run(main())
    assert [Path(image["filename"]).name for image in chain(top)] == ["top.qcow2", "low.qcow2"]
    tools.run("qemu-img", "compare", "-F", "raw", top, before)
    for name in ("low", "top"):
        tools.run("qemu-img", "check", "-q", tmp_path / f"{name}.qcow2")


def test_commit_waits_and_empties_the_image(tmp_path: Path, bench: Bench) -> None:
    """HMP's commit."""
    top = make_chain(tmp_path)
    before = tmp_path / "before.raw"
    tools.run("qemu-img", "convert", "-O", "raw", top, before)

    async def main() -> None:
        await bench.open(top, "qcow2")
        async with shut(bench.engine):
            await bench.do("x-blkmon-commit", device="d0")

    run(main())
    tools.run("qemu-img", "compare", "-F", "raw", top, before)
    tools.run("qemu-img", "compare", "-F", "raw", tmp_path / "mid.qcow2", before)
    held = json.loads(tools.run("qemu-img", "map", "--output=json", top))
    assert all(run["depth"] > 0 or not run["present"] for run in held)
    for name in ("mid", "top"):
        tools.run("qemu-img", "check", "-q", tmp_path / f"{name}.qcow2")
