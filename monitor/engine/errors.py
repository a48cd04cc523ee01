"""One tree of errors, told apart by what the caller can do next.

    MonitorError
    ├── RequestError          the request failed; the session goes on
    │   ├── DeviceNotFound, DeviceNotActive, CommandNotFound   (a QMP class of their own)
    │   ├── HostFailure       the host's system call failed; errno is kept
    │   └── …                 one class a case; most are declared beside this one
    ├── ProtocolError         the other side broke the protocol; close the connection
    └── InternalError         our bug: a traceback to the log, one line to the user

An error carries fields and builds its text (QMP's ``desc``) from one template. Texts equal
QEMU's wherever QEMU has the case. A ``hint`` is for people only and never part of the text.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from typing import ClassVar, Protocol


class Mark(Protocol):
    """A place in what was typed."""

    def caret(self, width: int | None = None) -> str:
        """The line and, below it, the carets; ``width`` columns of it at most."""


class MonitorError(Exception):
    """Base of everything this package raises on purpose.

    Subclasses are dataclasses (``eq=False``) whose fields fill ``template``.
    """

    qmp_class: ClassVar[str] = "GenericError"
    template: ClassVar[str] = "{0.__class__.__name__}"

    hint: str | None = None
    """What a person may want to read next ("did you mean 'n0'?"); never sent as ``desc``."""

    mark: Mark | None = None
    """The typed line with carets under what the error is about; for people only, as the hint."""

    @property
    def text(self) -> str:
        values = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        return self.template.format(self, **values)

    def __str__(self) -> str:
        return self.text

    def with_hint(self, hint: str | None) -> MonitorError:
        self.hint = hint
        return self


class RequestError(MonitorError):
    """The request failed and changed nothing; the next one may succeed."""


class ProtocolError(MonitorError):
    """The other side of a connection broke its protocol."""


@dataclass(eq=False)
class Refused(RequestError):
    """A refusal whose sentence has no fields worth matching on. Prefer a class with fields."""

    template = "{message}"
    message: str


@dataclass(eq=False)
class InternalError(MonitorError):
    template = "internal error: {what} (details are in the log)"
    what: str


@dataclass(eq=False)
class CommandNotFound(RequestError):
    qmp_class = "CommandNotFound"
    template = "The command {command} has not been found"
    command: str


@dataclass(eq=False)
class DeviceNotFound(RequestError):
    qmp_class = "DeviceNotFound"
    template = "Device '{device}' not found"
    device: str


@dataclass(eq=False)
class JobNotActive(RequestError):
    qmp_class = "DeviceNotActive"
    template = "Block job '{job}' not found"
    job: str


@dataclass(eq=False)
class HostFailure(RequestError):
    """A system call failed. ``context`` names what was tried; the errno reaches the user."""

    template = "{context}: {reason}"
    context: str
    errno: int
    reason: str = field(init=False)

    def __post_init__(self) -> None:
        self.reason = os.strerror(self.errno)


def host_failure(context: str, error: OSError) -> HostFailure:
    """``error`` as a request failure with QEMU's ``context: strerror`` text (raise it ``from``)."""
    import errno

    return HostFailure(context, error.errno or errno.EIO)
