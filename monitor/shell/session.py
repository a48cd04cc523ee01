"""A session: one conversation with an engine, whoever holds it.

``Session`` is what command handlers see (``commands.registry.Session``) and carries out what the
parser understood. ``Dialogue`` adds the life of a line that is typed by someone who reads the
answer before typing the next: the prompt and the replay of a transcript. Scripts, which are parsed
first and fail with a file and a line, are in ``shell.script``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING

from monitor.commands.errors import Verbatim
from monitor.commands.outcomes import outcomes_of
from monitor.commands.registry import Answer
from monitor.commands.render import render_result
from monitor.engine.api import Engine
from monitor.engine.errors import MonitorError, RequestError
from monitor.engine.schema.base import Request
from monitor.engine.schema.monitor import Quit

if TYPE_CHECKING:
    from monitor.parser import Invocation
    from monitor.shell.record import Recorder

__all__ = ["CONTINUATION", "PROMPT", "Dialogue", "Session", "error_text", "printable", "told"]

PROMPT = "blkmon> "
CONTINUATION = "......> "

# What a terminal or a reader of lines would act on: C0 controls but newline and tab, DEL, and C1.
_CONTROLS = {
    code: f"\\x{code:02x}"
    for code in (*range(0x20), 0x7F, *range(0x80, 0xA0))
    if code not in b"\t\n"
}


def told(error: MonitorError) -> str:
    """An error as a dialogue tells it, with its hint."""
    return f"{heading(error)}{error_text(error)}"


def heading(error: MonitorError) -> str:
    """HMP has ``Error: `` before most of its errors, not all."""
    return "" if isinstance(error, Verbatim) else "Error: "


def printable(text: str) -> str:
    """``text`` with control characters spelled out: a file's name must not move the cursor."""
    return text if text.isprintable() else text.translate(_CONTROLS)


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


class CannotRecord(RequestError):
    template = "Cannot record into '{path}': {reason}"
    path: str
    reason: str


class NotRecording(RequestError):
    template = "Nothing is being recorded"


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
        outcomes_of(engine)  # remembers from now on how jobs end

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
                return await self._request(invocation.request)
            assert invocation.command is not None
            given = await invocation.command.handler(self, **invocation.arguments)
        except (MonitorError, OutputClosed):
            raise
        except Exception as error:
            from monitor.shell.log import log_failure

            raise log_failure(error) from error
        return _answer_of_handler(given)

    async def _request(self, request: Request) -> Answer:
        if isinstance(request, Quit):
            self.request_quit()
            return Answer({}, str)
        result = await self.engine.execute(request)
        return Answer({} if result is None else result, lambda: render_result(request, result))

    async def run(self, invocation: Invocation) -> None:
        """One command with its output, its mark heeded: ``-`` may fail, ``!`` must.

        Raises what the command raised, or MarkedToFail.
        """
        try:
            answer = await self.carry_out(invocation)
        except MonitorError as error:
            self.explain(error, invocation)
            if not invocation.mark:
                raise
            self.excused(invocation, error)
            return
        finally:
            if self.recorder is not None:
                self.recorder.ran(invocation)
        self.give(invocation, answer)
        if invocation.mark == "!":
            raise MarkedToFail

    def explain(self, error: MonitorError, invocation: Invocation) -> None:
        """Adds what helps a person: the nearest name to one that does not exist, and its place."""
        from monitor.hints import explain

        explain(error, invocation, self.engine)

    def give(self, invocation: Invocation, answer: Answer) -> None:
        """Prints what a command has answered."""
        text = answer.render()
        if text:
            self.print(text.removesuffix("\n"))

    @abstractmethod
    def excused(self, invocation: Invocation, error: MonitorError) -> None:
        """A command failed that may (``-``) or must (``!``)."""

    async def run_file(self, path: str) -> None:
        """Runs a script's commands here; nothing runs when any of it does not parse.

        Raises ScriptErrors, HostFailure when the file cannot be read, and what ``file_failed``
        raises.
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
                    await self.run(invocation)
                except MonitorError as error:
                    self.file_failed(path, invocation, error)
        finally:
            self._files.pop()

    def file_failed(self, path: str, invocation: Invocation, error: MonitorError) -> None:
        """A command of a file that ``source`` runs has failed: the file ends there.

        Raises ScriptStopped, to which a file that runs this one adds its own place; ScriptErrors
        name their places themselves.
        """
        if isinstance(error, ScriptStopped):
            error.sourced_at(f"{path}:{invocation.line}")
            raise error
        if hasattr(error, "errors"):
            raise error
        stopped = ScriptStopped(path, invocation.line, error.text)
        stopped.mark, stopped.hint = error.mark, error.hint
        raise stopped from error

    # -- recording ---------------------------------------------------------------------------

    def record(self, path: str | None, setup: Sequence[str] = ()) -> None:
        """Records what is typed and answered from the next command on; None ends that.

        ``setup`` are lines for the transcript's head: the disks that are there already.
        Raises CannotRecord, or NotRecording for None when there is nothing to end.
        """
        from monitor.shell.record import FileRecorder

        if path is None:
            if self.recorder is None:
                raise NotRecording
            self.recorder.close()
            self.recorder = None
            return
        if self.recorder is not None:
            raise CannotRecord(path, "another recording has not ended")
        try:
            self.recorder = FileRecorder(path, self.engine, setup)
        except OSError as error:
            raise CannotRecord(path, error.strerror or str(error)) from error

    def record_error(self, error: MonitorError) -> None:
        """The running command's failure, for the recording if there is one."""
        if self.recorder is not None:
            self.recorder.output(told(error))

    def close(self) -> None:
        """Ends the recording, if there is one, and the session's interest in the engine."""
        if self.recorder is not None:
            self.recorder.close()

    async def recorded(self, text: str, running: Awaitable[bool]) -> bool:
        """Waits for ``running`` (true: it went well), which is what was typed as ``text``.

        The command that begins a recording and the one that ends it are no part of it.
        """
        recorder = self.recorder
        if recorder is None:
            return await running
        async with recorder.entry(text) as entry:
            entry.failed = not await running
            entry.wanted = recorder is self.recorder
            return not entry.failed


class Dialogue(Session):
    """A session whose lines are typed one by one, each answered before the next."""

    async def enter(self, text: str) -> bool:
        """Runs what was typed (one line, or several while a bracket was open).

        Prints the result or the error; whether all of it went as its marks say. Never raises for
        anything that the text or the engine can do wrong.
        """
        return await self.recorded(text, self._enter(text))

    async def _enter(self, text: str) -> bool:
        from monitor.parser import ScriptErrors, parse_script

        try:
            for invocation in parse_script(text, ""):
                if self.quitting:
                    break
                await self.run(invocation)
        except ScriptErrors as errors:
            # Sourced files have a name, which their mistakes are told with; a line has none.
            mistakes = errors.errors
            for mistake in mistakes if not mistakes[0].source else [errors]:
                self.print_error(mistake)
            return False
        except MonitorError as error:
            self.print_error(error)
            return False
        return True

    def excused(self, invocation: Invocation, error: MonitorError) -> None:
        # Whoever types wants to read it all the same.
        self.print_error(error)

    def print_error(self, error: MonitorError) -> None:
        self.record_error(error)
        self.show(told(error))


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


def _answer_of_handler(given: Answer | str | None) -> Answer:
    if isinstance(given, Answer):
        return given
    text = given or ""
    return Answer(text or {}, lambda: text)
