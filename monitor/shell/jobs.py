"""Background jobs as a script sees them: what waits for which, and the end of input."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from monitor.commands.outcomes import CANCELLED, outcomes_of
from monitor.engine.api import Engine, Event
from monitor.engine.errors import JobNotActive, RequestError

if TYPE_CHECKING:
    from monitor.language.parser import Invocation

_OVER = frozenset({"concluded", "null", "undefined"})

# What keeps a job from ending by itself, by its status.
_STUCK = {
    "running": "only block_job_cancel ends it",
    "ready": "only block_job_complete or block_job_cancel ends it",
    "standby": "only block_job_complete or block_job_cancel ends it",
    "pending": "only job-finalize ends it",
}
_LEFT_PAUSED = "it stood still{where}, and no command resumed it"


def tells_of(invocation: Invocation, event: Event) -> bool:
    """Whether a command that has run meanwhile says itself what ``event`` is about."""
    if event.name in ("JOB_STATUS_CHANGE", "BLOCK_JOB_PENDING"):
        return waited_for(invocation, str(event.data["id"]))
    # Of several jobs one may stop long before the waiting for the others ends.
    return (
        event.name == "BLOCK_JOB_ERROR"
        and invocation.name == "wait"
        and invocation.arguments.get("jobs") == [event.data["device"]]
    )


def waited_for(invocation: Invocation, job_id: str) -> bool:
    """Whether a command waits for the end of a job, and so is where its end is told."""
    if invocation.name == "step":
        named = [invocation.arguments.get("job")]
        return named == [None] or named[0] in ("all", job_id) or str(named[0]).isdecimal()
    if invocation.name != "wait":
        return False
    jobs = invocation.arguments.get("jobs")
    return not jobs or "all" in jobs or job_id in jobs


async def settle(engine: Engine, note: Callable[[str], None]) -> dict[str, str]:
    """Waits until no job is left running; {job: error} of those that failed and that no command
    has waited for.

    A job that cannot end without a command, when no more commands come, is cancelled, and ``note``
    is told so. One that stands still, by an error perhaps, has failed: its work is half done.
    """
    engine.go_by_steps(False)  # a recording ends here
    outcomes = outcomes_of(engine)
    cancelled: set[str] = set()
    paused: dict[str, str] = {}
    while running := [j for j in engine.jobs() if j.status not in _OVER and j.id not in cancelled]:
        for job in running:
            with contextlib.suppress(JobNotActive):  # it has ended, and dismissed itself
                ended = await engine.job_ended(job.id)
                if ended.status == "paused":
                    where = f" at a {ended.stopped}" if ended.stopped else ""
                    paused[job.id] = _LEFT_PAUSED.format(where=where)
                elif ended.status in _STUCK:
                    note(f"Job '{job.id}' is {ended.status}, {_STUCK[ended.status]}: cancelled")
                else:
                    continue
                cancelled.add(job.id)
                await _cancel(engine, job.id)
    failures = {outcome.job: str(outcome.error) for outcome in outcomes.unclaimed_failures()}
    for job in engine.jobs():  # those that are kept until someone dismisses them
        outcome = outcomes.of(job.id)
        if job.error and job.error != CANCELLED and not (outcome and outcome.claimed):
            failures.setdefault(job.id, job.error)
    return paused | failures


async def _cancel(engine: Engine, job_id: str) -> None:
    """Cancels a job for good and waits until it is gone; one that ends meanwhile is no mistake."""
    from monitor.engine.schema.job import JobCancel

    with contextlib.suppress(RequestError):
        await engine.execute(JobCancel(id=job_id))
        await engine.job_ended(job_id)
