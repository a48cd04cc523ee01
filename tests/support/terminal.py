"""A program on a pseudo-terminal, and what a person would see there.

pexpect starts it, pyte keeps the screen. Nothing sleeps: ``until`` reads what the program writes
until the screen shows what is wanted, or the deadline has passed and the screen is the message.
"""

from __future__ import annotations

import os
import signal
import termios
import time
from collections.abc import Callable, Mapping, Sequence

import pexpect
import pyte

DEADLINE = 30.0

PROMPT = "blkmon> "


def at_prompt(typed: str = "") -> Callable[[Terminal], bool]:
    """The cursor stands at the prompt, behind ``typed``. Right behind a ``send`` that leaves the
    prompt as it is this holds before anything was read: see ``Terminal.enter``."""
    return lambda terminal: terminal.current == f"{PROMPT}{typed}"


class Terminal:
    """``argv`` on a terminal of ``columns`` by ``rows``."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        columns: int = 80,
        rows: int = 24,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
    ) -> None:
        self.written = b""
        """Every byte that the program wrote."""
        self._screen = pyte.HistoryScreen(columns, rows, history=20_000)
        self._stream = pyte.ByteStream(self._screen)
        self._child = pexpect.spawn(
            argv[0],
            list(argv[1:]),
            dimensions=(rows, columns),
            env={**os.environ, "TERM": "xterm", **(env or {})},
            cwd=cwd,
            echo=True,
        )
        self._child.delaybeforesend = None

    @property
    def pid(self) -> int:
        return int(self._child.pid)

    @property
    def lines(self) -> list[str]:
        """The rows of the screen, without blanks at their ends."""
        return [row.rstrip() for row in self._screen.display]

    @property
    def text(self) -> str:
        """What scrolled away, and the screen, without empty rows at the end."""
        columns = range(self._screen.columns)
        above = ["".join(row[x].data for x in columns).rstrip() for row in self._screen.history.top]
        return "\n".join([*above, *self.lines]).rstrip()

    @property
    def current(self) -> str:
        """The row that the cursor is in, up to the cursor."""
        cursor = self._screen.cursor
        return str(self._screen.display[cursor.y][: cursor.x])

    def send(self, text: str) -> None:
        """Types ``text`` (``\\r`` is Enter)."""
        self._child.send(text)

    def control(self, letter: str) -> None:
        """Types Ctrl and ``letter``."""
        self._child.sendcontrol(letter)

    def until(self, wanted: str | Callable[[Terminal], object], deadline: float = DEADLINE) -> None:
        """Reads until ``wanted`` (a text anywhere, or a condition) holds; fails with the screen."""
        end = time.monotonic() + deadline
        more = True
        while not (wanted in self.text if isinstance(wanted, str) else wanted(self)):
            left = end - time.monotonic()
            if left <= 0 or not more:
                what = repr(wanted) if isinstance(wanted, str) else "the condition"
                raise AssertionError(f"{what} did not come; the screen:\n{self.text}")
            more = self._read(left)

    def ended(self, deadline: float = DEADLINE) -> int:
        """Reads to the end; the exit status, negative for a signal as subprocess has it."""
        end = time.monotonic() + deadline
        while self._read(max(0.0, end - time.monotonic())):
            pass
        self._child.close()
        if self._child.signalstatus is not None:
            return -int(self._child.signalstatus)
        assert self._child.exitstatus is not None
        return int(self._child.exitstatus)

    def enter(self, line: str) -> None:
        """Types a line and Enter at the prompt; done when it has run and the prompt is back."""
        self.send(f"{line}\r")
        self.until(lambda t: f"{PROMPT}{line}" in t.lines and at_prompt()(t))

    def resize(self, columns: int, rows: int) -> None:
        """The person makes the window another size."""
        self._screen.resize(rows, columns)
        self._child.setwinsize(rows, columns)

    def hang_up(self) -> None:
        """The person closes the window."""
        os.close(self._child.fileno())
        self._child.closed = True
        self._child.child_fd = -1

    def echoes(self) -> bool:
        """Whether the terminal is in the mode that a shell expects: echo, and line by line."""
        local = termios.tcgetattr(self._child.child_fd)[3]
        return bool(local & termios.ECHO) and bool(local & termios.ICANON)

    def kill(self) -> None:
        """Ends the program if it still runs."""
        if self._child.closed:
            return
        if self._child.isalive():
            # ``close`` by itself gives a busy machine a tenth of a second for it.
            self._child.kill(signal.SIGKILL)
            self._child.wait()
        self._child.close()

    def _read(self, timeout: float) -> bool:
        """Takes what is there within ``timeout``; False at the end or when nothing came."""
        try:
            data = self._child.read_nonblocking(65536, timeout)
        except (pexpect.EOF, pexpect.TIMEOUT):
            return False
        self.written += data
        self._stream.feed(data)
        return True
