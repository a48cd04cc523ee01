"""What is said of jobs: how far one is, what it waits for, and how it ended, which is remembered
for whoever asks afterwards.

A job that dismisses itself is gone from the engine before a script can wait for it, and with it
what became of it. An ``Outcomes`` listens from the session's start and keeps the last word on each
job until a job of the same name begins.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal
from weakref import WeakKeyDictionary, ref

import msgspec

from monitor.engine.api import Engine, Event, JobSnapshot

Result = Literal["completed", "cancelled", "failed"]

LEFT = "completed: the copy is whole, and not put to use"
"""What is said of a job that was cancelled when it was ready."""

CANCELLED = "Operation canceled"
"""The error of a job without events of its own (create) that someone cancelled."""

MAX_KEPT = 1000

_NEXT = {
    "running": "block_job_cancel {job} ends it",
    "ready": "block_job_complete {job} finishes it",
    "standby": "{resume} lets it go on",
    "pending": "job-finalize id={job} lets it finish",
    "paused": "{resume} lets it go on",
}


def standing(job: str, status: str, stopped: str | None = None, *, block: bool = True) -> str:
    """What is said of a job that takes a verb to go on: its status (or the error at which it has
    ``stopped``), and the command for it."""
    resume = resuming(job, block)
    if stopped is not None:
        return f"stopped at a {stopped}; {resume} tries again"
    return f"is {status}: {_NEXT[status].format(job=job, resume=resume)}"


def resuming(job: str, block: bool = True) -> str:
    """The command that resumes a job: the human one knows block jobs only."""
    return f"block_job_resume {job}" if block else f"job-resume id={job}"


_AWAITED = {
    "ready": "complete",
    "standby": "resume",
    "paused": "resume",
    "pending": "finalize",
    "concluded": "dismiss",
}
"""The verb without which a job of this status does not go on, if it takes that verb: a pause may
be the engine's own, and passes."""


def awaited(job: JobSnapshot) -> str | None:
    """What the job waits for, in words: "complete"; None for a job that goes on by itself."""
    if job.status == "waiting":
        return "the other jobs of its group"
    if job.endless and job.status == "running":
        return "cancel"
    verb = _AWAITED.get(job.status)
    return verb if verb in job.verbs else None


class Outcome(msgspec.Struct):
    """``claimed`` once someone waited for the job and was told. ``born`` orders jobs by age.
    ``left`` is a ``JobSnapshot``'s."""

    job: str
    result: Result
    error: str | None = None
    left: bool = False
    claimed: bool = False
    born: int = 0


class Outcomes:
    """The ends of an engine's jobs; at most ``MAX_KEPT`` of them, the newest."""

    def __init__(self, engine: Engine) -> None:
        self._outcomes: dict[str, Outcome] = {}
        self._born: dict[str, int] = {}  # of the jobs that live
        self._births = 0
        self._engine = ref(engine)
        self._handlers = {
            "JOB_STATUS_CHANGE": self._on_status,
            "BLOCK_JOB_COMPLETED": self._on_completed,
            "BLOCK_JOB_CANCELLED": self._on_cancelled,
        }
        engine.subscribe(self._on_event)

    def of(self, job: str) -> Outcome | None:
        """What became of a job that has ended; None for an unknown one."""
        return self._outcomes.get(job)

    def record(self, job: str, result: Result, error: str | None = None) -> Outcome:
        outcome = Outcome(job, result, error, born=self.born(job))
        self._outcomes.pop(job, None)
        self._outcomes[job] = outcome
        if len(self._outcomes) > MAX_KEPT:
            del self._outcomes[next(iter(self._outcomes))]
        return outcome

    def born(self, job: str) -> int:
        """A number that is larger for jobs that began later."""
        ended = self._outcomes.get(job)
        return self._born.get(job, ended.born if ended is not None else 0)

    def unclaimed(self) -> list[Outcome]:
        """Jobs that have ended and that nobody was told of by ``wait``."""
        return [outcome for outcome in self._outcomes.values() if not outcome.claimed]

    def unclaimed_failures(self) -> Iterable[Outcome]:
        """Those of them that failed."""
        return [outcome for outcome in self.unclaimed() if outcome.result == "failed"]

    def _on_event(self, event: Event) -> None:
        handler = self._handlers.get(event.name)
        if handler is not None:
            handler(event)

    def _on_status(self, event: Event) -> None:
        job = str(event.data["id"])
        if event.data["status"] == "created":
            self._outcomes.pop(job, None)
            self._births += 1
            self._born[job] = self._births
        elif event.data["status"] == "null":
            self._born.pop(job, None)

    def _on_completed(self, event: Event) -> None:
        error = event.data.get("error")
        job, engine = str(event.data["device"]), self._engine()
        outcome = self.record(job, "failed" if error else "completed", error)
        outcome.left = engine is not None and any(j.left for j in engine.jobs() if j.id == job)

    def _on_cancelled(self, event: Event) -> None:
        self.record(str(event.data["device"]), "cancelled")


_OF_ENGINE: WeakKeyDictionary[Engine, Outcomes] = WeakKeyDictionary()


def outcomes_of(engine: Engine) -> Outcomes:
    """The engine's one ``Outcomes``. It knows jobs that end after the first call only: front ends
    make that call when their session begins."""
    outcomes = _OF_ENGINE.get(engine)
    if outcomes is None:
        outcomes = _OF_ENGINE[engine] = Outcomes(engine)
    return outcomes
