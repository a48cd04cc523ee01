"""The terminal while the monitor runs: one prompt_toolkit application from the first prompt to
the end.

The application is not made anew for each line, as ``PromptSession`` has it: between two prompts the
terminal would leave raw mode, echo what is typed and lose the toolbar. Instead the input line is
in one of three modes::

    EDIT   a command is being typed        ── Enter ──▶  BUSY
    BUSY   a command runs; keys are kept for the next prompt, Ctrl-C asks
    ASK    a question about what runs, or before quitting

Everything printed goes above the input line (``Screen.print``): the drawn lines are taken away, the
text is written, and they are drawn again. The terminal stays raw throughout and is never asked
for the cursor's position, so what is being typed, searched or chosen from the menu is not touched.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from prompt_toolkit.application import Application, run_in_terminal
from prompt_toolkit.application.current import create_app_session
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import Completer
from prompt_toolkit.document import Document
from prompt_toolkit.enums import EditingMode
from prompt_toolkit.filters import Condition, is_searching
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import History
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyPress
from prompt_toolkit.lexers import DynamicLexer, Lexer, SimpleLexer
from prompt_toolkit.output import Output
from prompt_toolkit.renderer import print_formatted_text

from monitor.commands.settings import Settings
from monitor.engine.api import JobSnapshot
from monitor.shell import layout
from monitor.shell.keys import Mode
from monitor.shell.texts import printable
from monitor.shell.toolbar import LiveJobs

if TYPE_CHECKING:
    from monitor.shell.session import Session

FLUSH_INTERVAL = 0.05
"""Seconds between two writes above the line: a storm of events costs 20 redraws a second."""

_BUSY_NOTE_AFTER = 0.4


class Screen:
    """Reads lines and prints text. ``run`` must be running while ``read`` or ``ask`` waits.

    ``is_complete`` says whether Enter runs a text or continues it; ``on_interrupt`` is called for
    Ctrl-C (or SIGINT) while a command runs.
    """

    def __init__(
        self,
        *,
        completer: Completer,
        history: History,
        is_complete: Callable[[str], bool],
        input: Input,
        output: Output,
    ) -> None:
        self.is_complete = is_complete
        self.on_interrupt: Callable[[], None] = lambda: None
        self.completes_for: Callable[[Session], None] = lambda session: None
        self.jobs: LiveJobs | None = None
        self.lexer: Lexer | None = None
        self.mode = Mode.BUSY
        self.line = Buffer(
            name="line",
            completer=completer,
            complete_while_typing=~is_searching,
            history=history,
            enable_history_search=True,
            auto_suggest=AutoSuggestFromHistory(),
            multiline=True,
            max_number_of_completions=1000,
        )
        self.answer = Buffer(name="answer", multiline=False)
        self.question = ""
        self.answer_keys = ""
        """Keys that answer the question by themselves, without Enter."""
        self._interrupt = ""
        self.settings = Settings()
        self.live: StyleAndTextTuples = []
        """What is shown in place while a command runs (``watch``)."""
        self.busy_note = ""
        self._noted = ""
        self.typed_ahead: list[KeyPress] = []
        self._result: asyncio.Future[str] | None = None
        self._pending: StyleAndTextTuples = []
        self._flushed = 0.0
        self._flush_planned: asyncio.TimerHandle | None = None
        self._note_planned: asyncio.TimerHandle | None = None
        self._held = 0
        self._output = output
        with create_app_session(input=input, output=output):
            self.parts = layout.build(self)
            self.app: Application[None] = self.parts.application

    # -- the life of the application ---------------------------------------------------------

    async def run(self) -> None:
        """Draws and handles keys until ``close``, or until the terminal is gone.

        Whatever ends it, the terminal is as it was before.
        """
        with contextlib.suppress(EOFError):
            await self.app.run_async(set_exception_handler=False, handle_sigint=False)

    def interrupt(self) -> None:
        """SIGINT from elsewhere: what Ctrl-C does, unless another program has the terminal."""
        if self._held:
            return
        self.app.key_processor.send_sigint()

    def redraw(self) -> None:
        """Something shown has changed."""
        if not self.congested:
            self.app.invalidate()

    @property
    def congested(self) -> bool:
        """Whether the terminal takes nothing at present."""
        return bool(getattr(self._output, "congested", False))

    def use(self, settings: Settings) -> None:
        """Keys as ``settings`` say, also when they change."""
        self.settings = settings
        self.app.editing_mode = EditingMode.VI if settings.is_on("vi") else EditingMode.EMACS

    def close(self) -> None:
        """Ends ``run`` when what is pending has been printed."""
        self.flush()
        if self.app.is_running and not self.app.is_done:
            self.app.exit()

    def lose(self) -> None:
        """The terminal is gone: ``run`` ends."""
        if self.app.is_running and not self.app.is_done:
            self.app.exit(exception=EOFError())

    def colour(self, lexer: Lexer) -> None:
        """Colours the line from now on. May be called from any thread."""
        self.lexer = lexer
        with contextlib.suppress(RuntimeError):  # the session ends this very moment
            self.redraw()

    def watch(self, jobs: Callable[[], list[JobSnapshot]]) -> Callable[[], None]:
        """Shows the jobs that live below the line. To be called when one may have changed."""
        self.jobs = LiveJobs(jobs, self.redraw, asyncio.get_running_loop())
        return self.jobs.poke

    def settle(self) -> None:
        """Waits until the terminal has taken what was written; not for ever."""
        wait = getattr(self._output, "settle", None)
        if wait is not None:
            wait()

    @property
    def rows(self) -> int:
        return self._output.get_size().rows

    @property
    def columns(self) -> int:
        return self._output.get_size().columns

    # -- reading -----------------------------------------------------------------------------

    async def read(self, text: str = "") -> str:
        """The next command text, one or more lines. ``text`` is there to be edited at first.

        Raises EOFError for Ctrl-D on an empty line.
        """
        if text:
            self.line.document = Document(text)
        return await self._wait(Mode.EDIT, replay=True)

    async def ask(
        self, question: str, *, typed_ahead: bool = False, keys: str = "", interrupt: str = ""
    ) -> str:
        """One line in answer to ``question``; "" for Enter or Ctrl-D alone, ``interrupt`` for
        Ctrl-C. Each of ``keys`` is an answer by itself.

        Keys that were typed before the question answer it only with ``typed_ahead``.
        """
        self.question, self.answer_keys, self._interrupt = question, keys, interrupt
        self.answer.reset()
        try:
            return await self._wait(Mode.ASK, replay=typed_ahead)
        finally:
            if self._noted:
                self.note(self._noted)

    async def _wait(self, mode: Mode, *, replay: bool) -> str:
        self.flush()
        self._result = asyncio.get_running_loop().create_future()
        self._enter(mode)
        if replay:
            keys, self.typed_ahead = self.typed_ahead, []
            self.app.key_processor.feed_multiple(keys)
            self.app.key_processor.process_keys()
        try:
            return await self._result
        finally:
            self._enter(Mode.BUSY)

    def _enter(self, mode: Mode) -> None:
        self.mode = mode
        self.busy_note = ""
        if mode is Mode.EDIT:
            self._noted = ""
        if self._note_planned is not None:
            self._note_planned.cancel()
            self._note_planned = None
        self.app.layout.focus(self.parts.focus[mode])
        self.app.invalidate()

    def note(self, text: str) -> None:
        """``text`` stands where the prompt was, if the command still runs in a moment; after a
        question again."""

        def show() -> None:
            if self.mode is Mode.BUSY:
                self.busy_note = text
                self.app.invalidate()

        self._noted = text
        if self._note_planned is not None:
            self._note_planned.cancel()
        self._note_planned = asyncio.get_running_loop().call_later(_BUSY_NOTE_AFTER, show)

    def accept(self) -> None:
        """Enter: hands the line over and leaves it above, or answers the question."""
        if self.mode is Mode.ASK:
            self._commit(self.question, self.answer.text)
            self._deliver(self.answer.text.strip())
            return
        text = self.line.text
        self._commit_line(text)
        self.line.append_to_history()
        self._clear_line()
        self._deliver(text)

    def drop(self) -> None:
        """Ctrl-C at the prompt: the line stays above, marked, and a new one begins. At a question
        it is an answer."""
        if self.mode is Mode.ASK:
            self._commit(self.question, self.answer.text + "^C")
            self._deliver(self._interrupt)
            return
        self._commit_line(self.line.text + "^C")
        self._clear_line()

    def end_of_input(self) -> None:
        """Ctrl-D on an empty line."""
        if self.mode is Mode.ASK:
            self._commit(self.question, "")
            self._deliver("")
        elif self._result is not None and not self._result.done():
            self._commit_line("")
            self.mode = Mode.BUSY
            self._result.set_exception(EOFError())

    def _deliver(self, text: str) -> None:
        # From here on keys are kept, also those of the same read from the terminal.
        self._enter(Mode.BUSY)
        if self._result is not None and not self._result.done():
            self._result.set_result(text)

    def _clear_line(self) -> None:
        self.line.reset()
        self.line.load_history_if_not_yet_loaded()
        self.parts.menu_rows = 0

    # -- printing ----------------------------------------------------------------------------

    def print(self, text: str, style: str = "") -> None:
        """``text`` and a newline, above the input line, soon. Control characters are escaped."""
        self._pending.append((style, printable(text) + "\n"))
        self._plan_flush()

    def flush(self) -> None:
        """Prints what is pending now."""
        if self._flush_planned is not None:
            self._flush_planned.cancel()
            self._flush_planned = None
        if self._held or not self._pending:
            return
        fragments, self._pending = self._pending, []
        if self.app.is_running:
            self.app.renderer.erase()
        style, depth = self.app.renderer.style, self.app.color_depth
        print_formatted_text(self._output, fragments, style, color_depth=depth)
        self.app.invalidate()
        with contextlib.suppress(RuntimeError):  # no loop yet, or no longer
            self._flushed = asyncio.get_running_loop().time()

    def _plan_flush(self) -> None:
        if self._flush_planned is not None or self._held:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
            return
        wait = max(0.0, self._flushed + FLUSH_INTERVAL - loop.time())
        self._flush_planned = loop.call_later(wait, self._flush_as_planned)

    def _flush_as_planned(self) -> None:
        self._flush_planned = None
        if self.congested:
            self._flushed = asyncio.get_running_loop().time()
            self._plan_flush()
            return
        self.flush()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """While an editor, or the shell that started us, has the terminal: nothing is printed."""
        self.flush()
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            self._plan_flush()

    def _commit(self, prompt: str, text: str) -> None:
        self._pending += [("class:question", prompt), ("", printable(text) + "\n")]
        self.flush()

    def _commit_line(self, text: str) -> None:
        lex = (self.lexer or SimpleLexer()).lex_document(Document(text))
        for number in range(text.count("\n") + 1):
            self._pending += [layout.line_prompt(number, text), *lex(number), ("", "\n")]
        self.flush()

    async def lend(self, run: Callable[[], None]) -> None:
        """Another program has the terminal while ``run``, which waits for it, is carried out by a
        thread."""
        with self.held():

            def settled() -> None:
                self.settle()  # what was drawn has been taken away, on the screen too
                run()

            await run_in_terminal(settled, in_executor=True)

    def show_live(self, fragments: StyleAndTextTuples) -> None:
        """Shows text in place, below all that was printed, while a command runs."""
        self.live = fragments
        self.redraw()

    # -- what the layout asks ----------------------------------------------------------------

    def in_mode(self, mode: Mode) -> Condition:
        return Condition(lambda: self.mode is mode)

    @property
    def dynamic_lexer(self) -> Lexer:
        """Colours, once the lexer has been loaded."""
        return DynamicLexer(lambda: self.lexer)
