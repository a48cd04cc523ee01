"""Failures that only the human commands know.

QEMU's HMP puts ``Error: `` before most of its errors, but not before all: ``drive_add`` and
``drive_del``, ``help``, ``qemu-io`` say theirs as they are. A ``Verbatim`` error is one of those;
``render.error_text`` makes the line.
"""

from __future__ import annotations

from monitor.engine.errors import RequestError


class Verbatim(RequestError):
    """An error that HMP prints without ``Error: `` before it. May have several lines."""

    template = "{message}"
    message: str


class UnknownHumanCommand(Verbatim):
    template = "unknown command: '{message}'"


class JobFailed(RequestError):
    """The job that was waited for ended with an error. A script ends with status 4."""

    template = "Job '{job}' failed: {reason}"
    job: str
    reason: str


class JobStandsStill(RequestError):
    """The job that was waited for does nothing more until someone resumes it."""

    template = "Job '{job}' {standing}"
    job: str
    standing: str


class JobDoesNotEnd(RequestError):
    """By steps, nothing moves any more: waiting longer would be waiting for ever."""

    template = "Job '{job}' does not end by itself"
    job: str


class BadCount(RequestError):
    template = "'{count}' is no number of steps: expected 1 or more"
    count: int


class WaitTimedOut(RequestError):
    """The job goes on; only the waiting has ended."""

    template = "Job '{job}' has not ended after {seconds:g} s"
    job: str
    seconds: float
