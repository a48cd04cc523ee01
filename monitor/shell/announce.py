"""Events as lines for a person: one for each thing that someone at the prompt would want to know.

A job passes through many states; what matters is that it is ready, waits for a verb, has ended,
and how. The engine tells the outcome before the end (BLOCK_JOB_COMPLETED, then concluded), so an
``Announcer`` keeps what it heard about a job until then.
"""

from __future__ import annotations

import errno
import json
import os
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from monitor.commands.outcomes import LEFT, standing
from monitor.commands.render import note_line
from monitor.engine.api import Event, JobSnapshot

# Events whose news is in another one's line, or in the toolbar.
_NOTES = "X_BLKMON_"
"""What the names of events begin with that are there for people."""
_CANCELLED = os.strerror(errno.ECANCELED)

_QUIET = frozenset({"BLOCK_JOB_READY", "SHUTDOWN"})


@dataclass
class _Outcome:
    """What is known of a job's end before it ends."""

    kind: str = "job"
    error: str | None = None
    cancelled: bool = False
    aborting: bool = False
    was_ready: bool = False
    left: bool = False


class Announcer:
    """Turns events into lines. ``jobs`` is the engine's list of jobs, looked at for details."""

    def __init__(self, jobs: Callable[[], list[JobSnapshot]]) -> None:
        self._jobs = jobs
        self._outcomes: dict[str, _Outcome] = {}

    def line(self, event: Event) -> str | None:
        """The line for ``event``, without a newline; None when there is nothing to say."""
        handler = getattr(self, f"_on_{event.name.lower()}", None)
        if handler is not None:
            line: str | None = handler(event.data)
            return line
        if event.name.startswith(_NOTES):
            return note_line(event)
        return None if event.name in _QUIET else _plain(event)

    def _on_job_status_change(self, data: Any) -> str | None:
        job_id, status = str(data["id"]), data["status"]
        if status == "null":
            self._outcomes.pop(job_id, None)
            return None
        outcome = self._outcomes.setdefault(job_id, _Outcome())
        job = self._find(job_id)
        if job is not None:
            outcome.kind = job.type
            outcome.error = outcome.error or job.error
            outcome.cancelled |= job.error == _CANCELLED
            outcome.left |= job.left
        if status == "aborting":
            outcome.aborting = True
        name = f"Job '{job_id}' ({outcome.kind})"
        if status == "ready" and not outcome.was_ready:  # else it only goes on after a pause
            outcome.was_ready = True
            return f"{name} {standing(job_id, status)}"
        if status == "concluded":
            kept = job is not None and "dismiss" in job.verbs
            forget = f"; job-dismiss id={job_id} forgets it" if kept else ""
            return f"{name} {_ending(outcome)}{forget}"
        return None

    def _on_block_job_pending(self, data: Any) -> str:
        # Only for a job that waits for a person: one with auto-finalize passes through in silence.
        job_id = data["id"]
        return f"Job '{job_id}' ({data['type']}) {standing(job_id, 'pending')}"

    def _on_block_job_completed(self, data: Any) -> None:
        outcome = self._outcomes.setdefault(str(data["device"]), _Outcome())
        outcome.kind = data["type"]
        outcome.error = data.get("error")

    def _on_block_job_cancelled(self, data: Any) -> None:
        outcome = self._outcomes.setdefault(str(data["device"]), _Outcome())
        outcome.kind = data["type"]
        outcome.cancelled = True

    def _on_block_job_error(self, data: Any) -> str | None:
        # "report" ends the job, which says why; "ignore" was asked for and may come a million times
        if data["action"] != "stop":
            return None
        job_id = data["device"]
        job = self._find(job_id)
        kind = f" ({job.type})" if job is not None else ""
        stopped = job.stopped if job is not None else None
        at = standing(job_id, "paused", stopped or f"{data['operation']} error")
        return f"Job '{job_id}'{kind} {at}"

    def _find(self, job_id: str) -> JobSnapshot | None:
        return next((job for job in self._jobs() if job.id == job_id), None)


def folded(line: str, columns: int) -> str:
    """``line`` on as many of the terminal's lines as it takes, broken between words."""
    return textwrap.fill(
        line,
        max(columns, 10),  # a terminal may say 0
        subsequent_indent="  ",
        expand_tabs=False,
        replace_whitespace=False,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _ending(outcome: _Outcome) -> str:
    if outcome.cancelled or (outcome.aborting and outcome.error is None):
        return "was cancelled"
    if outcome.error is not None:
        return f"failed: {outcome.error}{_advice(outcome)}"
    return LEFT if outcome.left else "completed"


_STOPPING = {
    "backup": "drive-backup with on-target-error=stop",
    "mirror": "drive-mirror with on-target-error=stop",
    "commit": "block-commit with on-error=stop",
    "stream": "block-stream with on-error=stop",
}
"""The request by its name: HMP's commands, which begin such jobs too, have no such option."""
_FULL = os.strerror(errno.ENOSPC)


def _advice(outcome: _Outcome) -> str:
    """What to add to the command that has failed."""
    stopping = _STOPPING.get(outcome.kind) if outcome.error == _FULL else None
    return f"; {stopping} waits for room" if stopping else ""


def _plain(event: Event) -> str:
    """Any other event: its name and members, as a person types them."""
    members = (
        f"{key}={value if isinstance(value, str) else json.dumps(value)}"
        for key, value in event.data.items()
    )
    return " ".join(["event", event.name, *members])
