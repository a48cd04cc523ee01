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


def test_a_verb_on_one_that_has_concluded_while_the_other_concludes() -> None:
    """Dismissing it waits for the other, and asking again and again would leave that no time."""

    async def main() -> None:
        bench = Bench()
        one, two = bench.toy("one", auto_dismiss=False), bench.toy("two", auto_dismiss=False)
        grouped(bench, two, one)
        cleaning, go_on = asyncio.Event(), asyncio.Event()

        async def slowly() -> None:
            cleaning.set()
            await go_on.wait()

        two.clean = slowly  # type: ignore[method-assign]
        one.start()
        two.start()
        await cleaning.wait()
        assert (one.status, two.status) == (Status.CONCLUDED, Status.PENDING)
        asked = 0

        async def settled() -> None:
            nonlocal asked
            asked += 1
            assert asked < 10

        one.settled = settled  # type: ignore[method-assign]
        assert await bench.jobs.find_at_rest("one") is one
        dismissed = asyncio.ensure_future(bench.jobs.dismiss(one))
        go_on.set()
        await dismissed
        assert bench.jobs.visible() == [two]

    run(main())


@pytest.mark.parametrize("step", ["commit", "abort", "clean"])
def test_a_bug_in_the_last_steps_keeps_nobody_from_ending(step: str) -> None:
    """The step is made for the other job, and both are told to be over; the turn is free."""

    async def main() -> None:
        bench = Bench()
        one, two = bench.toy("one", auto_dismiss=False), bench.toy("two", auto_dismiss=False)
        grouped(bench, two, one)
        one.failing[step] = IndexError()
        if step == "abort":
            two.failing["run"] = OSError(errno.EIO, "?")
        one.start()
        two.start()
        await one.settled()
        await two.settled()
        assert step in two.calls
        assert bench.told(one)[-1] == bench.told(two)[-1] == "concluded"
        assert one.error_text == "Operation canceled" or str(one.error_text).startswith("internal")
        assert two.error_text == ("Input/output error" if step == "abort" else None)
        assert one.calls[-1] == two.calls[-1] == "clean"
        await bench.jobs.dismiss(one)
        await bench.jobs.dismiss(two)

    run(main())


def test_who_asked_for_the_end_may_give_up_waiting() -> None:
    """Ctrl-C at the prompt: the end goes on, with all of its steps."""

    async def main() -> None:
        bench = Bench()
        gate = Gate()
        job = bench.toy("j0", auto_finalize=False)
        job.prepare = gate  # type: ignore[method-assign]
        job.start()
        await bench.until(job, Status.PENDING)
        asking = asyncio.ensure_future(job.group.finalize())
        await gate.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        gate.open.set()
        await job.settled()
        assert bench.told(job)[-1] == "null"
        assert job.calls[-2:] == ["commit", "clean"]

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
