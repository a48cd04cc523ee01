"""Scripts: commands from files, from ``-c`` and from a pipe, and the status that says how it went.

Only results go to stdout. Errors go to stderr with the place of the command::

    backup.blkmon:12: Error: Device 'd1' not found

Files and ``-c`` are parsed wholly before anything runs. A pipe is parsed and acted on line by line
as it arrives, each result flushed before the next line is looked at, so that a program can hold a
conversation. The first command that fails ends a script, unless it was to go on; the status is the
first failure's.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

from monitor.commands.errors import JobFailed
from monitor.commands.registry import Answer
from monitor.commands.render import note_line
from monitor.engine.api import Engine, Event
from monitor.engine.errors import MonitorError, ProtocolError
from monitor.language.syntax import ParseError
from monitor.shell.directing import as_json, collected, text_of
from monitor.shell.failures import OutputClosed, ScriptStopped, error_text
from monitor.shell.jobs import settle
from monitor.shell.session import Session
from monitor.shell.status import Status
from monitor.shell.texts import decode_script, printable, read_script

if TYPE_CHECKING:
    from monitor.language.parser import Invocation
    from monitor.language.variables import Scope
    from monitor.shell.checkpoint import Checkpoint

PIPE = "<stdin>"


class Source(msgspec.Struct, frozen=True):
    """Text that is parsed as a whole. ``name`` is what messages call it."""

    name: str
    text: str

    @classmethod
    def file(cls, path: str) -> Source:
        """``-`` is standard input. Raises HostFailure."""
        return cls(PIPE, decode_script(_all_of(0))) if path == "-" else cls(path, read_script(path))

    @classmethod
    def command(cls, text: str, number: int) -> Source:
        """The ``number``-th ``-c`` of the command line, from one."""
        return cls(f"<command {number}>", text)


class ScriptOptions(msgspec.Struct, frozen=True):
    keep_going: bool = False
    json: bool = False  # one object a command on stdout
    yes: bool = False  # data may be lost without a question
    variables: dict[str, str] = {}  # those of the command line


class ScriptSession(Session):
    """Commands without a person: results to ``out``, everything else to ``err``."""

    def __init__(
        self,
        engine: Engine,
        options: ScriptOptions | None = None,
        out: TextIO | None = None,
        err: TextIO | None = None,
    ) -> None:
        super().__init__(engine)
        self.options = options or ScriptOptions()
        for name, value in self.options.variables.items():
            self.define(name, value)
        if self.options.keep_going:
            self.settings["on-error"] = "continue"
        if self.options.yes:
            self.settings["confirm"] = "off"
        self.status = Status.OK
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        self._place = ""
        self._printed: list[str] = []
        self._unsubscribe = engine.subscribe(self._on_event)

    @property
    def stopped(self) -> bool:
        """Whether nothing more is to be run."""
        return self.quitting or (self.status != Status.OK and not self.settings.keeps_going)

    def close(self) -> None:
        super().close()
        self._unsubscribe()

    # -- output ------------------------------------------------------------------------------

    def show(self, text: str) -> None:
        if self.options.json:
            self._printed.append(text)
        else:
            self._write(printable(text))

    def _write(self, text: str) -> None:
        try:
            self._out.write(text + "\n")
            self._out.flush()
        except OSError as error:
            raise OutputClosed(error) from error

    def note(self, text: str) -> None:
        """A line for people, with the place of the command that is running, on stderr."""
        place = f"{self._place}: " if self._place else "blkmon: "
        _say(self._err, place + text)

    def _on_event(self, event: Event) -> None:
        line = note_line(event)
        if line is not None and self.settings.tells(event.name):
            self.note(line)

    def give(self, invocation: Invocation, answer: Answer) -> None:
        if not self.options.json:
            super().give(invocation, answer)
            return
        if collected() is not None:
            super().give(invocation, answer)
            return
        if self.recorder is not None and (text := text_of(self, invocation, answer)):
            self.recorder.output(text)
        self._write_object(invocation, {"return": answer.data})

    def _write_object(self, invocation: Invocation, outcome: dict[str, Any]) -> None:
        """The object of a command: docs/scripts.md says what is in it."""
        printed, self._printed = self._printed, []
        said = {"printed": printed} if printed else {}
        place = {"source": invocation.source, "line": invocation.line}
        self._write(as_json({"command": invocation.text, **place, **said, **outcome}))

    def remark(self, text: str) -> None:
        self.note(text)

    # -- failures ----------------------------------------------------------------------------

    def excused(self, invocation: Invocation, error: MonitorError) -> None:
        if invocation.mark == "-":
            self._report(self._place, error)
        self._tell_program(invocation, error)

    def fail(self, invocation: Invocation, error: MonitorError) -> None:
        """Reports a command's failure, which makes it the script's unless another came before."""
        self._report(f"{invocation.source}:{invocation.line}", error)
        self._tell_program(invocation, error)
        self._failed(_status_of(error))

    def _tell_program(self, invocation: Invocation, error: MonitorError) -> None:
        self.record_error(error)
        if self.options.json:
            self._write_object(invocation, {"error": described(error)})

    def fail_to_parse(self, error: MonitorError) -> None:
        report_mistakes(error, self._err, self._out if self.options.json else None)
        self._failed(Status.SYNTAX)

    def _failed(self, status: Status) -> None:
        self.status = self.status or status

    def _report(self, place: str, error: MonitorError) -> None:
        if hasattr(error, "errors"):
            report_mistakes(error, self._err, place=place)
            return
        text = error_text(error, marked=True)
        if isinstance(error, ScriptStopped):
            # Told where it happened, as the failure of any other command.
            text, place = f"{text}\nsourced at {place}", error.place
            text = text.removeprefix(f"{place}: ")
        _say(self._err, f"{place}: Error: {text}")

    def file_failed(self, path: str, invocation: Invocation, error: MonitorError) -> None:
        if not self.settings.keeps_going:
            super().file_failed(path, invocation, error)
        self.fail(invocation, error)

    # -- running -----------------------------------------------------------------------------

    async def run_all(
        self, invocations: Sequence[Invocation], checkpoint: Checkpoint | None = None
    ) -> None:
        """Runs what was parsed, up to the first failure or ``quit``; what the checkpoint says is
        done is left out."""
        for number, invocation in enumerate(invocations):
            if self.stopped:
                return
            if checkpoint is not None and checkpoint.skips(number):
                continue
            await self.run_one(invocation)
            if checkpoint is not None and self.status == Status.OK:
                await self._keep(checkpoint, number)

    async def _keep(self, checkpoint: Checkpoint, number: int) -> None:
        try:
            await checkpoint.passed(number)
        except OSError as error:
            self.note(f"Error: the checkpoint cannot be kept: {error.strerror}")
            self._failed(Status.FAILED)
            self.request_quit()

    async def run_one(self, invocation: Invocation) -> None:
        self._place = f"{invocation.source}:{invocation.line}"
        await self.recorded(invocation.mark + invocation.text, self._run_one(invocation))
        self._place = ""

    async def _run_one(self, invocation: Invocation) -> bool:
        try:
            await self.run(invocation)
        except MonitorError as error:
            self.fail(invocation, error)
            return False
        return True

    async def run_pipe(self, lines: AsyncIterator[str]) -> None:
        """Runs commands as their lines arrive. A line that does not parse ends it with SYNTAX, as
        a failing command would; with ``keep_going`` only that line is lost."""
        from monitor.language.assembling import Assembler

        reader, first, number = Assembler(), 1, 0
        async for line in lines:
            number += 1
            if not reader.feed(line.removesuffix("\n")):
                continue
            await self._run_lines(reader.text, first)
            reader, first = Assembler(), number + 1
            if self.stopped:
                return
        if number >= first:
            await self._run_lines(reader.text, first)

    async def _run_lines(self, text: str, line: int) -> None:
        try:
            invocations = self.parse(text, PIPE, line)
        except MonitorError as error:
            self.fail_to_parse(error)
            return
        await self.run_all(invocations)

    async def finish(self) -> None:
        """The end of input: jobs that still run are waited for, unless the session was quit."""
        if self.quitting:
            return
        for job_id, error in (await settle(self.engine, self.note)).items():
            failed = JobFailed(job_id, error)
            self.note(f"Error: {failed.text}")
            if self.options.json:
                self._write(as_json({"job": job_id, "error": described(failed)}))
            self._failed(Status.JOB_FAILED)


def described(error: MonitorError) -> dict[str, Any]:
    """An error as ``--json`` has it: QMP's class and text, what a person is told beside it, and for
    a mistake in the text its place."""
    told: dict[str, Any] = {"class": error.qmp_class, "desc": error.text}
    if error.hint:
        told["hint"] = error.hint
    mark = error if isinstance(error, ParseError) else error.mark
    if isinstance(mark, ParseError):
        told |= {
            "source": mark.source,
            "line": mark.line,
            "column": mark.column,
            "length": mark.length,
        }
    return told


def _status_of(error: BaseException) -> Status:
    """The exit status that a failed command gives its script."""
    if isinstance(error, ScriptStopped) and error.__cause__ is not None:
        return _status_of(error.__cause__)
    if isinstance(error, JobFailed):
        return Status.JOB_FAILED
    if isinstance(error, ProtocolError):
        return Status.LOST
    return Status.FAILED


def parse_sources(
    sources: Sequence[Source],
    scope: Scope,
    err: TextIO | None = None,
    out: TextIO | None = None,
) -> list[Invocation] | None:
    """All commands of all sources, each read as what stands before it defines; None when there are
    mistakes, which are then all reported, to ``out`` as objects of JSON."""
    from monitor.language.parser import parse_script

    found: list[Invocation] = []
    sound = True
    for source in sources:
        try:
            found += parse_script(source.text, source.name, 1, scope)
        except MonitorError as error:
            report_mistakes(error, err or sys.stderr, out)
            sound = False
    return found if sound else None


def report_mistakes(
    error: MonitorError, err: TextIO, out: TextIO | None = None, place: str = PIPE
) -> None:
    """Each mistake that parsing met, with its place and the caret under it; with ``out`` there, as
    an object of JSON, too. ``place`` is of what has none of its own: a line inside a command."""
    from monitor.language.parser import ScriptErrors

    for mistake in error.errors if isinstance(error, ScriptErrors) else [error]:
        source = getattr(mistake, "source", PIPE)
        where = f"{source}:{getattr(mistake, 'line', 1)}" if source else place
        _say(err, f"{where}: Error: {error_text(mistake)}")
        if out is not None:
            _say(out, as_json({"error": {**described(mistake), "class": "SyntaxError"}}))


_RAW_BYTES = {0xDC00 + byte: f"\\x{byte:02x}" for byte in range(0x80, 0x100)}
"""Bytes that are no UTF-8, as ``decode_script`` keeps them: stderr would show the surrogates."""


def _say(err: TextIO, text: str) -> None:
    try:
        err.write(printable(text).translate(_RAW_BYTES) + "\n")
        err.flush()
    except OSError:
        # Nobody reads the errors either; the status still tells.
        pass


def _all_of(fd: int) -> bytes:
    with open(fd, "rb", closefd=False) as file:
        return file.read()


async def read_lines(fd: int) -> AsyncIterator[str]:
    """Lines of a pipe, terminal or file as they arrive, each with its newline if it had one."""
    import asyncio

    from monitor.servers.channel import FdChannel

    channel = FdChannel(fd, 1)
    arrived: asyncio.Queue[bytes] = asyncio.Queue()

    def received(data: bytes) -> None:
        channel.hold()  # the rest when these lines are done
        arrived.put_nowait(data)

    channel.listen(received)
    rest = b""
    while data := await arrived.get():
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield decode_script(line) + "\n"
        channel.go_on()
    if rest:
        yield decode_script(rest)
