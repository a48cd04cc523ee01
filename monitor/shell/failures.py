"""What goes wrong in a session, beside what the engine refuses; and how errors are told."""

from __future__ import annotations

from monitor.commands.errors import Verbatim
from monitor.engine.errors import MonitorError, RequestError


def told(error: MonitorError) -> str:
    """An error as a dialogue tells it, with its hint."""
    return f"{heading(error)}{error_text(error)}"


def heading(error: MonitorError) -> str:
    """HMP has ``Error: `` before most of its errors, not all."""
    return "" if isinstance(error, Verbatim) else "Error: "


def error_text(error: MonitorError, *, marked: bool = False) -> str:
    """An error for a person, without ``Error:``: its text, then the caret or the hint it has.

    Of a script with several mistakes: all of them, each with its place. A command that failed has
    its caret only when ``marked``: its line stands right above in a dialogue.
    """
    mistakes = getattr(error, "errors", None)
    if mistakes is not None:
        return "\n".join(f"{mistake.place}: {error_text(mistake)}" for mistake in mistakes)
    caret = getattr(error.mark if marked and error.mark is not None else error, "caret", None)
    more = caret() if callable(caret) else None
    return "\n".join(part for part in (error.text, more, error.hint) if part)


class AlreadyRunning(RequestError):
    template = "'{path}' is being run already"
    path: str


class ScriptStopped(RequestError):
    """A command of a file that ``source`` runs has failed. Its mark and hint are those of the
    command's own error."""

    template = "{path}:{line}: {reason}"
    path: str
    line: int
    reason: str

    @property
    def place(self) -> str:
        return f"{self.path}:{self.line}"

    def caret(self) -> str | None:
        """Nobody has seen the line: it is shown wherever the error is told."""
        return self.mark.caret() if self.mark is not None else None

    def sourced_at(self, place: str) -> None:
        """The file was run by the command at ``place``."""
        self.hint = "\n".join(part for part in (self.hint, f"sourced at {place}") if part)


class ReadingStopped(RequestError):
    template = "'{path}' was not read to its end: nothing of it was run"
    path: str


class CannotRecord(RequestError):
    template = "Cannot record into '{path}': {reason}"
    path: str
    reason: str


class NotRecording(RequestError):
    template = "Nothing is being recorded"


class MarkedToFail(RequestError):
    """A line that begins with ``!`` succeeded."""

    template = "The command was to fail and did not"


class OutputClosed(Exception):
    """Nobody reads our output any more; ``error`` says whether that is a mishap (a full disk)."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error
