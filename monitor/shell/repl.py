"""The prompt: reads a command, runs it, and goes on until ``quit``.

``run_prompt`` puts the parts together; ``PromptSession`` is the session that commands see.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from prompt_toolkit.history import History
from prompt_toolkit.utils import get_cwidth

from monitor.commands.registry import Answer
from monitor.commands.session import may_quit
from monitor.commands.waiting import announced
from monitor.engine.api import Engine, Event
from monitor.engine.errors import MonitorError
from monitor.engine.schema.job import JobCancel
from monitor.language.syntax import ParseError
from monitor.shell import guard
from monitor.shell.announce import Announcer, folded
from monitor.shell.borrowing import TerminalDialogue
from monitor.shell.disks import setup_lines
from monitor.shell.failures import heading, told
from monitor.shell.foreground import Foreground
from monitor.shell.history import StateHistory, history_path
from monitor.shell.jobs import tells_of, waited_for
from monitor.shell.keys import Mode
from monitor.shell.log import config_path, log_failure
from monitor.shell.plain import PlainScreen
from monitor.shell.screen import Screen
from monitor.shell.session import CONTINUATION, PROMPT
from monitor.shell.toolbar import is_live
from monitor.version import VERSION

if TYPE_CHECKING:
    from monitor.language.parser import Invocation
    from monitor.options import Options


_TOO_MANY_FAILURES = 10


async def run_prompt(engine: Engine, options: Options) -> int:
    """Lets a person steer ``engine`` until ``quit``; then jobs are cancelled and all is written.

    Stdin and stdout are a terminal. The status is 0; 128 and the signal's number when the process
    was told to end (SIGTERM) or the terminal went away (SIGHUP); 1 when drawing failed.
    """
    with (
        guard.terminal_restored(sys.stdin.fileno()) as restore_terminal,
        contextlib.closing(StateHistory(history_path())) as history,
    ):
        screen = make_screen(engine, history)
        prompt = PromptSession(engine, screen, restore_terminal, history)
        history.failed = prompt.history_failed
        if options.record is not None:
            prompt.record(options.record, await setup_lines(engine, options.disks))
        with (
            contextlib.closing(prompt),
            guard.signals_owned(screen.interrupt, prompt.told_to_end),
            guard.output_above(screen.print),
        ):
            status = await prompt.converse()
        screen.settle()
    if prompt.fatal is not None:
        print(f"Error: {prompt.fatal}", file=sys.stderr)
    return status


def make_screen(engine: Engine, history: StateHistory) -> Screen | PlainScreen:
    """The screen that this terminal can show."""
    if guard.on_dumb_terminal(os.environ.get("TERM")):
        return PlainScreen(sys.stdin.fileno(), sys.stdout.fileno(), is_complete)
    from monitor.shell.completer import CatalogueCompleter
    from monitor.shell.tty import open_terminal

    keyboard, output = open_terminal()
    completer = CatalogueCompleter(engine)
    screen = Screen(
        completer=completer,
        history=history,
        is_complete=is_complete,
        input=keyboard,
        output=output,
    )
    output.on_gone = screen.lose
    screen.completes_for = completer.serve
    completer.active = lambda: screen.mode is Mode.EDIT
    return screen


def is_complete(text: str) -> bool:
    """Whether Enter runs ``text``: no bracket, group or string in it is open."""
    from monitor.language.assembling import is_complete as no_bracket_open

    return no_bracket_open(text)


class PromptSession(TerminalDialogue):
    """A conversation with a person on a terminal."""

    interactive = True

    def __init__(
        self,
        engine: Engine,
        screen: Screen | PlainScreen,
        restore_terminal: Callable[[], None] = lambda: None,
        older: History | None = None,
    ) -> None:
        super().__init__(engine, screen)
        self._older = older
        self.settings.listeners.append(self)
        screen.use(self.settings)
        screen.completes_for(self)
        self._restore_terminal = restore_terminal
        self.fatal: MonitorError | None = None
        """Why the prompt had to end, when nobody asked it to."""
        self._announcer = Announcer(engine.jobs)
        self._foreground = Foreground(screen, self)
        self._running: Invocation | None = None
        self._waits: list[Invocation] = []  # in front or detached
        self._older_jobs: set[str] = set()
        self._typed = ""
        self._undisturbed = False  # whether the typed line still stands right above
        self._signal: signal.Signals | None = None
        self._failures = 0
        self._talking: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._poke = screen.watch(engine.jobs)

    # -- from the first prompt to the last ---------------------------------------------------

    async def converse(self) -> int:
        """Reads and runs commands, then closes the engine. The terminal stays ours until then."""
        self._loop.set_exception_handler(self._unexpected)
        unsubscribe = self.engine.subscribe(self._on_event)
        self._screen.on_interrupt = self.interrupted
        drawing = asyncio.create_task(self._screen.run())
        self._talking = asyncio.create_task(self._talk())
        try:
            await asyncio.wait({drawing, self._talking}, return_when=asyncio.FIRST_COMPLETED)
            if drawing.done():
                self._signal = self._signal or signal.SIGHUP  # gone, even if nobody told us
            await _cancelled(self._talking)
            await self._close()
        finally:
            unsubscribe()
            self._screen.close()
            await asyncio.wait({drawing})
            self._loop.set_exception_handler(None)
        if not drawing.cancelled() and (error := drawing.exception()) is not None:
            self.fatal = log_failure(error)
        if self.fatal is not None:
            return 1
        return 0 if self._signal is None else 128 + self._signal

    def told_to_end(self, number: signal.Signals) -> None:
        """SIGTERM, SIGHUP: as ``quit``, without a question. The second one ends the process on
        the spot; images survive that by their write order."""
        if self._signal is not None:
            self._restore_terminal()
            os._exit(128 + number)
        self._signal = number
        if self._talking is not None:
            self._talking.cancel()

    async def _talk(self) -> None:
        self.show(f"blkmon {VERSION} monitor - type 'help' for more information")
        await self._configure()
        threading.Thread(target=self._warm_up, daemon=True).start()
        while True:
            self._foreground.calm()
            try:
                typed = await self._screen.read()
            except EOFError:
                if await may_quit(self):
                    return
                continue
            self._failures = 0
            if typed.strip():
                await self._run(typed)
            if self.quitting:
                return

    async def _configure(self) -> None:
        """Runs the user's settings and named commands; a mistake in them is told and no more."""
        path = config_path()
        if not path.is_file():
            return
        try:
            await self.run_file(str(path))
        except MonitorError as error:
            self.print_error(error)

    def record(self, path: str | None, setup: Sequence[str] = ()) -> None:
        super().record(path, setup)
        if path is not None:
            hint = "Recording: jobs go on in `wait` and `step` only, as they will in a replay"
            self._screen.print(hint, "class:hint")

    def setting_changed(self, name: str) -> None:
        self._screen.use(self.settings)

    def history(self) -> list[str]:
        kept = self._older.get_strings() if self._older is not None else []
        return list(kept) or super().history()

    def _warm_up(self) -> None:
        """Loads what the first key will need, while the person looks at the first prompt."""
        try:
            from prompt_toolkit.lexers import PygmentsLexer

            import monitor.language.completion
            import monitor.language.parser  # noqa: F401  (is loaded when the first key needs it)
            from monitor.shell.highlight import prompt_lexer

            lexer = PygmentsLexer(prompt_lexer())
        except Exception as error:
            # Whatever is broken will say so where it is used.
            log_failure(error)
        else:
            self._screen.colour(lexer)

    async def _close(self) -> None:
        """Cancels jobs, writes back, waits for what was detached."""
        self._screen.on_interrupt = lambda: self.show("Closing: waiting for disks")
        for reading in self._readings:  # by detached commands
            reading.set()
        await self.engine.shut_down()
        if self._foreground.detached:
            await asyncio.wait(self._foreground.detached)

    # -- running -----------------------------------------------------------------------------

    async def _run(self, typed: str) -> None:
        self._typed = typed
        self._undisturbed = True
        self._running = None
        self._older_jobs = {job.id for job in self.engine.jobs()}
        self._screen.note(f"running: {typed.splitlines()[0]}  (Ctrl-C asks)")
        if not await self._foreground.run(self._in_front(typed)):
            self.show("Detached: the command goes on and reports when it ends")

    async def _in_front(self, typed: str) -> None:
        try:
            await self.enter(typed)
        except Exception as error:
            self.print_error(log_failure(error))
        if asyncio.current_task() in self._foreground.detached:
            self.show(f"Ended: {typed}")

    def interrupted(self) -> None:
        """Ctrl-C while a command runs: ``watch``, and the reading of a script, simply end; about
        others there is a question."""
        if self._stop_watching is not None:
            self._stop_watching.set()
        else:
            self._foreground.interrupt()

    async def run(self, invocation: Invocation) -> None:
        behind = invocation.output is not None and invocation.output.background
        if behind and self.in_front and self.recorder is None:
            self._foreground.detach()
        await super().run(invocation)

    @property
    def in_front(self) -> bool:
        return asyncio.current_task() is self._foreground.task

    async def carry_out(self, invocation: Invocation) -> Answer:
        if asyncio.current_task() is self._foreground.task:
            self._running = invocation
        if invocation.name != "wait":
            return await super().carry_out(invocation)
        self._waits.append(invocation)
        try:
            return await super().carry_out(invocation)
        finally:
            self._waits.remove(invocation)

    def jobs(self) -> Sequence[str]:
        """For Ctrl-C: the jobs that the command in front waits for or has begun."""
        live = [job.id for job in self.engine.jobs() if is_live(job)]
        running = self._running
        return [
            job
            for job in live
            if job not in self._older_jobs or (running is not None and waited_for(running, job))
        ]

    async def cancel(self, job: str) -> None:
        try:
            await self.engine.execute(JobCancel(id=job))
        except MonitorError as error:
            self.print_error(error)

    # -- speaking ----------------------------------------------------------------------------

    def show(self, text: str) -> None:
        self._undisturbed = False
        self._screen.print(text)

    async def ask(self, question: str) -> bool:
        while True:
            answer = await self._screen.ask(f"{question} [y/N] ", typed_ahead=True)
            if answer.lower() in ("y", "yes"):
                return True
            if answer.lower() in ("", "n", "no"):
                return False

    def print_error(self, error: MonitorError) -> None:
        """The caret under the typed line, ``Error:`` and the text, and the hint."""
        # A recording says it as its replay will, which has no line above.
        self.record_error(error)
        mark = error if isinstance(error, ParseError) else error.mark
        if isinstance(mark, ParseError) and not mark.source:
            text = f"{self._caret(mark)}\n{heading(error)}{error.text}"
        else:
            text = told(error).removesuffix(f"\n{error.hint}")
        self._undisturbed = False
        self._screen.print(text, "class:error")
        if error.hint:
            self._screen.print(error.hint, "class:hint")

    def _caret(self, error: ParseError) -> str:
        """The caret, with the line only when it does not stand right above as it was typed."""
        lines = self._typed.split("\n")
        prompt = PROMPT if error.line == 1 else CONTINUATION
        room = self._screen.columns
        stands = self._undisturbed and error.text_line == lines[-1].rstrip("\r")
        if stands and error.line == len(lines) and get_cwidth(prompt + error.text_line) < room:
            return " " * len(prompt) + error.caret().split("\n")[-1]
        return error.caret(room)

    def _on_event(self, event: Event) -> None:
        self._poke()
        line = self._announcer.line(event)
        if any(
            tells_of(wait, event) and not announced(self, wait.arguments["jobs"])
            for wait in self._waits
        ):
            return  # ``wait`` is about to say so
        if line is not None and self.settings.tells(event.name):
            self._undisturbed = False
            self._screen.print(folded(line, self._screen.columns), "class:event")

    def history_failed(self, error: OSError) -> None:
        """Called by the history's thread."""
        note = f"The history is not kept: {error.strerror}: '{error.filename or history_path()}'"
        self._loop.call_soon_threadsafe(self._screen.print, note, "class:hint")

    def _unexpected(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An exception that nobody waited for: our bug, unless the terminal has gone."""
        error = context.get("exception") or RuntimeError(context["message"])
        self._failures += 1
        if self._failures > _TOO_MANY_FAILURES:
            # Drawing itself fails: saying so would only draw again.
            self.fatal = self.fatal or log_failure(error)
            self._screen.lose()
        else:
            self._screen.print(f"Error: {log_failure(error)}", "class:error")


async def _cancelled(task: asyncio.Task[None]) -> None:
    """Ends ``task``; its own failure is raised."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
