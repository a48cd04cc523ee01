"""Jobs that are ready, and wait to be completed."""

from __future__ import annotations

import pytest

from monitor.engine.jobs.errors import (
    CannotComplete,
)
from monitor.engine.jobs.state import Status, VerbRefused
from tests.support.graphs import run
from tests.support.toys import CANCELLED, WELL, Bench, ToyMirror


async def ready_job(bench: Bench) -> ToyMirror:
    job = bench.jobs.add(ToyMirror(bench, "j0"))
    with pytest.raises(VerbRefused, match="state 'created' cannot accept command verb 'complete'"):
        job.user_complete()
    job.start()
    assert (await bench.jobs.ended("j0")).status == "ready"
    return job


def test_ready_until_completed() -> None:
    async def main() -> None:
        bench = Bench()
        job = await ready_job(bench)
        assert "complete" in job.verbs()
        job.user_pause()
        await bench.until(job, Status.STANDBY)
        job.user_complete()  # it hears of it when it is resumed
        assert job.status is Status.STANDBY
        job.user_resume()
        await job.settled()
        assert bench.told(job) == [
            "created", "running", "ready", "BLOCK_JOB_READY", "standby", "ready", *WELL[2:],
        ]  # fmt: skip

    run(main())


def test_a_ready_job_may_end_well_when_it_is_cancelled() -> None:
    async def main() -> None:
        bench = Bench()
        job = await ready_job(bench)
        job.user_cancel(force=False)
        with pytest.raises(CannotComplete, match="The active block job 'j0' cannot be completed"):
            job.user_complete()
        await job.settled()
        assert bench.told(job)[-5:] == WELL[2:]

    run(main())


def test_a_ready_job_is_cancelled_by_force() -> None:
    async def main() -> None:
        bench = Bench()
        job = await ready_job(bench)
        job.user_cancel(force=True)
        await job.settled()
        assert bench.told(job)[-4:] == CANCELLED

    run(main())
