"""block-stream at a speed, paused, cancelled, in drained sections."""

from __future__ import annotations

import asyncio
import os
import threading

from monitor.engine.clock import ManualClock
from monitor.engine.jobs.carrying import LIMITED_CHUNK as CHUNK
from monitor.engine.schema.job import (
    BlockJobCancel,
    BlockJobPause,
    BlockJobResume,
    BlockJobSetSpeed,
)
from tests.support.graphs import run
from tests.support.in_memory import MIB, until
from tests.support.layers import overlay, put
from tests.support.streams import Bench


def test_speed_is_kept_on_the_clock() -> None:
    async def main() -> None:
        bench = Bench()
        base = bench.layer("base", 4 * MIB)
        put(base, 0, b"b" * 4 * MIB)
        bench.layer("top", 4 * MIB, base)
        clock = bench.engine.clock
        assert isinstance(clock, ManualClock)
        copied: list[int] = []
        overlay(base).before = lambda operation, offset, _: (
            copied.append(offset) if operation == "read" else None
        )
        await bench.stream(speed=CHUNK)

        async def idle() -> None:
            job = bench.engine.job_table.find("s0")
            while job and not job._pausing.idle:
                await asyncio.sleep(0)

        await idle()
        for number in range(1, 4):
            assert bench.engine.jobs()[0].current == number * CHUNK
            clock.advance(1.0)
            await until(lambda n=number: bench.engine.jobs()[0].current > n * CHUNK)
            await idle()
        await bench.engine.execute(BlockJobSetSpeed(device="s0", speed=0))
        assert (await bench.engine.job_ended("s0")).current == 4 * MIB
        assert sorted(at // CHUNK for at in copied if at % CHUNK == 0) == [0, 1, 2, 3, 4, 6]

    run(main())


def test_a_throttled_job_pauses_and_cancels_at_once() -> None:
    """The clock stands still: the next piece would be due in two weeks."""

    async def main() -> None:
        bench = Bench()
        base = bench.layer("base", 4 * MIB)
        put(base, 0, b"b" * 4 * MIB)
        top = bench.layer("top", 4 * MIB, base)
        await bench.stream(speed=1)
        await until(lambda: bench.engine.jobs()[0].current == CHUNK)
        await bench.engine.execute(BlockJobPause(device="s0"))
        assert (await bench.engine.job_ended("s0")).status == "paused"
        await bench.engine.execute(BlockJobResume(device="s0"))
        await bench.engine.execute(BlockJobCancel(device="s0"))
        assert (await bench.engine.job_ended("s0")).status == "null"
        (cancelled,) = bench.named("BLOCK_JOB_CANCELLED")
        assert cancelled["offset"] == CHUNK
        assert overlay(top).contents() == b"b" * 4 * MIB
        assert top.backing is base
        assert not top.children["backing"].frozen

    run(main())


def test_a_paused_job_copies_nothing() -> None:
    async def main() -> None:
        bench = Bench()
        base = bench.layer("base", 16 * MIB, cluster=65_536)
        put(base, 0, b"b" * 16 * MIB)
        reads: list[int] = []
        asked = threading.Event()

        def count(operation: str, offset: int, length: int) -> None:
            if operation == "read":
                reads.append(offset)
                assert asked.wait(10)

        overlay(base).before = count
        bench.layer("top", 16 * MIB, base, cluster=65_536)
        await bench.stream()
        await until(lambda: bool(reads))
        await bench.engine.execute(BlockJobPause(device="s0"))
        asked.set()
        assert (await bench.engine.job_ended("s0")).status == "paused"
        stood, copied = bench.engine.jobs()[0].current, len(reads)
        assert stood < 16 * MIB
        for _ in range(100):
            await asyncio.sleep(0)
        assert (bench.engine.jobs()[0].current, len(reads)) == (stood, copied)
        await bench.engine.execute(BlockJobResume(device="s0"))
        assert (await bench.engine.job_ended("s0")).current == 16 * MIB

    run(main())


def test_paused_when_all_is_under_way() -> None:
    """The last pieces come back while the job comes to rest; nothing is left to take after it."""

    async def main() -> None:
        bench = Bench()
        base = bench.layer("base", 2 * MIB)
        put(base, 0, b"b" * 2 * MIB)
        reads: list[int] = []
        go_on = threading.Event()

        def hold(operation: str, offset: int, length: int) -> None:
            if operation == "read":
                reads.append(offset)
                go_on.wait(20)

        overlay(base).before = hold
        bench.layer("top", 2 * MIB, base)
        await bench.stream()
        await until(lambda: len(reads) == 2)  # both pieces of the disk
        await bench.engine.execute(BlockJobPause(device="s0"))
        go_on.set()
        assert (await bench.engine.job_ended("s0")).status == "paused"
        await bench.engine.execute(BlockJobResume(device="s0"))
        ended = await bench.engine.job_ended("s0")
        assert (ended.error, ended.current) == (None, 2 * MIB)

    run(main())


def test_drained_sections_while_it_streams() -> None:
    async def main() -> None:
        bench = Bench()
        _base, mid, top = bench.chain(8 * MIB)
        seen = overlay(top).contents()
        in_flight: list[int] = []
        drained = threading.Event()

        def watch(operation: str, offset: int, length: int) -> None:
            assert not drained.is_set(), "a request inside the drained section"
            in_flight.append(offset)

        overlay(mid).before = watch
        job = await bench.stream()
        while not job.run_is_over:
            async with bench.graph.drained(mid):
                drained.set()
                for _ in range(10):  # the threads may run, and must do nothing
                    await asyncio.to_thread(os.sched_yield)
                drained.clear()
            await asyncio.sleep(0)
        await job.settled()
        overlay(mid).before = None
        assert overlay(top).contents() == seen

    run(main())
