"""This process's terminal, for the screen."""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections import deque
from collections.abc import Callable

from prompt_toolkit.input import Input, create_input
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.output.vt100 import Vt100_Output

_GONE = frozenset({errno.EIO, errno.EBADF, errno.EPIPE, errno.ENXIO})

CONGESTED = 64 << 10
"""Bytes that the terminal has not taken yet from which on nothing more is drawn."""

PATIENCE = 2.0
"""Seconds that the end waits for a terminal that takes nothing."""


class TerminalOutput(Vt100_Output):
    """Standard output, written by a thread: a terminal that takes nothing (Ctrl-S, a stopped
    multiplexer) holds up no command and no job.

    When it has hung up, ``on_gone`` is called on the thread that flushes next; no more is written.
    """

    on_gone: Callable[[], None] = staticmethod(lambda: None)
    gone = False
    _writer: _Writer | None = None

    def flush(self) -> None:
        if self._writer is None:
            self._writer = _Writer(self.stdout.fileno())
        if self._buffer:
            data = "".join(self._buffer).encode(self.encoding(), "replace")
            self._buffer = []
            self._writer.put(data)
        if self._writer.failed and not self.gone:
            self.gone = True
            self.on_gone()

    @property
    def congested(self) -> bool:
        """Whether so much waits for the terminal that drawing more is no use."""
        return self._writer is not None and self._writer.waiting > CONGESTED

    def settle(self) -> None:
        """Waits until the terminal has taken everything; not for ever."""
        if self._writer is not None:
            self._writer.settle(PATIENCE)


class _Writer:
    """Writes to ``fd`` in order, in a thread of its own that never keeps the process."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._data: deque[bytes] = deque()
        self._changed = threading.Condition()
        self.waiting = 0
        """Bytes that are not written yet."""
        self.failed = False
        threading.Thread(target=self._write, name="terminal", daemon=True).start()

    def put(self, data: bytes) -> None:
        with self._changed:
            self._data.append(data)
            self.waiting += len(data)
            self._changed.notify_all()

    def settle(self, patience: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self.waiting or self.failed, patience)

    def _write(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._data)
                data = self._data.popleft()
            self._write_all(data)
            with self._changed:
                self.waiting -= len(data)
                self._changed.notify_all()

    def _write_all(self, data: bytes) -> None:
        while data and not self.failed:
            try:
                data = data[os.write(self._fd, data) :]
            except OSError as error:
                # Whatever it is, nobody can be told on this terminal.
                self.failed = self.failed or error.errno in _GONE or error.errno != errno.EINTR


def open_terminal() -> tuple[Input, TerminalOutput]:
    """Standard input and output, in as many colours as the terminal and NO_COLOR say.

    The cursor's position is never asked for: nothing that is drawn depends on it.
    """
    # from_env respects NO_COLOR.
    output = TerminalOutput.from_pty(sys.stdout, os.environ.get("TERM"), ColorDepth.from_env())
    assert isinstance(output, TerminalOutput)
    output.enable_cpr = False
    return create_input(sys.stdin), output
