"""``wait`` and ``step``: until jobs have ended, or got a little further; what became of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from monitor.commands.errors import BadCount, JobDoesNotEnd, JobFailed, JobStandsStill, WaitTimedOut
from monitor.commands.outcomes import CANCELLED, LEFT, Outcomes, Result, outcomes_of, standing
from monitor.commands.registry import Answer, Session, command
from monitor.commands.render import job_line
from monitor.engine.errors import JobNotActive

if TYPE_CHECKING:
    import asyncio

    from monitor.engine.api import Engine, JobSnapshot

ALL = "all"


class End(msgspec.Struct, frozen=True):
    """How far a job came: ``result`` is that of ``outcomes.Outcome``, or the status in which the
    job waits for a verb: ready, pending, paused, and running of one that has to be cancelled.
    ``error`` is why it failed or stands still; ``block`` and ``left`` are a ``JobSnapshot``'s."""

    job: str
    result: str
    error: str | None = None
    block: bool = True
    left: bool = False

    @property
    def line(self) -> str:
        if self.result == "failed":
            return JobFailed(self.job, self.error or "").text
        words = LEFT if self.left else _WORDS.get(self.result)
        return f"Job '{self.job}' {words or self.standing}"

    @property
    def standing(self) -> str:
        return standing(self.job, self.result, self.error, block=self.block)


_WORDS = {"completed": "completed", "cancelled": "was cancelled"}


@command(
    "wait",
    "jobs:J(all)*,timeout:--timeout=T",
    help="wait until jobs have ended",
    params="[job... | all] [--timeout seconds]",
    hmp=False,
    details="Without a name, for all jobs; those that ended while nobody waited are told of, too.\n"
    "A job that is ready or pending is not waited for any longer, since it takes a verb to\n"
    "end it, nor is a backup with sync=none, which goes on until it is cancelled. A failed\n"
    "job is an error (a script ends with status 4); so is a timeout, which leaves the job\n"
    "running, and a paused job.",
    example="wait d0 --timeout 60",
    arguments_help={"timeout": "the longest that is waited"},
    status="0  all have ended well, were cancelled, or wait for a verb\n"
    "1  the time is over, a job is paused, or there is no such job\n"
    "3  the line does not parse; of a script nothing ran\n"
    "4  a job failed",
)
async def wait(session: Session, jobs: list[str], timeout: float | None) -> Answer:
    outcomes = outcomes_of(session.engine)
    names = _all(session.engine, outcomes) if not jobs or ALL in jobs else list(dict.fromkeys(jobs))
    told = _told_by_others(session, jobs)
    ends = await _ends(session, outcomes, names, timeout, told)
    bad = [end for end in ends if end.result in ("failed", "paused")]
    lines = [end.line for end in ends if end.job not in told]
    if bad:
        _tell_others(session, lines, bad[0].line)
        raise _error(bad[0])
    return Answer(
        [{"job": end.job, "result": end.result} for end in ends],
        lambda: "\n".join(lines),
    )


def announced(session: Session, jobs: list[str]) -> bool:
    """Whether a ``wait`` for ``jobs`` leaves it to the front end to tell of each end. A prompt does
    when it comes, and of several jobs the first may end long before the last."""
    at_once = session.interactive and session.settings.tells("JOB_STATUS_CHANGE")
    return at_once and not session.engine.by_steps and (len(jobs) != 1 or ALL in jobs)


_STANDS = frozenset({"ready", "standby", "paused", "pending", "concluded"})


def _told_by_others(session: Session, jobs: list[str]) -> frozenset[str]:
    """The jobs of which ``wait`` need not tell: they move yet."""
    if not announced(session, jobs):
        return frozenset()
    live = session.engine.jobs()
    return frozenset(job.id for job in live if job.status not in _STANDS and not job.endless)


def _all(engine: Engine, outcomes: Outcomes) -> list[str]:
    """Every job, and those that ended while nobody waited, in the order in which they began."""
    ended = [outcome.job for outcome in outcomes.unclaimed()]
    names = dict.fromkeys([*ended, *(job.id for job in engine.jobs())])
    return sorted(names, key=outcomes.born)


def _error(end: End) -> JobFailed | JobStandsStill:
    if end.result == "failed":
        return JobFailed(end.job, end.error or "")
    return JobStandsStill(end.job, end.standing)


async def _ends(
    session: Session,
    outcomes: Outcomes,
    names: list[str],
    timeout: float | None,
    told: frozenset[str],
) -> list[End]:
    """The end of each job. Raises JobNotActive and, when those that did end have been told of,
    WaitTimedOut or JobDoesNotEnd."""
    import asyncio

    engine = session.engine
    waiting = {n: asyncio.ensure_future(_end(engine, outcomes, n)) for n in names}
    if not waiting:
        return []
    try:
        if engine.by_steps:
            await asyncio.wait(waiting.values(), timeout=0)  # which names are none
            _raise_first(waiting)
            await engine.go_on(names, timeout)
        await asyncio.wait(
            waiting.values(),
            timeout=0 if engine.by_steps else timeout,
            return_when=asyncio.FIRST_EXCEPTION,
        )
        _raise_first(waiting)
        late = [name for name, task in waiting.items() if not task.done()]
        ends = [task.result() for task in waiting.values() if task.done()]
        if late:
            for end in ends:
                if end.job not in told:
                    session.print(end.line)
            raise JobDoesNotEnd(late[0]) if timeout is None else WaitTimedOut(late[0], timeout)
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
    if snapshot is not None and snapshot.status in ("ready", "pending", "running"):
        return End(name, snapshot.status)
    if snapshot is not None and snapshot.status in ("paused", "standby"):
        return End(name, "paused", snapshot.stopped, snapshot.block)
    outcome = outcomes.of(name)
    if outcome is None:  # no block job: only its error tells
        error = snapshot.error if snapshot is not None else None
        outcome = outcomes.record(name, _result(error), error)
    outcome.claimed = True
    return End(name, outcome.result, outcome.error, left=outcome.left)


def _result(error: str | None) -> Result:
    if error is None:
        return "completed"
    return "cancelled" if error == CANCELLED else "failed"


@command(
    "step",
    "job:J(all)?,count:i?",
    help="wait until jobs have got a little further",
    params="[job | all] [count]",
    hmp=False,
    details="One step is a piece of progress, or a change of status. In a recording and in its\n"
    "replay jobs go on in `wait` and `step` only, so that what they have done by then is\n"
    "the same each time. Without a name each job makes its steps in turn.",
    example="step d0 2",
    arguments_help={"count": "how many steps; one when it is left out"},
)
async def step(session: Session, job: str | None, count: int | None) -> Answer:
    if job is not None and count is None and job.isdecimal():  # no name of a job begins like that
        count, job = int(job), None
    if count is not None and count < 1:
        raise BadCount(count)
    names = [each.id for each in session.engine.jobs()] if job in (None, ALL) else [str(job)]
    last: dict[str, JobSnapshot] = {}
    for _ in range(count or 1):
        for name in names:
            if name not in last or last[name].status != "null":
                last[name] = await session.engine.step(name)
    lines = [_stand(session, snapshot) for snapshot in last.values()]
    failed = [line for line in lines if isinstance(line, JobFailed)]
    if failed:
        _tell_others(session, [str(line) for line in lines], str(failed[0]))
        raise failed[0]
    return Answer([_figures(at) for at in last.values()], lambda: "\n".join(map(str, lines)))


def _figures(at: JobSnapshot) -> dict[str, Any]:
    return {"job": at.id, "status": at.status, "current": at.current, "total": at.total}


def _stand(session: Session, snapshot: JobSnapshot) -> str | JobFailed:
    """How far a job is, or how it ended."""
    if snapshot.status not in ("concluded", "null"):
        at = snapshot
        return job_line(at.id, at.type, at.status, at.current, at.total, at.error or at.stopped)
    end = _judge(outcomes_of(session.engine), snapshot.id, snapshot)
    return JobFailed(end.job, end.error or "") if end.result == "failed" else end.line


def _tell_others(session: Session, lines: list[str], one: str) -> None:
    """What else there is to say, before the error that says ``one``."""
    for line in lines:
        if line != one:
            session.print(line)
