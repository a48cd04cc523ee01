"""``wait``: until jobs have ended, and what became of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from monitor.commands.errors import JobFailed, JobStandsStill, WaitTimedOut
from monitor.commands.outcomes import CANCELLED, Outcomes, Result, outcomes_of, standing
from monitor.commands.registry import Answer, Session, command
from monitor.engine.errors import JobNotActive

if TYPE_CHECKING:
    import asyncio

    from monitor.engine.api import Engine, JobSnapshot

ALL = "all"


class End(msgspec.Struct, frozen=True):
    """How far a job came: ``result`` is that of ``outcomes.Outcome``, or the status in which the
    job waits for a verb: ready, pending, paused."""

    job: str
    result: str
    error: str | None = None

    @property
    def line(self) -> str:
        if self.result == "failed":
            return JobFailed(self.job, self.error or "").text
        return f"Job '{self.job}' {_WORDS.get(self.result) or standing(self.job, self.result)}"


_WORDS = {"completed": "completed", "cancelled": "was cancelled"}


@command(
    "wait",
    "jobs:J(all)*,timeout:--timeout=T",
    help="wait until jobs have ended",
    params="[job... | all] [--timeout seconds]",
    hmp=False,
    details="Without a name, for all jobs; those that ended while nobody waited are told of, too.\n"
    "A job that is ready or pending is not waited for any longer, since it takes a verb to\n"
    "end it. A failed job is an error (a script ends with status 4); so is a timeout, which\n"
    "leaves the job running, and a paused job.",
    example="wait d0 --timeout 60",
    arguments_help={"timeout": "seconds, or with a unit: 500ms"},
)
async def wait(session: Session, jobs: list[str], timeout: float | None) -> Answer:
    outcomes = outcomes_of(session.engine)
    names = _all(session.engine, outcomes) if not jobs or ALL in jobs else list(dict.fromkeys(jobs))
    ends = await _ends(session, outcomes, names, timeout)
    bad = [end for end in ends if end.result in ("failed", "paused")]
    if bad:
        for end in ends:
            if end is not bad[0]:
                session.print(end.line)
        raise _error(bad[0])
    return Answer(
        [{"job": end.job, "result": end.result} for end in ends],
        lambda: "\n".join(end.line for end in ends),
    )


def _all(engine: Engine, outcomes: Outcomes) -> list[str]:
    """Every job, and those that ended while nobody waited, in the order in which they began."""
    ended = [outcome.job for outcome in outcomes.unclaimed()]
    names = dict.fromkeys([*ended, *(job.id for job in engine.jobs())])
    return sorted(names, key=outcomes.born)


def _error(end: End) -> JobFailed | JobStandsStill:
    if end.result == "failed":
        return JobFailed(end.job, end.error or "")
    return JobStandsStill(end.job)


async def _ends(
    session: Session, outcomes: Outcomes, names: list[str], timeout: float | None
) -> list[End]:
    """The end of each job. Raises WaitTimedOut, when it has told of those that did end, and
    JobNotActive."""
    import asyncio

    waiting = {n: asyncio.ensure_future(_end(session.engine, outcomes, n)) for n in names}
    if not waiting:
        return []
    try:
        await asyncio.wait(waiting.values(), timeout=timeout, return_when=asyncio.FIRST_EXCEPTION)
        _raise_first(waiting)
        late = [name for name, task in waiting.items() if not task.done()]
        ends = [task.result() for task in waiting.values() if task.done()]
        if late:
            for end in ends:
                session.print(end.line)
            raise WaitTimedOut(late[0], timeout or 0.0)
        return ends
    finally:
        for task in waiting.values():
            task.cancel()


def _raise_first(waiting: dict[str, asyncio.Task[End]]) -> None:
    for task in waiting.values():
        if task.done():
            task.result()


async def _end(engine: Engine, outcomes: Outcomes, name: str) -> End:
    try:
        snapshot = await engine.job_ended(name)
    except JobNotActive:
        if outcomes.of(name) is None:
            raise
        snapshot = None
    return _judge(outcomes, name, snapshot)


def _judge(outcomes: Outcomes, name: str, snapshot: JobSnapshot | None) -> End:
    """The end of a job from its last state, or from what was heard of it."""
    if snapshot is not None and snapshot.status in ("ready", "pending"):
        return End(name, snapshot.status)
    if snapshot is not None and snapshot.status in ("paused", "standby"):
        return End(name, "paused")
    outcome = outcomes.of(name)
    if outcome is None:  # no block job: only its error tells
        error = snapshot.error if snapshot is not None else None
        outcome = outcomes.record(name, _result(error), error)
    outcome.claimed = True
    return End(name, outcome.result, outcome.error)


def _result(error: str | None) -> Result:
    if error is None:
        return "completed"
    return "cancelled" if error == CANCELLED else "failed"
