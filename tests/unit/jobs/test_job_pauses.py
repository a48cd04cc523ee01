"""Jobs that are paused, cancelled, or told what their state does not allow."""

from __future__ import annotations

import asyncio

import pytest

from monitor.engine.jobs.errors import (
    JobAlreadyPaused,
    JobNotPaused,
)
from monitor.engine.jobs.state import Status, VerbRefused
from tests.support.graphs import add, run
from tests.support.toys import CANCELLED, WELL, Bench, Gate, Toy


def test_pausing_and_resuming() -> None:
    async def main() -> None:
        bench = Bench()
        gate, last = Gate(), Gate()
        job = bench.toy("j0", gate, last)
        job.start()
        await gate.wait()
        with pytest.raises(JobNotPaused):
            job.user_resume()
        job.user_pause()
        with pytest.raises(JobAlreadyPaused):
            job.user_pause()
        assert job.status is Status.RUNNING  # its thread has not reached a pause point
        assert job.paused
        assert job.busy
        gate.open.set()
        assert (await bench.jobs.ended("j0")).status == "paused"
        assert not job.busy
        assert "resume" in job.verbs()
        assert "pause" not in job.verbs()
        assert not last.reached.is_set()
        job.user_resume()
        assert job.status is Status.RUNNING
        last.open.set()
        await job.settled()
        assert bench.told(job) == ["created", "running", "paused", "running", *WELL[2:]]

    run(main())


def test_a_pause_that_ends_before_the_pause_point_is_no_pause() -> None:
    async def main() -> None:
        bench = Bench()
        gate = Gate()
        job = bench.toy("j0", gate, lambda: None)
        job.start()
        await gate.wait()
        job.user_pause()
        job.user_resume()
        gate.open.set()
        await job.settled()
        assert bench.told(job) == WELL

    run(main())


def test_a_late_word_about_an_old_pause_is_not_believed() -> None:
    async def main() -> None:
        bench = Bench()
        gate = Gate()
        job = bench.toy("j0", gate)
        job.start()
        await gate.wait()
        job.user_pause()
        seen = job._pausing.number
        job.user_resume()
        job.user_pause()
        job._parked(seen)  # it was about the first pause; the thread is in its step
        assert job.status is Status.RUNNING
        job.user_resume()
        gate.open.set()
        await job.settled()

    run(main())


def test_a_drained_section_pauses_and_the_user_does_too() -> None:
    async def main() -> None:
        bench = Bench()
        gate, second = Gate(), Gate()
        node = add(bench.graph, "n0")
        job = bench.toy("j0", gate, second)
        bench.graph.add_client(job, node, 0, 15, "main node")
        job.start()
        await gate.wait()
        async with bench.graph.drained(node):
            gate.open.set()
            await bench.until(job, Status.PAUSED)
            job.user_pause()
            assert not second.reached.is_set()
        assert job.status is Status.PAUSED  # the user's reason holds
        async with bench.graph.drained(node):
            job.user_resume()
            assert job.status is Status.PAUSED  # and now the section's
        assert job.status is Status.RUNNING
        second.open.set()
        await job.settled()

    run(main())


def test_cancelling_a_running_job() -> None:
    async def main() -> None:
        bench = Bench()
        gate, never = Gate(), Gate()
        job = bench.toy("j0", gate, never)
        job.start()
        await gate.wait()
        job.user_cancel(force=False)
        gate.open.set()
        await job.settled()
        assert not never.reached.is_set()
        assert bench.told(job) == ["created", "running", *CANCELLED]
        assert job.calls == ["abort", "clean"]
        assert job.error_text == "Operation canceled"

    run(main())


def test_cancelling_a_paused_job() -> None:
    async def main() -> None:
        bench = Bench()
        job = bench.toy("j0", lambda: None)
        job.start()
        job.user_pause()
        await bench.jobs.ended("j0")
        job.user_cancel(force=True)
        await job.settled()
        assert bench.told(job) == ["created", "running", "paused", "running", *CANCELLED]

    run(main())


def test_cancelling_a_pending_job() -> None:
    async def main() -> None:
        bench = Bench()
        job = bench.toy("j0", auto_finalize=False)
        job.start()
        await bench.jobs.ended("j0")
        job.user_cancel(force=False)
        await job.settled()
        assert bench.told(job) == [*WELL[:4], "BLOCK_JOB_PENDING", *CANCELLED]
        assert job.calls == ["run", "abort", "clean"]

    run(main())


def test_a_cancel_counts_until_the_turn_is_had() -> None:
    async def main() -> None:
        bench = Bench()
        job = bench.toy("j0")
        async with bench.graph.turn:
            job.start()
            await bench.until(job, Status.PENDING)
            job.user_cancel(force=True)
        await job.settled()
        assert bench.told(job) == [*WELL[:4], *CANCELLED]

    run(main())


def test_verbs_wait_for_an_end_under_way() -> None:
    async def main() -> None:
        bench = Bench()
        gate = Gate()
        job = bench.toy("j0")
        job.prepare = gate  # type: ignore[method-assign]
        job.start()
        await gate.wait()
        verb = asyncio.ensure_future(bench.jobs.find_at_rest("j0"))
        await asyncio.sleep(0)
        assert not verb.done()
        gate.open.set()
        assert await verb is None
        assert bench.told(job) == WELL

    run(main())


def test_a_job_cancelled_before_it_began() -> None:
    async def main() -> None:
        bench = Bench()
        job = bench.toy("j0")
        job.cancel(force=True)
        await job.settled()
        assert bench.told(job) == ["created", "aborting", "concluded", "null"]
        assert job.calls == ["abort", "clean"]

    run(main())


def test_a_sleeping_job_hears_everything_at_once() -> None:
    """The clock stands still throughout."""

    async def main() -> None:
        bench = Bench()
        job: Toy
        job = bench.toy("j0", lambda: job.sleep(job.limit.delay), lambda: job.sleep(lambda: 1e9))
        job.set_speed(1)
        job.limit.spend(1 << 30)
        job.start()
        job.user_pause()
        assert (await bench.jobs.ended("j0")).status == "paused"
        job.user_resume()
        job.set_speed(0)  # ends the first sleep
        job.user_cancel(force=False)
        await job.settled()
        assert bench.told(job)[-4:] == CANCELLED

    run(main())


def test_verbs_in_the_wrong_state_change_nothing() -> None:
    async def main() -> None:
        bench = Bench()
        job = bench.toy("j0", auto_finalize=False)
        job.start()
        await bench.jobs.ended("j0")
        told = bench.told(job)
        for verb in (job.user_pause, job.user_complete, lambda: job.set_speed(1)):
            with pytest.raises(VerbRefused):
                verb()
        assert bench.told(job) == told
        assert job.verbs() == {"cancel", "finalize"}
        await job.group.finalize()

    run(main())
