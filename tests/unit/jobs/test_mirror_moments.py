"""Mirrors whose guest writes at a moment of the test's choice: between two steps of the job's."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from monitor.engine.clock import HostClock
from monitor.engine.drivers.memory import MemoryDriver
from monitor.engine.jobs import mirroring
from monitor.engine.jobs.converging import Converging
from monitor.engine.jobs.copying import Piece
from monitor.engine.jobs.mirror import MirrorJob
from tests.support.bench import Bench
from tests.support.graphs import add, run
from tests.support.in_memory import BadPlace

MIB = 1 << 20
SIZE = 4 * MIB
GUEST = b"guest" * 1000


@asynccontextmanager
async def disk(source: MemoryDriver, target: MemoryDriver) -> AsyncIterator[Bench]:
    bench = Bench()
    add(bench.engine.graph, "disk", source)
    add(bench.engine.graph, "target", target)
    bench.use("disk")
    try:
        yield bench
    finally:
        await bench.engine.shut_down()


def begin(bench: Bench, **options: Any) -> Any:
    given = {"job_id": "j", "device": "d0", "target": "target", "sync": "full", **options}
    return bench.do("blockdev-mirror", **given)


def guest_writes(bench: Bench, offset: int) -> None:
    """In a thread, and a lane, of its own."""

    def write() -> None:
        lane = bench.drive.lane()
        with lane:
            bench.drive.roots[0].write(memoryview(GUEST), offset)
        bench.drive.drop_lane(lane)

    guest = threading.Thread(target=write)
    guest.start()
    guest.join(20)
    assert not guest.is_alive()


def before_work(
    monkeypatch: pytest.MonkeyPatch, wanted: Callable[[Piece], bool], act: Callable[[], None]
) -> threading.Event:
    """``act`` once, before work on a ``wanted`` piece that has been planned; then it is set."""
    work, acted = Converging.work, threading.Event()

    def worked(plan: Converging, piece: Piece, buffer: memoryview) -> None:
        if wanted(piece) and not acted.is_set():
            acted.set()
            act()
        work(plan, piece, buffer)

    monkeypatch.setattr(Converging, "work", worked)
    return acted


@pytest.mark.parametrize("mode", ["background", "write-blocking"])
def test_a_write_into_what_was_seen_as_zeroes(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """The write has reached both sides, and is clean: the zeroes must not come after it."""

    async def main() -> None:
        source, target = MemoryDriver(SIZE), MemoryDriver(data=b"t" * SIZE)
        async with disk(source, target) as bench:
            node = bench.engine.graph.nodes["target"]
            node.flags = msgspec.structs.replace(
                node.flags, unmap=False
            )  # so that zeroes are written
            acted = before_work(
                monkeypatch, lambda piece: piece.zero, lambda: guest_writes(bench, MIB)
            )
            await begin(bench, copy_mode=mode)
            assert (await bench.engine.job_ended("j")).status == "ready"
            assert acted.is_set()
            await bench.do("block-job-complete", device="j")
            await bench.ended()
        wanted = bytes(MIB) + GUEST + bytes(3 * MIB - len(GUEST))
        assert source.contents() == wanted
        assert target.contents() == wanted

    run(main())


def test_ready_is_told_when_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A write behind the first pass is the next one's."""
    become_ready, ready = MirrorJob.become_ready, []

    async def main() -> None:
        source, target = MemoryDriver(data=b"s" * SIZE), MemoryDriver(SIZE)
        async with disk(source, target) as bench:

            def noted(job: MirrorJob) -> None:
                ready.append(target.contents() == source.contents())
                become_ready(job)

            monkeypatch.setattr(MirrorJob, "become_ready", noted)
            acted = before_work(
                monkeypatch, lambda piece: piece.offset >= 2 * MIB, lambda: guest_writes(bench, 0)
            )
            await begin(bench)
            assert (await bench.engine.job_ended("j")).status == "ready"
            assert acted.is_set()
            await bench.do("block-job-complete", device="j")
            await bench.ended()
        assert target.contents() == source.contents()

    run(main())
    assert ready == [True]


def test_it_is_not_ready_while_what_fails_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirroring, "SLICE", 0.0)
    place = BadPlace("write", MIB, errno.EIO)

    async def main() -> None:
        source = MemoryDriver(data=b"s" * SIZE)
        target = MemoryDriver(SIZE, before=place)
        async with disk(source, target) as bench:
            await begin(bench, on_target_error="ignore")
            while len(bench.named("BLOCK_JOB_ERROR")) < 2 * mirroring.MANY_PASSES:
                await asyncio.sleep(0)
            assert not bench.named("BLOCK_JOB_READY")
            place.mended = True
            assert (await bench.engine.job_ended("j")).status == "ready"
            assert target.contents() == source.contents()

    run(main())


@pytest.mark.parametrize("ending", ["finalize", "cancel"])
def test_it_keeps_up_while_it_waits_to_be_finalized(
    monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """At its speed; the end does not wait for that."""
    slowed, wait = threading.Event(), HostClock.wait

    def noted(clock: HostClock, event: threading.Event, seconds: float) -> bool:
        if seconds > 1000:
            slowed.set()
        return wait(clock, event, seconds)

    monkeypatch.setattr(HostClock, "wait", noted)

    async def main() -> None:
        source, target = MemoryDriver(data=b"s" * SIZE), MemoryDriver(SIZE)
        async with disk(source, target) as bench:
            await begin(bench, auto_finalize=False)
            assert (await bench.engine.job_ended("j")).status == "ready"
            await bench.do("block-job-complete", device="j")
            assert (await bench.engine.job_ended("j")).status == "pending"
            guest_writes(bench, 0)
            while target.contents() != source.contents():
                await asyncio.sleep(0)
            await bench.do("job-cancel", id="j")
            await bench.ended()

            await begin(bench, auto_finalize=False)
            assert (await bench.engine.job_ended("j")).status == "ready"
            await bench.do("block-job-set-speed", device="j", speed=1)
            await bench.do("block-job-complete", device="j")
            assert (await bench.engine.job_ended("j")).status == "pending"
            guest_writes(bench, MIB)
            assert await asyncio.to_thread(slowed.wait, 20)
            assert target.contents() == source.contents()
            guest_writes(bench, 2 * MIB)  # which is for after the wait
            await bench.do(f"job-{ending}", id="j")
            await bench.ended()
            assert (target.contents() == source.contents()) == (ending == "finalize")

    run(main())
