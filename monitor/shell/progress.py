"""``--progress=FD``: how far jobs are, as lines on a file descriptor of the caller's.

A line for each status that somebody may wait for, and in between one for every 5 %, or once a
second while a job moves, whichever comes first::

    d0: stream, running, 35% (23068672 of 67108864)

With ``--json`` each is an object: job, type, status, percent, current, total, and error when it has
one, or stopped when it stands still at one. Nothing is written to any other descriptor for it, and
never a carriage return or an escape.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from typing import Final

from monitor.commands.render import job_line
from monitor.engine.api import Engine, Event, JobSnapshot
from monitor.shell.texts import printable

STEP: Final = 5
"""Per cent."""
SECOND: Final = 1.0
_LOOK: Final = 0.1
"""Seconds between two looks at jobs that run."""
_BACKLOG: Final = 64
"""Lines that may wait for a reader; further ones in between are left out."""
_AT_ONCE: Final = frozenset({"running", "ready", "concluded"})
_TOLD: Final = _AT_ONCE | {"paused", "standby", "pending"}
"""Statuses with a line; the latter when a look finds them, as most jobs only pass through them."""
_STILL: Final = frozenset({"concluded", "null", "paused", "pending"})


class Meter:
    """Decides which figures are worth a line. Pure: it is told the time."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[JobSnapshot, float]] = {}

    def worth_telling(self, job: JobSnapshot, now: float) -> bool:
        """Whether the job has got far enough since its last line, which is then this one."""
        last, then = self._last.get(job.id, (None, 0.0))
        moved = last is None or job.current != last.current or job.total != last.total
        worth = (
            last is None
            or job.status != last.status
            or job.percent // STEP > last.percent // STEP
            or (moved and now - then >= SECOND)
        )
        if worth:
            self._last[job.id] = (job, now)
        return worth

    def forget(self, job_id: str) -> None:
        self._last.pop(job_id, None)


def text_line(job: JobSnapshot) -> str:
    why = job.error or job.stopped
    return job_line(job.id, job.type, job.status, job.current, job.total, why)


def json_line(job: JobSnapshot) -> str:
    figures = {"job": job.id, "type": job.type, "status": job.status, "percent": job.percent}
    reasons = {"error": job.error, "stopped": job.stopped}
    why = {name: text for name, text in reasons.items() if text}
    return json.dumps({**figures, "current": job.current, "total": job.total, **why})


class ProgressLines:
    """Watches an engine's jobs and writes lines. Of the control loop; a thread does the writing,
    since the reader may be slow."""

    def __init__(self, engine: Engine, fd: int, *, as_json: bool = False) -> None:
        self._engine = engine
        self._format: Callable[[JobSnapshot], str] = json_line if as_json else text_line
        self._meter = Meter()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._lines = _Writer(fd)
        self._unsubscribe = engine.subscribe(self._on_event)

    def close(self) -> None:
        self._unsubscribe()
        if self._timer is not None:
            self._timer.cancel()
        self._lines.close()

    def _on_event(self, event: Event) -> None:
        if event.name != "JOB_STATUS_CHANGE":
            return
        job_id, status = str(event.data["id"]), event.data["status"]
        if status == "null":
            self._meter.forget(job_id)
        elif status in _AT_ONCE:
            self._tell((job for job in self._engine.jobs() if job.id == job_id), needed=True)
        if self._timer is None:
            self._timer = self._loop.call_later(_LOOK, self._look)

    def _look(self) -> None:
        jobs = self._engine.jobs()
        self._tell((job for job in jobs if job.status in _TOLD), needed=False)
        moving = any(job.status not in _STILL for job in jobs)
        self._timer = self._loop.call_later(_LOOK, self._look) if moving else None

    def _tell(self, jobs: Iterable[JobSnapshot], *, needed: bool) -> None:
        for job in jobs:
            if self._meter.worth_telling(job, self._loop.time()):
                self._lines.put(printable(self._format(job)), needed=needed)


class _Writer:
    """Writes lines to a descriptor from a thread of its own."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._queue: SimpleQueue[str | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._main, name="progress", daemon=True)
        self._thread.start()

    def put(self, line: str, *, needed: bool) -> None:
        """Lines that are not ``needed`` are left out when many wait."""
        if needed or self._queue.qsize() < _BACKLOG:
            self._queue.put(line)

    def close(self) -> None:
        """What waits is written yet, unless the reader lets that take long."""
        self._queue.put(None)
        self._thread.join(SECOND)

    def _main(self) -> None:
        while (line := self._queue.get()) is not None:
            data = f"{line}\n".encode("utf-8", "surrogateescape")
            try:
                while data:
                    data = data[os.write(self._fd, data) :]
            except OSError:
                return  # nobody reads: the work goes on all the same
