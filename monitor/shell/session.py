"""A session: one conversation with an engine, whoever holds it.

``Session`` is what command handlers see (``commands.registry.Session``) and carries out what the
parser understood. ``Dialogue`` adds the life of a line that is typed by someone who reads the
answer before typing the next: the prompt and the replay of a transcript. Scripts, which are parsed
first and fail with a file and a line, are in ``shell.script``.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from monitor.commands.registry import Answer
from monitor.engine.api import Engine
from monitor.engine.errors import MonitorError, RequestError

if TYPE_CHECKING:
    from monitor.parser import Invocation
    from monitor.shell.record import Recorder

__all__ = ["CONTINUATION", "PROMPT", "Dialogue", "Session", "error_text", "printable"]

PROMPT = "blkmon> "
CONTINUATION = "......> "

# What a terminal or a reader of lines would act on: C0 controls but newline and tab, DEL, and C1.
_CONTROLS = {
    code: f"\\x{code:02x}"
    for code in (*range(0x20), 0x7F, *range(0x80, 0xA0))
    if code not in (9, 10)
}


def printable(text: str) -> str:
    """``text`` with control characters spelled out, so that a file's name cannot move the cursor."""
    return text if text.isprintable() else text.translate(_CONTROLS)


def error_text(error: MonitorError) -> str:
    """An error for a person, without ``Error:``: its text, then the caret or the hint it has."""
    caret = getattr(error, "caret", None)
    more = caret() if callable(caret) else None
    return "\n".join(part for part in (error.text, more, error.hint) if part)


@dataclass(eq=False)
class AlreadyRunning(RequestError):
    template = "'{path}' is being run already"
    path: str


@dataclass(eq=False)
class ScriptStopped(RequestError):
    """A command of a file that ``source`` runs has failed; ``reason`` keeps its caret and hint."""

    template = "{path}:{line}: {reason}"
    path: str
    line: int
    reason: str


@dataclass(eq=False)
class CannotRecord(RequestError):
    template = "Cannot record into '{path}': {reason}"
    path: str
    reason: str


@dataclass(eq=False)
class NotRecording(RequestError):
    template = "Nothing is being recorded"


@dataclass(eq=False)
class MarkedToFail(RequestError):
    """A line that begins with ``!`` succeeded."""

    template = "The command was to fail and did not"


class Session(ABC):
    """One conversation. Made and used on the control loop.

    A subclass says where output goes (``show``) and whether a person can be asked.
    """

    interactive = False
    """Whether a person can be asked."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.quitting = False
        """True once ``quit`` was carried out: nothing more is to be run."""
        self.recorder: Recorder | None = None
        self._files: list[str] = []

    # -- output ------------------------------------------------------------------------------

    @abstractmethod
    def show(self, text: str) -> None:
        """Text for whoever holds the session, without its last newline."""

    def print(self, text: str) -> None:
        """A line of output now; it is also recorded, when there is a recording."""
        if self.recorder is not None:
            self.recorder.output(text)
        self.show(text)

    async def ask(self, question: str) -> bool:
        """Yes or no; nobody is there to say yes unless a subclass knows better."""
        return False

    def request_quit(self) -> None:
        self.quitting = True

    # -- commands ----------------------------------------------------------------------------

    async def carry_out(self, invocation: Invocation) -> Answer:
        """Does what one command says; the answer's text is "" when there is nothing to print.

        Raises MonitorError. An exception of any other kind is a mistake in this program: its
        traceback goes to the log and InternalError is raised in its place.
        """
        try:
            if invocation.request is not None:
                return _answer_of_request(await self.engine.execute(invocation.request))
            assert invocation.command is not None
            given = await invocation.command.handler(self, **invocation.arguments)
        except (MonitorError, OutputClosed):
            raise
        except Exception as error:
            from monitor.shell.log import log_failure

            raise log_failure(error) from error
        return _answer_of_handler(given)

    async def run_file(self, path: str) -> None:
        """Runs a script's commands here; nothing runs when any of it does not parse.

        Raises ScriptErrors, ScriptStopped at the first command that fails (with the names of all
        files on the way there), HostFailure when the file cannot be read.
        """
        if path in self._files:
            raise AlreadyRunning(path)
        from monitor.parser import parse_script

        invocations = parse_script(read_script(path), path)
        self._files.append(path)
        try:
            for invocation in invocations:
                if self.quitting:
                    return
                try:
                    await self.run_marked(invocation)
                except MonitorError as error:
                    raise ScriptStopped(path, invocation.line, error_text(error)) from error
        finally:
            self._files.pop()

    async def run_marked(self, invocation: Invocation) -> None:
        """One command, its output printed, its mark heeded: ``-`` may fail, ``!`` must.

        Raises what the command raised, or MarkedToFail.
        """
        try:
            answer = await self.carry_out(invocation)
        except MonitorError as error:
            if invocation.mark == "-":
                self.print(f"Error: {error_text(error)}")
            elif invocation.mark != "!":
                raise
            return
        self.print_answer(answer)
        if invocation.mark == "!":
            raise MarkedToFail

    def print_answer(self, answer: Answer) -> None:
        text = answer.render()
        if text:
            self.print(text.removesuffix("\n"))

    # -- recording ---------------------------------------------------------------------------

    def record(self, path: str | None) -> None:
        """Records what is typed and answered from the next command on; None ends that.

        Raises CannotRecord, or NotRecording for None when there is nothing to end.
        """
        from monitor.shell.record import Recorder

        if path is None:
            if self.recorder is None:
                raise NotRecording
            self.recorder.close()
            self.recorder = None
            return
        if self.recorder is not None:
            raise CannotRecord(path, f"'{self.recorder.path}' is being recorded")
        try:
            self.recorder = Recorder(path, self.engine)
        except OSError as error:
            raise CannotRecord(path, error.strerror or str(error)) from error

    @contextlib.contextmanager
    def recorded(self, text: str) -> Iterator[None]:
        """What is printed inside belongs to the command that was typed as ``text``.

        The command that begins a recording and the one that ends it are no part of it.
        """
        recorder = self.recorder
        if recorder is not None:
            recorder.begin(text)
        yield
        if recorder is not None and recorder is self.recorder:
            recorder.end()


class Dialogue(Session):
    """A session whose lines are typed one by one, each answered before the next."""

    async def enter(self, text: str) -> bool:
        """Runs what was typed (one line, or several while a bracket was open).

        Prints the result or the error; whether all of it went as its marks say. Never raises for
        anything that the text or the engine can do wrong.
        """
        from monitor.parser import parse_script

        with self.recorded(text):
            try:
                for invocation in parse_script(text, ""):
                    if self.quitting:
                        break
                    await self.run_typed(invocation)
            except MonitorError as error:
                self.print_error(error)
                return False
        return True

    async def run_typed(self, invocation: Invocation) -> None:
        """One command of a typed line. Errors that a mark allows are shown all the same."""
        try:
            answer = await self.carry_out(invocation)
        except MonitorError as error:
            if not invocation.mark:
                raise
            self.print_error(error)
            return
        self.print_answer(answer)
        if invocation.mark == "!":
            raise MarkedToFail

    def print_error(self, error: MonitorError) -> None:
        if self.recorder is not None:
            self.recorder.failed()
        self.print(f"Error: {error_text(error)}")


class OutputClosed(Exception):
    """Nobody reads our output any more; ``error`` says whether that is a mishap (a full disk)."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


def read_script(path: str) -> str:
    """A script's text. File names in it may be any bytes (surrogates stand for what is not UTF-8).

    Raises HostFailure.
    """
    from monitor.engine.errors import host_failure

    try:
        with open(path, "rb") as file:
            return decode_script(file.read())
    except OSError as error:
        raise host_failure(f"Could not open '{path}'", error) from error


def decode_script(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape").replace("\r\n", "\n").removeprefix("\ufeff")


def _answer_of_request(result: Any) -> Answer:
    """A request's result as qmp-shell's users see it: JSON, or nothing for the empty object."""
    if result is None:
        return Answer({}, str)
    return Answer(result, lambda: to_json(result, indent=4))


def _answer_of_handler(given: Answer | str | None) -> Answer:
    if isinstance(given, Answer):
        return given
    text = given or ""
    return Answer(text, lambda: text)


def to_json(value: Any, indent: int = 0) -> str:
    """A result as JSON: on one line, or laid out for reading with ``indent`` blanks a level."""
    import msgspec

    encoded = msgspec.json.encode(value)
    return (msgspec.json.format(encoded, indent=indent) if indent else encoded).decode()
