"""How jobs ended, remembered for whoever asks afterwards.

A job that dismisses itself is gone from the engine before a script can wait for it, and with it
what became of it. An ``Outcomes`` listens from the session's start and keeps the last word on each
job until a job of the same name begins.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal
from weakref import WeakKeyDictionary

from monitor.engine.api import Engine, Event

Result = Literal["completed", "cancelled", "failed"]

CANCELLED = "Operation canceled"
"""The error of a job without events of its own (create) that someone cancelled."""

MAX_KEPT = 1000


@dataclass
class Outcome:
    """``claimed`` once someone waited for the job and was told."""

    job: str
    result: Result
    error: str | None = None
    claimed: bool = False


class Outcomes:
    """The ends of an engine's jobs; at most ``MAX_KEPT`` of them, the newest."""

    def __init__(self, engine: Engine) -> None:
        self._outcomes: dict[str, Outcome] = {}
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
        outcome = Outcome(job, result, error)
        self._outcomes.pop(job, None)
        self._outcomes[job] = outcome
        if len(self._outcomes) > MAX_KEPT:
            del self._outcomes[next(iter(self._outcomes))]
        return outcome

    def unclaimed_failures(self) -> Iterable[Outcome]:
        """Jobs that failed and that nobody was told of by ``wait``, oldest first."""
        return [o for o in self._outcomes.values() if o.result == "failed" and not o.claimed]

    def _on_event(self, event: Event) -> None:
        handler = self._handlers.get(event.name)
        if handler is not None:
            handler(event)

    def _on_status(self, event: Event) -> None:
        if event.data["status"] == "created":
            self._outcomes.pop(str(event.data["id"]), None)

    def _on_completed(self, event: Event) -> None:
        error = event.data.get("error")
        self.record(str(event.data["device"]), "failed" if error else "completed", error)

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
