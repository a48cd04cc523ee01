"""Mirrors beside guests that write: handed on at once, or copied later, to the last moment."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from monitor.engine import permissions
from monitor.engine.graph.client import Client
from monitor.engine.graph.edit import PermissionConflict
from monitor.engine.jobs import mirroring
from monitor.engine.jobs.converging import Converging
from monitor.engine.jobs.copying import Piece
from monitor.engine.jobs.mirror import MirrorJob
from tests.support import tools
from tests.support.bench import Bench
from tests.support.graphs import run
from tests.support.guests import contents
from tests.support.mirrors import disk, graph, guest_writes, mirror, target

MIB = 1 << 20


def test_nobody_writes_past_a_mirror_that_holds_writes_up(tmp_path: Path) -> None:
    """In the background a write to the node itself is noticed; with write-blocking, refused."""

    async def main() -> None:
        async with disk(tmp_path / "disk", bytes(MIB)) as bench:
            await target(bench, tmp_path / "copy", MIB)
            node, other = bench.engine.graph.nodes["disk"], Client("other")
            await mirror(bench, copy_mode="write-blocking")
            with pytest.raises(PermissionConflict):
                bench.engine.graph.add_client(other, node, permissions.WRITE, permissions.ALL)
            await bench.do("job-cancel", id="j")
            await bench.ended()
            await mirror(bench)
            assert (await bench.engine.job_ended("j")).status == "ready"
            root = bench.engine.graph.add_client(other, node, permissions.WRITE, permissions.ALL)

            def write() -> None:
                lane = other.lane()
                with lane:
                    root.write(memoryview(b"behind"), 70_000)
                other.drop_lane(lane)

            await asyncio.to_thread(write)
            await bench.engine.graph.remove_client(other)
            await bench.do("job-complete", id="j")
            await bench.ended()

    run(main())
    assert (tmp_path / "copy").read_bytes()[70_000:70_006] == b"behind"


def test_a_write_reaches_a_target_opened_without_its_image_below(tmp_path: Path) -> None:
    """With write-blocking it does at once, in parts of clusters too: all of the disk is there."""
    tools.need("qemu-img")
    create = ("qemu-img", "create", "-q", "-f", "qcow2")
    tools.run(*create, tmp_path / "base", "1M")
    tools.run(*create, "-b", tmp_path / "base", "-F", "qcow2", tmp_path / "copy")
    data = b"z" * MIB

    async def main() -> None:
        async with disk(tmp_path / "disk", data) as bench:
            file = {"driver": "file", "filename": str(tmp_path / "copy")}
            await bench.do(
                "blockdev-add", node_name="target", driver="qcow2", file=file, backing=None
            )
            await mirror(bench, copy_mode="write-blocking")
            assert (await bench.engine.job_ended("j")).status == "ready"
            with bench.drive.lane():
                bench.drive.roots[0].write(memoryview(b"q" * 70_000), 77)
            assert contents(bench.engine.graph.nodes["target"])[77:70_077] == b"q" * 70_000
            await bench.do("job-cancel", id="j")
            await bench.ended()

    run(main())


@pytest.mark.parametrize("mode", ["background", "write-blocking"])
def test_what_is_written_while_it_waits_is_copied_before_guests_are_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """It may wait long to be finalized: all that was left to the end, which nobody could bound."""
    left: list[tuple[int, bool]] = []
    bench: Bench

    def noted(work: Callable[[Any], None]) -> Callable[[Any], None]:
        def prepare(job: MirrorJob) -> None:
            left.append((job._bitmap.count, bool(bench.drive.closed)))
            work(job)

        return prepare

    async def main() -> None:
        nonlocal bench
        async with disk(tmp_path / "disk", b"x" * 4 * MIB) as bench:
            await target(bench, tmp_path / "copy", 4 * MIB)
            await mirror(bench, auto_finalize=False, copy_mode=mode)
            assert (await bench.engine.job_ended("j")).status == "ready"
            await bench.do("block-job-complete", device="j")
            job = bench.engine.job_table.find("j")
            assert job is not None
            while job.status != "pending":
                await job.changed()
            before = job.progress.total
            for offset in range(0, 4 * MIB, 128 << 10):
                await asyncio.to_thread(guest_writes, bench, offset)
            await bench.do("job-finalize", id="j")
            await bench.ended()
            (ended,) = bench.named("BLOCK_JOB_COMPLETED")
            copied = 32 * 65536 if mode == "background" else 32 * 500
            assert ended["len"] == ended["offset"] == before + copied

    monkeypatch.setattr(mirroring, "LAST", MIB)
    monkeypatch.setattr(MirrorJob, "prepare", noted(MirrorJob.prepare))
    run(main())
    assert left == [(0, True)]
    data = (tmp_path / "copy").read_bytes()
    assert data == (tmp_path / "disk").read_bytes()
    assert data.count(b"guest" * 100) == 32


def test_what_is_written_at_the_last_moment_is_counted(tmp_path: Path) -> None:
    async def main() -> None:
        async with disk(tmp_path / "disk", b"x" * MIB) as bench:
            await target(bench, tmp_path / "copy", MIB)
            await mirror(bench, auto_finalize=False)
            assert (await bench.engine.job_ended("j")).status == "ready"
            await bench.do("block-job-complete", device="j")
            assert (await bench.engine.job_ended("j")).status == "pending"
            await asyncio.to_thread(guest_writes, bench, 0)
            await bench.do("job-finalize", id="j")
            await bench.ended()
            (ended,) = bench.named("BLOCK_JOB_COMPLETED")
            assert ended["len"] == ended["offset"] == MIB + 65536

    run(main())
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "disk").read_bytes()


@pytest.mark.parametrize("left", [0, MIB])
def test_a_target_that_fails_while_it_waits_fails_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    """Whatever the policy: nobody could resume it any more."""

    async def main() -> None:
        async with disk(tmp_path / "disk", bytes(MIB)) as bench:
            await target(bench, tmp_path / "copy", MIB, **REFUSED)
            await mirror(bench, auto_finalize=False, on_target_error="stop")
            assert (await bench.engine.job_ended("j")).status == "ready"
            await bench.do("block-job-complete", device="j")
            assert (await bench.engine.job_ended("j")).status == "pending"
            await asyncio.to_thread(guest_writes, bench, 200 * 512)
            await bench.do("job-finalize", id="j")
            await bench.ended()
            (ended,) = bench.named("BLOCK_JOB_COMPLETED")
            assert ended["error"] == "Input/output error"
            assert bench.drive.node is not None
            assert bench.drive.node.name == "disk"

    monkeypatch.setattr(mirroring, "LAST", left)
    run(main())


def test_a_request_refused_in_the_last_pass_fails_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pass is given up then, and what it has not come to is marked nowhere any more."""
    work, passed = Converging.work, threading.Event()

    async def main() -> None:
        async with disk(tmp_path / "disk", b"d" * 3 * MIB) as bench:
            await target(bench, tmp_path / "copy", 3 * MIB, **REFUSED)
            await mirror(bench, auto_finalize=False, copy_mode="write-blocking")
            assert (await bench.engine.job_ended("j")).status == "ready"
            await bench.do("block-job-complete", device="j")
            assert (await bench.engine.job_ended("j")).status == "pending"

            def refused(plan: Converging, piece: Piece, buffer: memoryview) -> None:
                work(plan, piece, buffer)
                if not passed.is_set():
                    passed.set()
                    guest = threading.Thread(target=guest_writes, args=(bench, 200 * 512))
                    guest.start()
                    guest.join()

            monkeypatch.setattr(Converging, "work", refused)
            job = bench.engine.job_table.find("j")
            assert isinstance(job, MirrorJob)
            job._bitmap.set(MIB, 2 * MIB)  # as a discard leaves it whose copying is the job's
            await bench.do("job-finalize", id="j")
            await bench.ended()
            (ended,) = bench.named("BLOCK_JOB_COMPLETED")
            assert ended["error"] == "Input/output error"

    monkeypatch.setattr(mirroring, "LAST", 0)
    monkeypatch.setattr(mirroring, "MANY_PASSES", 1)
    run(main())
    assert passed.is_set()


REFUSED = {
    "inject-error": [{"event": "flush_to_disk", "iotype": "write", "sector": 200, "once": True}]
}
"""The first write to a sector of the target's fails, once it has been flushed."""


@asynccontextmanager
async def ready_and_blocking(path: Path, policy: str) -> AsyncIterator[Bench]:
    """A mirror that is ready, in step, and whose target refuses the next write to sector 200."""
    async with disk(path / "disk", bytes(MIB)) as bench:
        await target(bench, path / "copy", MIB, **REFUSED)
        await mirror(bench, copy_mode="write-blocking", on_target_error=policy)
        assert (await bench.engine.job_ended("j")).status == "ready"
        yield bench


def test_a_target_that_refuses_what_is_handed_on_fails_the_job(tmp_path: Path) -> None:
    """And not the guest, which hears of nothing, nor is it told of twice."""

    async def main() -> None:
        async with ready_and_blocking(tmp_path, "report") as bench:
            for offset in (200 * 512, 300 * 512):
                await asyncio.to_thread(guest_writes, bench, offset)
            await bench.ended()
            assert bench.named("BLOCK_JOB_ERROR") == [
                {"device": "j", "operation": "write", "action": "report"}
            ]
            (ended,) = bench.named("BLOCK_JOB_COMPLETED")
            assert ended["error"] == "Input/output error"
            assert not any(driver == "mirror_top" for _, driver in graph(bench))

    run(main())
    assert (tmp_path / "disk").read_bytes().count(b"guest") == 200


def test_a_discard_that_the_disk_ignores_is_not_handed_on(tmp_path: Path) -> None:
    """It changes nothing: the whole range was read and copied nevertheless."""

    async def main() -> None:
        async with ready_and_blocking(tmp_path, "report") as bench:

            def discard() -> None:
                with bench.drive.lane():
                    bench.drive.roots[0].discard(0, MIB)

            await asyncio.to_thread(discard)
            await bench.do("block-job-complete", device="j")
            await bench.ended()
            assert not bench.named("BLOCK_JOB_ERROR")

    run(main())
    assert (tmp_path / "copy").read_bytes() == bytes(MIB)


@pytest.mark.parametrize("policy", ["stop", "ignore"])
def test_what_a_target_refused_is_copied_later(tmp_path: Path, policy: str) -> None:
    async def main() -> None:
        async with ready_and_blocking(tmp_path, policy) as bench:
            await asyncio.to_thread(guest_writes, bench, 200 * 512)
            if policy == "stop":
                job = bench.engine.job_table.find("j")
                assert job is not None
                while job.status != "standby":
                    await job.changed()
                (shown,) = await bench.do("query-block-jobs")
                assert shown.io_status == "failed"
                await asyncio.to_thread(guest_writes, bench, 300 * 512)
                assert (tmp_path / "copy").read_bytes().count(b"guest") == 100
                await bench.do("block-job-resume", device="j")
            await bench.do("block-job-complete", device="j")
            await bench.ended()
            assert bench.named("BLOCK_JOB_ERROR") == [
                {"device": "j", "operation": "write", "action": policy}
            ]

    run(main())
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "disk").read_bytes()
