"""A dialogue on a terminal, as far as output goes: what is taller than the screen goes through a
pager, a pipe's program has the terminal meanwhile, ``watch`` shows its output in place."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

from monitor.commands.registry import Answer
from monitor.engine.api import Engine
from monitor.shell.dialogue import Dialogue
from monitor.shell.directing import collected, form_of, text_of
from monitor.shell.failures import ReadingStopped
from monitor.shell.folding import folded
from monitor.shell.pager import height, page, run_in_shell
from monitor.shell.pipes import ShellCommandFailed
from monitor.shell.texts import printable
from monitor.shell.watching import watch, with_changes

if TYPE_CHECKING:
    from monitor.language.parser import Invocation
    from monitor.shell.plain import PlainScreen
    from monitor.shell.screen import Screen


class TerminalDialogue(Dialogue):
    """``in_front`` says whether the command that asks is the one that the person waits for."""

    def __init__(self, engine: Engine, screen: Screen | PlainScreen) -> None:
        super().__init__(engine)
        self._screen = screen
        self._paged = ""
        self._stop_watching: asyncio.Event | None = None
        """Set by Ctrl-C, which ends the command in front and asks nothing."""
        self._readings: set[asyncio.Event] = set()
        """One for each script that is being read; set, it ends that."""

    @property
    @abstractmethod
    def in_front(self) -> bool:
        """Whether this task's command is in front: only that one may have the terminal."""

    @property
    def columns(self) -> int:  # type: ignore[override]
        return self._screen.columns

    def give(self, invocation: Invocation, answer: Answer) -> None:
        """What does not fit the screen is kept for the pager, where that is wanted."""
        text = text_of(self, invocation, answer)
        if collected() is not None or not text:
            super().give(invocation, answer)
            return
        if self.recorder is not None:
            self.recorder.output(text)
        if answer.prose and form_of(self, invocation) == "text":
            text = folded(text, self._screen.columns)
        pages = self.settings["pager"] == "auto" and self.in_front
        if pages and height(text, self._screen.columns) >= self._screen.rows:
            self._paged = text
        else:
            self.show(text)

    async def run(self, invocation: Invocation) -> None:
        try:
            await super().run(invocation)
        finally:
            text, self._paged = self._paged, ""
            if text:
                await self._page(text)

    async def _page(self, text: str) -> None:
        """Through the pager, with what was seen left on the screen; printed where there is none."""
        try:
            await self._screen.lend(lambda: page(printable(text)))
        except OSError as error:
            self._screen.print(text)
            self._screen.print(f"The pager cannot be run: {error}", "class:hint")

    async def through_shell(self, shell: str, text: str) -> None:
        """The host's shell has the terminal, so that pagers and editors work; its output is caught
        where a recording wants it, or another command."""
        if self.recorder is not None or collected() is not None or not self.in_front:
            await super().through_shell(shell, text)
            return
        ended: list[int] = []
        await self._screen.lend(lambda: ended.append(run_in_shell(shell, text, self.variables)))
        if any(ended):
            raise ShellCommandFailed(shell, ended[0])

    async def read_file(self, path: str) -> str:
        """Ctrl-C ends it: nothing has begun that it could leave half done.
        Raises ReadingStopped then."""
        stopped, before = asyncio.Event(), self._stop_watching
        if self.in_front:
            self._stop_watching = stopped
        self._readings.add(stopped)
        reading = asyncio.ensure_future(super().read_file(path))
        stopping = asyncio.ensure_future(stopped.wait())
        try:
            await asyncio.wait({reading, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                return reading.result()
            raise ReadingStopped(path)
        finally:
            if self._stop_watching is stopped:
                self._stop_watching = before
            self._readings.remove(stopped)
            reading.cancel()
            stopping.cancel()

    async def watch(self, text: str, every: float, ended: Callable[[str, int], bool]) -> None:
        stopped = self._stop_watching = asyncio.Event()
        self._screen.note(f"{text}: every {every:g} s  (Ctrl-C ends it)")

        def show(output: str, before: str | None) -> None:
            rows = printable(output).split("\n")[: max(1, self._screen.rows - 3)]
            self._screen.show_live([*with_changes("\n".join(rows), before)])

        try:
            output = await watch(self, text, every, ended, show, stopped)
        finally:
            self._stop_watching = None
            self._screen.show_live([])
        self.print(output)
