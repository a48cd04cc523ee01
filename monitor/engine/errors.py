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
from typing import Any, ClassVar, NamedTuple, Protocol, dataclass_transform


class Mark(Protocol):
    """A place in what was typed."""

    def caret(self, width: int | None = None) -> str:
        """The line and, below it, the carets; ``width`` columns of it at most."""


_REQUIRED: Any = object()


class _State(NamedTuple):
    default: Any


def state(*, default: Any, init: bool = True) -> Any:
    """The default of a field that is no argument: ``span: Span = state(default=…, init=False)``."""
    return default if init else _State(default)


@dataclass_transform(eq_default=False, field_specifiers=(state,))
class MonitorError(Exception):
    """Base of everything this package raises on purpose.

    A subclass's annotations are its fields, as a dataclass's are: arguments of its constructor,
    in order, that fill ``template``. (They are no dataclasses because a start would pay for a
    hundred generated constructors, most of them never called.)
    """

    qmp_class: ClassVar[str] = "GenericError"
    template: ClassVar[str] = "{0.__class__.__name__}"

    hint: str | None = None
    hint_is_qemus: bool = True
    """QEMU's monitor says it too."""
    """What a person may want to read next ("did you mean 'n0'?"); never sent as ``desc``."""

    mark: Mark | None = None
    """The typed line with carets under what the error is about; for people only, as the hint."""

    failed_action: int | None = None
    """Which action of a transaction failed, from 0; for people only."""

    _defaults: ClassVar[dict[str, Any]] = {}
    """Every field with its default, ``_REQUIRED`` or a ``state``, in order."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        own = [name for name, of in cls.__annotations__.items() if not of.startswith("ClassVar")]
        cls._defaults = cls._defaults | {n: cls.__dict__.get(n, _REQUIRED) for n in own}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args)
        given = dict(zip(self._arguments(), args, strict=False)) | kwargs
        if len(given) != len(args) + len(kwargs) or not given.keys() <= self._defaults.keys():
            raise TypeError(f"{type(self).__name__} takes {', '.join(self._arguments())}")
        for name, default in self._defaults.items():
            value = default.default if isinstance(default, _State) else default
            value = given.get(name, value)
            if value is _REQUIRED:
                raise TypeError(f"{type(self).__name__} lacks {name}")
            setattr(self, name, value)
        self.__post_init__()

    def __post_init__(self) -> None:
        """What follows from the fields."""

    @classmethod
    def _arguments(cls) -> list[str]:
        return [n for n, d in cls._defaults.items() if not isinstance(d, _State)]

    @property
    def text(self) -> str:
        values = {name: getattr(self, name) for name in self._defaults}
        return self.template.format(self, **values)

    def __str__(self) -> str:
        return self.text

    def with_hint(self, hint: str | None) -> MonitorError:
        """One that QEMU has, or that of another error."""
        self.hint = hint
        return self

    def with_own_hint(self, hint: str | None) -> MonitorError:
        self.hint_is_qemus = False
        return self.with_hint(hint)


class RequestError(MonitorError):
    """The request failed and changed nothing; the next one may succeed."""


class ProtocolError(MonitorError):
    """The other side of a connection broke its protocol."""


class Refused(RequestError):
    """A refusal whose sentence has no fields worth matching on. Prefer a class with fields."""

    template = "{message}"
    message: str


class InternalError(MonitorError):
    template = "internal error: {what}"
    what: str


class CommandNotFound(RequestError):
    qmp_class = "CommandNotFound"
    template = "The command {command} has not been found"
    command: str


class DeviceNotFound(RequestError):
    qmp_class = "DeviceNotFound"
    template = "Device '{device}' not found"
    device: str


class JobNotActive(RequestError):
    qmp_class = "DeviceNotActive"
    template = "Block job '{job}' not found"
    job: str


class ServerNotRunning(RequestError):
    template = "NBD server not running"


class HostFailure(RequestError):
    """A system call failed. ``context`` names what was tried; the errno reaches the user."""

    template = "{context}: {reason}"
    context: str
    errno: int
    reason: str = state(default="", init=False)

    def __post_init__(self) -> None:
        self.reason = os.strerror(self.errno)


def describe_failure(error: Exception) -> str:
    """What something failed with, in QEMU's words: the error's text, or what its errno means."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return str(error)


def as_word(name: str) -> str:
    """A name as it is typed at the prompt, for lines that a hint shows."""
    if name and all(char.isalnum() or char in "-._" for char in name) and name[0] != "-":
        return name
    import json

    return json.dumps(name, ensure_ascii=False)


def host_failure(context: str, error: OSError) -> HostFailure:
    """``error`` as a request failure with QEMU's ``context: strerror`` text (raise it ``from``)."""
    import errno

    return HostFailure(context, error.errno or errno.EIO)
