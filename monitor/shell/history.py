"""What was typed before, in the user's state folder.

The file is ``$XDG_STATE_HOME/blkmon/history`` (``~/.local/state`` by default), mode 0600. An entry
is a comment line with the time and the typed lines, each behind a ``+`` (prompt_toolkit's format).
Two shells may share it: an entry is one appending write under a lock, and each shell keeps the
order of its own lines. Entries are written by a thread, so that a slow home never holds the prompt.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from prompt_toolkit.history import History

from monitor.shell.log import state_folder

KEPT = 1 << 20
"""Bytes of the file that are read, and that remain when it is cut."""
LIMIT = 2 * KEPT
"""Bytes from which the file is cut back to ``KEPT``."""


def history_path() -> Path:
    """Where the history of this user is kept."""
    return state_folder() / "history"


class StateHistory(History):
    """Typed lines, most recent last. A file that cannot be used leaves a history for the session.

    ``failed`` is called from the writing thread, once, with the first error. A line that begins
    with a blank is remembered by the session and not written, as shells have it.
    """

    def __init__(
        self,
        path: Path,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self._path = path
        self.failed: Callable[[OSError], None] = lambda error: None
        self._clock = clock
        self._broken = False
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="history")

    def load_history_strings(self) -> Iterable[str]:
        """Entries of earlier sessions, the most recent first; none when there is no file."""
        try:
            with self._path.open("rb") as file:
                text = _tail(file.fileno(), KEPT)
        except OSError:
            return []
        return reversed(_entries(text.decode("utf-8", "replace")))

    def store_string(self, string: str) -> None:
        if not self._broken and not string.startswith(" "):
            self._writer.submit(self._append, _record(string, self._clock()))

    def close(self) -> None:
        """Waits until everything is written."""
        self._writer.shutdown()

    def _append(self, record: bytes) -> None:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                _append_locked(fd, record)
            finally:
                os.close(fd)
        except OSError as error:
            if not self._broken:
                self._broken = True
                self.failed(error)


def _append_locked(fd: int, record: bytes) -> None:
    # A file that another program made readable for all is closed again.
    os.fchmod(fd, 0o600)
    with contextlib.suppress(OSError):  # no locks on this file system: O_APPEND alone has to do
        fcntl.flock(fd, fcntl.LOCK_EX)
    if os.fstat(fd).st_size > LIMIT:
        kept = _tail(fd, KEPT)
        os.ftruncate(fd, 0)
        os.write(fd, kept)
    os.write(fd, record)


def _record(text: str, now: float) -> bytes:
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
    lines = "".join(f"+{line}\n" for line in text.split("\n"))
    return f"\n# {stamp}\n{lines}".encode("utf-8", "surrogateescape")


def _tail(fd: int, count: int) -> bytes:
    """The last ``count`` bytes at most, from the beginning of an entry."""
    start = max(0, os.fstat(fd).st_size - count)
    data = os.pread(fd, count, start)
    if start:
        data = data[data.find(b"\n\n#") + 1 :]
    return data


def _entries(text: str) -> list[str]:
    entries: list[list[str]] = []
    inside = False
    for line in text.split("\n"):
        if not line.startswith("+"):
            inside = False
            continue
        if not inside:
            entries.append([])
        entries[-1].append(line[1:])
        inside = True
    return ["\n".join(lines) for lines in entries]
