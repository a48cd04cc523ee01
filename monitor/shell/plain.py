"""The prompt on a terminal that understands no escape sequences (``TERM=dumb``).

The terminal itself edits the line, there is no menu and no toolbar, and no byte is written that
is not text. It offers what ``screen.Screen`` offers.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable

from monitor.engine.api import JobSnapshot
from monitor.shell.session import PROMPT, continuation
from monitor.shell.texts import printable


class PlainScreen:
    """Lines from the terminal ``fd_in``, text to ``fd_out``. See ``Screen`` for the contract."""

    def __init__(self, fd_in: int, fd_out: int, is_complete: Callable[[str], bool]) -> None:
        self.is_complete = is_complete
        self.on_interrupt: Callable[[], None] = lambda: None
        self.completes_for: Callable[[object], None] = lambda session: None
        self._in = fd_in
        self._out = fd_out
        self._typed = b""
        self._ends = 0
        self._lines: list[str] = []
        self._closed = asyncio.Event()
        self._waiting: asyncio.Future[str] | None = None
        self._shown = ""  # the prompt that the cursor stands behind
        self._dropped = False

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._in, self._readable)
        try:
            await self._closed.wait()
        finally:
            loop.remove_reader(self._in)

    def close(self) -> None:
        self._closed.set()

    def lose(self) -> None:
        self._closed.set()

    def watch(self, jobs: Callable[[], list[JobSnapshot]]) -> Callable[[], None]:
        """Nothing: there is no place for live jobs."""
        return lambda: None

    def settle(self) -> None:
        """Nothing is kept back."""

    @property
    def rows(self) -> int:
        return shutil.get_terminal_size().lines

    @property
    def columns(self) -> int:
        return shutil.get_terminal_size().columns

    async def read(self, text: str = "") -> str:
        lines = [text] if text else []
        if text:
            self.print(text)
        while True:
            more = continuation("\n".join(lines), len(lines)) if lines else PROMPT
            lines.append(await self._line(more))
            if self._dropped:
                lines.clear()
            elif self.is_complete("\n".join(lines)):
                return "\n".join(lines)

    async def ask(
        self, question: str, *, typed_ahead: bool = False, keys: str = "", interrupt: str = ""
    ) -> str:
        if keys:
            question = f"{question}(and Enter) "
        if not typed_ahead:
            self._lines.clear()
        try:
            answer = (await self._line(question)).strip()
            return interrupt if self._dropped else answer
        except EOFError:
            return ""

    def interrupt(self) -> None:
        """SIGINT: drops the line, or asks about the command."""
        self._typed = b""
        if self._waiting is not None and not self._waiting.done():
            self._dropped = True
            self._shown = ""
            self._write("\n")
            self._waiting.set_result("")
        else:
            self.on_interrupt()

    def print(self, text: str, style: str = "") -> None:
        lead = "\n" if self._shown else ""
        self._write(f"{lead}{printable(text)}\n{self._shown}")

    def note(self, text: str) -> None:
        """Nothing: there is no line to put it on."""

    def use(self, settings: object) -> None:
        """Nothing: the terminal has its own keys."""

    async def lend(self, run: Callable[[], None]) -> None:
        """Another program has the terminal while ``run`` is carried out by a thread."""
        await asyncio.to_thread(run)

    def show_live(self, fragments: object) -> None:
        """Nothing: text that was written stays."""

    def colour(self, lexer: object) -> None:
        """Nothing: there are no colours."""

    def flush(self) -> None:
        """Nothing is ever pending."""

    async def _line(self, prompt: str) -> str:
        self._dropped = False
        self._shown = prompt
        self._write(prompt)
        self._waiting = asyncio.get_running_loop().create_future()
        self._deliver()
        try:
            return await self._waiting
        finally:
            self._shown = ""

    def _readable(self) -> None:
        try:
            data = os.read(self._in, 65536)
        except OSError:
            self._closed.set()
            return
        if not data:
            # Ctrl-D at the start of a line; a terminal that is gone says so again and again.
            self._ends += 1
            if self._ends > 2:
                self._closed.set()
            elif self._waiting is not None and not self._waiting.done():
                self._write("\n")
                self._waiting.set_exception(EOFError())
            return
        self._ends = 0
        *whole, self._typed = (self._typed + data).split(b"\n")
        self._lines += [line.decode("utf-8", "replace") for line in whole]
        self._deliver()

    def _deliver(self) -> None:
        if self._lines and self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(self._lines.pop(0))

    def _write(self, text: str) -> None:
        data = text.encode("utf-8", "replace")
        while data:
            data = data[os.write(self._out, data) :]
