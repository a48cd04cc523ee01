"""What the prompt takes from the process while it runs, and gives back on every way out."""

from __future__ import annotations

import asyncio
import contextlib
import io
import signal
import termios
from collections.abc import Callable, Iterator

ENDING = (signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def terminal_restored(fd: int) -> Iterator[Callable[[], None]]:
    """The terminal behind ``fd`` ends as it began: echo, line editing, signals from keys.

    Gives a function that does it before the process is ended on the spot.
    """
    try:
        saved = termios.tcgetattr(fd)
    except termios.error:
        saved = None

    def restore() -> None:
        if saved is not None:
            with contextlib.suppress(termios.error):  # hung up meanwhile
                termios.tcsetattr(fd, termios.TCSANOW, saved)

    try:
        yield restore
    finally:
        restore()


@contextlib.contextmanager
def signals_owned(
    interrupted: Callable[[], None], ended: Callable[[signal.Signals], None]
) -> Iterator[None]:
    """SIGINT calls ``interrupted``, SIGTERM and SIGHUP call ``ended``, all on the control loop.

    asyncio would answer SIGINT by cancelling the main task, with the graph half changed.
    """
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *ENDING)}
    loop.add_signal_handler(signal.SIGINT, interrupted)
    for number in ENDING:
        loop.add_signal_handler(number, ended, number)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


class _Above(io.TextIOBase):
    """A stream whose lines are printed above the prompt, from whichever thread they come."""

    def __init__(self, write: Callable[[str], None], loop: asyncio.AbstractEventLoop) -> None:
        self._write = write
        self._loop = loop
        self._rest = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        if lines:
            self._loop.call_soon_threadsafe(self._write, "\n".join(lines))
        return len(text)

    def finish(self) -> None:
        """Prints what has no newline yet."""
        if self._rest:
            self.write("\n")


@contextlib.contextmanager
def output_above(write: Callable[[str], None]) -> Iterator[None]:
    """What anyone prints to stdout or stderr (a warning, a library) goes through ``write``."""
    loop = asyncio.get_running_loop()
    out, err = _Above(write, loop), _Above(write, loop)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            yield
        finally:
            out.finish()
            err.finish()


def on_dumb_terminal(term: str | None) -> bool:
    """Whether the terminal understands no escape sequences (or is unknown)."""
    return term is None or term.lower() in ("", "dumb", "unknown")
