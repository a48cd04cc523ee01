"""Letting descriptors go without waiting for the host.

The last to close a device that was written to waits until all is on it, and on a network's file
system every ``close`` asks the server. What a change of permissions leaves over is closed by a
thread beside the control loop, on which such changes are made.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable
from queue import SimpleQueue

_left: SimpleQueue[int] = SimpleQueue()
_lock = threading.Lock()
_thread: threading.Thread | None = None


def close_soon(descriptors: Iterable[int]) -> None:
    """They are the caller's no more. It cannot fail: where the host has no thread to give, the
    caller waits."""
    for fd in descriptors:
        if _has_thread():
            _left.put(fd)
        else:
            _close(fd)


def _has_thread() -> bool:
    global _thread
    with _lock:
        if _thread is None:
            thread = threading.Thread(target=_close_all, name="closer", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return False
            _thread = thread
    return True


def _close_all() -> None:
    while True:
        _close(_left.get())


def _close(fd: int) -> None:
    with contextlib.suppress(OSError):  # it is gone all the same, and flushes have told
        os.close(fd)
