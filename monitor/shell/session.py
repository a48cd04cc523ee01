"""A session: one conversation with an engine, whoever holds it.

``Session`` is what command handlers see (``commands.registry.Session``) and carries out what the
parser understood. A line that is typed by someone who reads the answer before typing the next is in
``shell.dialogue``; scripts, which are parsed first and fail with a file and a line, in
``shell.script``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from monitor.commands.outcomes import outcomes_of
from monitor.commands.registry import Answer
from monitor.commands.render import render_result
from monitor.commands.settings import SETTINGS, Settings
from monitor.engine.api import Engine
from monitor.engine.errors import MonitorError
from monitor.engine.schema.base import Request
from monitor.engine.schema.monitor import Quit
from monitor.shell.directing import Stopwatch, collected, collecting, deliver, text_of
from monitor.shell.failures import (
    AlreadyRunning,
    CannotRecord,
    MarkedToFail,
    NotRecording,
    OutputClosed,
    ScriptStopped,
    told,
)
from monitor.shell.texts import look_ahead

if TYPE_CHECKING:
    from monitor.commands.macros import Macro
    from monitor.language.parser import Invocation
    from monitor.language.variables import Scope
    from monitor.shell.record import Recorder

PROMPT = "blkmon> "
CONTINUATION = "......> "

GROUP = " TRANS> "
"""The same inside ``transaction(`` … ``)``. All prompts are of one width."""


def continuation(text: str, line: int) -> str:
    """What stands before line ``line`` (from 1) of a command that ``text`` is: which bracket is
    open there. A recording has ``CONTINUATION`` in all cases."""
    from monitor.language.assembling import Assembler

    reader = Assembler()
    for before in text.split("\n")[:line]:
        reader.feed(before)
    return GROUP if reader.in_group else CONTINUATION


MOST_ENTERED = 10_000

MAX_INSIDE = 50
"""Files and named commands that run inside each other."""


class Session(ABC):
    """One conversation. Made and used on the control loop.

    A subclass says where output goes (``show``) and whether a person can be asked.
    """

    interactive = False
    """Whether a person can be asked."""

    plain = False
    """Whether a program reads the answers that expects QEMU's own texts and no more."""
    columns: int | None = None
    """How wide the terminal is that shows the output; None where there is none."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.settings = Settings()
        self.variables: dict[str, str] = {}
        self.macros: dict[str, Macro] = {}
        self.quitting = False
        """True once ``quit`` was carried out: nothing more is to be run."""
        self.recorder: Recorder | None = None
        self.entered: deque[str] = deque(maxlen=MOST_ENTERED)
        """Lines, or commands of a script, that were run here; the last of them."""
        self._files: list[str] = []
        outcomes_of(engine)  # remembers from now on how jobs end

    # -- output ------------------------------------------------------------------------------

    @abstractmethod
    def show(self, text: str) -> None:
        """Text for whoever holds the session, without its last newline."""

    def print(self, text: str) -> None:
        """A line of output now; it is also recorded, when there is a recording."""
        lines = collected()
        if lines is not None:
            lines.append(text)
            return
        if self.recorder is not None:
            self.recorder.output(text)
        self.show(text)

    async def ask(self, question: str) -> bool:
        """Yes or no; nobody is there to say yes unless a subclass knows better."""
        return False

    async def confirm(self, question: str) -> bool:
        """Whether to do what loses data: a person is asked, unless that was switched off; where
        nobody can be asked it is not done."""
        return not self.settings.is_on("confirm") or await self.ask(question)

    def request_quit(self) -> None:
        self.quitting = True

    def remark(self, text: str) -> None:
        """A line about the command, which is no output of it: shown and not recorded."""
        self.show(text)

    async def through_shell(self, shell: str, text: str) -> None:
        """Prints what the host shell's command makes of ``text``."""
        from monitor.shell.pipes import through_shell

        made = await through_shell(shell, text, self.variables)
        if made:
            self.print(made)

    def define(self, name: str, value: str) -> None:
        """What ``set`` does: a setting, or else a variable."""
        (self.settings if name in SETTINGS else self.variables)[name] = value

    # -- the language ------------------------------------------------------------------------

    def scope(self) -> Scope | None:
        """What names mean to the next line; None for QEMU's own language."""
        from monitor.language.variables import Scope

        return Scope(self.variables, self.macros, look_ahead)

    def parse(self, text: str, source: str, line: int = 1) -> list[Invocation]:
        """The commands of a text, with what variables mean now. Raises ScriptErrors."""
        from monitor.language.parser import parse_script

        return parse_script(text, source, line, self.scope())

    # -- commands ----------------------------------------------------------------------------

    async def carry_out(self, invocation: Invocation) -> Answer:
        """Does what one command says; the answer's text is "" when there is nothing to print.

        Raises MonitorError. An exception of any other kind is a mistake in this program: its
        traceback goes to the log and InternalError is raised in its place.
        """
        try:
            await self._ask_about_losses(invocation)
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

    async def _ask_about_losses(self, invocation: Invocation) -> None:
        """Raises NotDone where data would be lost and nobody wants that."""
        if self.plain or not self.settings.is_on("confirm"):
            return
        from monitor.shell.losses import NotDone, loss_of

        loss = await loss_of(invocation, self.engine)
        if loss is None or await self.ask(f"{loss}. Do it?"):
            return
        error = NotDone(loss)
        if not self.interactive:
            error.hint = "-y does it, and so does: set confirm off"
        raise error

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
        watch = Stopwatch()
        try:
            with collecting(invocation.output) as lines:
                answer = await self.carry_out(invocation)
                watch.answered()
                self.give(invocation, answer)
            if lines is not None:
                assert invocation.output is not None
                await deliver(self, invocation.output, lines)
        except MonitorError as error:
            await self.explain(error, invocation)
            if not invocation.mark:
                raise
            self.excused(invocation, error)
            return
        finally:
            if self.recorder is not None:
                self.recorder.ran(invocation)
        if self.settings.is_on("timing"):
            self.remark(watch.line())
        if invocation.mark == "!":
            raise MarkedToFail

    async def explain(self, error: MonitorError, invocation: Invocation) -> None:
        """Adds what helps a person: what to type instead, the nearest name to one that does not
        exist, and its place."""
        from monitor.commands.advice import advice
        from monitor.language.hints import explain, missing_device, missing_file

        error.hint = error.hint or advice(error, self.engine)
        explain(error, invocation, self.engine)
        path = missing_file(error)
        if path is not None:
            from monitor.shell.files import nearest_file

            error.hint = await nearest_file(path)
        device = missing_device(error)
        if device is not None:
            from monitor.shell.files import is_file

            if await is_file(device):
                error.hint = f"'{device}' is a file: drive_add opens one"
        if error.hint is not None and error.hint.startswith("Is another process"):
            from monitor.shell.files import opened_here

            here = await opened_here(error.hint, self.engine)
            error.hint = f"{error.hint}\n{here}" if here is not None else error.hint

    def give(self, invocation: Invocation, answer: Answer) -> None:
        """Prints what a command has answered."""
        text = text_of(self, invocation, answer)
        if text:
            self.print(text)

    @abstractmethod
    def excused(self, invocation: Invocation, error: MonitorError) -> None:
        """A command failed that may (``-``) or must (``!``)."""

    async def run_file(self, path: str) -> None:
        """Runs a script's commands here; nothing runs when any of it does not parse.

        Raises ScriptErrors, HostFailure when the file cannot be read, and what ``file_failed``
        raises.
        """
        await self._run_text(await self.read_file(path), path)

    async def read_file(self, path: str) -> str:
        """The text of a script. Raises HostFailure."""
        from monitor.shell.reading import read_apart

        return await read_apart(path)

    async def run_macro(self, macro: Macro, values: Mapping[str, str]) -> None:
        """Runs a named command. Its arguments hide variables of the same names meanwhile."""
        from monitor.language.variables import hidden

        with hidden(self.variables, values):
            await self._run_text(macro.body, macro.source)

    async def _run_text(self, text: str, source: str) -> None:
        """The commands of a text that stands elsewhere than the line that runs it."""
        if source in self._files or len(self._files) >= MAX_INSIDE:
            raise AlreadyRunning(source)
        self._files.append(source)
        try:
            for invocation in self.parse(text, source):
                if self.quitting:
                    return
                try:
                    await self.run(invocation)
                except MonitorError as error:
                    self.file_failed(source, invocation, error)
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

    def history(self) -> list[str]:
        """What was typed, the newest last."""
        return list(self.entered)

    async def type_again(self, text: str) -> None:
        """Shows a line and runs it. Raises what its commands raise."""
        self.print(text)
        for invocation in self.parse(text, ""):
            await self.run(invocation)

    async def watch(self, text: str, every: float, ended: Callable[[str, int], bool]) -> None:
        """Runs a line again and again; what it prints is printed when it has changed."""
        import asyncio

        from monitor.shell.watching import watch

        def show(output: str, before: str | None) -> None:
            if output != before:
                self.print(output)

        await watch(self, text, every, ended, show, asyncio.Event())

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
        self.entered.append(text)
        recorder = self.recorder
        if recorder is None:
            return await running
        async with recorder.entry(text) as entry:
            entry.failed = not await running
            entry.wanted = recorder is self.recorder
            return not entry.failed


def _answer_of_handler(given: Answer | str | None) -> Answer:
    if isinstance(given, Answer):
        return given
    text = given or ""
    return Answer(text or {}, lambda: text)
