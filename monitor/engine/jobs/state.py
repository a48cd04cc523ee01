"""A job's life, as two tables. Everything that changes a job's status lives here.

    undefined -> created -> running <-> paused
                    |          |  \\
                    |          |   ready <-> standby
                    |          v     |
                    |       waiting <'            the run is over, others of its group are not
                    |          |
                    |       pending               all are over; the last changes may be made
                    v          v
                 aborting -> concluded -> null

Any status between created and pending, except the two pauses, may also turn into aborting. A job
that never started may go from created straight to null.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final

from monitor.engine.errors import InternalError, RequestError


class Status(StrEnum):
    """QMP's ``JobStatus``."""

    UNDEFINED = "undefined"
    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    READY = "ready"
    STANDBY = "standby"
    WAITING = "waiting"
    PENDING = "pending"
    ABORTING = "aborting"
    CONCLUDED = "concluded"
    NULL = "null"


class Verb(StrEnum):
    """QMP's ``JobVerb``: what may be asked of a job."""

    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"
    SET_SPEED = "set-speed"
    COMPLETE = "complete"
    FINALIZE = "finalize"
    DISMISS = "dismiss"


_S = Status

TRANSITIONS: Final[dict[Status, frozenset[Status]]] = {
    _S.UNDEFINED: frozenset({_S.CREATED}),
    _S.CREATED: frozenset({_S.RUNNING, _S.ABORTING, _S.NULL}),
    _S.RUNNING: frozenset({_S.PAUSED, _S.READY, _S.WAITING, _S.ABORTING}),
    _S.PAUSED: frozenset({_S.RUNNING}),
    _S.READY: frozenset({_S.STANDBY, _S.WAITING, _S.ABORTING}),
    _S.STANDBY: frozenset({_S.READY}),
    _S.WAITING: frozenset({_S.PENDING, _S.ABORTING}),
    _S.PENDING: frozenset({_S.ABORTING, _S.CONCLUDED}),
    _S.ABORTING: frozenset({_S.ABORTING, _S.CONCLUDED}),
    _S.CONCLUDED: frozenset({_S.NULL}),
    _S.NULL: frozenset(),
}
"""The statuses that may follow each status."""

_UNFINISHED = frozenset({_S.CREATED, _S.RUNNING, _S.PAUSED, _S.READY, _S.STANDBY})

VERBS: Final[dict[Verb, frozenset[Status]]] = {
    Verb.CANCEL: _UNFINISHED | {_S.WAITING, _S.PENDING},
    Verb.PAUSE: _UNFINISHED,
    Verb.RESUME: _UNFINISHED,
    Verb.SET_SPEED: _UNFINISHED,
    Verb.COMPLETE: frozenset({_S.READY, _S.STANDBY}),  # done when it is resumed
    Verb.FINALIZE: frozenset({_S.PENDING}),
    Verb.DISMISS: frozenset({_S.CONCLUDED}),
}
"""The statuses in which a job takes each verb."""


class VerbRefused(RequestError):
    template = "Job '{job}' in state '{state}' cannot accept command verb '{verb}'"
    job: str
    state: str
    verb: str


class IllegalMove(InternalError):
    """Our bug: the tables do not allow this change of status."""


class StateMachine:
    """One job's status. ``changed`` is told of each new status, after it is in force."""

    def __init__(self, job_id: str, changed: Callable[[Status], None]) -> None:
        self._job_id = job_id
        self._changed = changed
        self._status = Status.UNDEFINED

    @property
    def status(self) -> Status:
        return self._status

    def move(self, status: Status) -> None:
        """Raises IllegalMove, and changes nothing then."""
        old = self._status
        if status not in TRANSITIONS[old]:
            raise IllegalMove(f"job {self._job_id} went from {old.value} to {status.value}")
        self._status = status
        if status is not old:
            self._changed(status)

    def accepts(self, verb: Verb) -> bool:
        return self._status in VERBS[verb]

    def check(self, verb: Verb) -> None:
        """Raises VerbRefused when the job does not take ``verb`` now."""
        if not self.accepts(verb):
            raise VerbRefused(self._job_id, self._status.value, verb.value)

    @property
    def ready(self) -> bool:
        """Whether the job waits to be completed (mirror and active commit)."""
        return self._status in (Status.READY, Status.STANDBY)
