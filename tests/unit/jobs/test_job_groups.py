"""Jobs that end together, and the end of all jobs."""

from __future__ import annotations

import asyncio
import errno

import pytest

from monitor.engine.jobs.group import JobGroup
from monitor.engine.jobs.state import Status
from tests.support.graphs import run
from tests.support.toys import CANCELLED, WELL, Bench, Gate, Toy


def grouped(bench: Bench, *jobs: Toy) -> None:
    group = JobGroup(bench.jobs)
    for job in jobs:
        group.add(job)


def test_a_group_ends_together() -> None:
    async def main() -> None:
        bench = Bench()
        gate = Gate()
        one, two = bench.toy("one"), bench.toy("two", gate)
        grouped(bench, one, two)
        one.start()
        two.start()
        await bench.until(one, Status.WAITING)
        gate.open.set()
        await one.settled()
        await two.settled()
        assert bench.told(one) == bench.told(two) == WELL
        assert one.calls == two.calls == ["run", "change_graph", "prepare", "commit", "clean"]

    run(main())


@pytest.mark.parametrize("step", ["run", "prepare"])
def test_one_failure_aborts_the_group(step: str) -> None:
    async def main() -> None:
        bench = Bench()
        one, two, gate = bench.toy("one"), bench.toy("two"), Gate()
        two.steps = (gate,)
        grouped(bench, one, two)
        one.start()
        two.start()
        two.failing[step] = OSError(errno.EIO, "?")
        gate.open.set()
        await one.settled()
        await two.settled()
        assert bench.told(one)[-4:] == CANCELLED
        assert bench.told(two)[-4:] == ["aborting", "BLOCK_JOB_COMPLETED", "concluded", "null"]
        assert "commit" not in one.calls + two.calls
        assert one.calls[-2:] == two.calls[-2:] == ["abort", "clean"]

    run(main())


def test_one_cancel_cancels_the_group() -> None:
    async def main() -> None:
        bench = Bench()
        gate = Gate()
        one, two = bench.toy("one"), bench.toy("two", gate, lambda: None)
        grouped(bench, one, two)
        one.start()
        two.start()
        await gate.wait()
        await bench.until(one, Status.WAITING)
        one.user_cancel(force=True)
        assert one.status is Status.WAITING  # the other is still at work
        gate.open.set()
        await one.settled()
        await two.settled()
        assert bench.told(one)[-4:] == bench.told(two)[-4:] == CANCELLED

    run(main())


def test_one_finalize_is_enough_for_the_group() -> None:
    async def main() -> None:
        bench = Bench()
        one, two = bench.toy("one", auto_finalize=False), bench.toy("two")
        grouped(bench, one, two)
        one.start()
        two.start()
        assert (await bench.jobs.ended("two")).status == "pending"
        await two.group.finalize()
        assert bench.told(two) == WELL
        assert one.status is Status.NULL

    run(main())


def test_cancel_all_ends_everything() -> None:
    async def main() -> None:
        bench = Bench()
        gate = Gate()
        running = bench.toy("running", gate, lambda: None)
        bench.toy("paused", lambda: None)
        bench.toy("pending", auto_finalize=False)
        bench.toy("concluded", auto_dismiss=False)
        bench.toy("created")
        for name in ("running", "paused", "pending", "concluded"):
            job = bench.jobs.find(name)
            assert job
            job.start()
            if name == "paused":
                job.user_pause()
        for name in ("paused", "pending", "concluded"):
            await bench.jobs.ended(name)
        end = asyncio.ensure_future(bench.jobs.cancel_all())
        await gate.wait()
        while not running.force_cancelled:  # its turn is the last
            await asyncio.sleep(0)
        assert not end.done()
        gate.open.set()
        await end
        assert bench.jobs.visible() == []
        assert bench.told(running)[-4:] == CANCELLED

    run(main())
