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
    """They are the caller's no more."""
    global _thread
    for fd in descriptors:
        _left.put(fd)
        with _lock:
            if _thread is None:
                _thread = threading.Thread(target=_close_all, name="closer", daemon=True)
                _thread.start()


def _close_all() -> None:
    while True:
        fd = _left.get()
        with contextlib.suppress(OSError):  # it is gone all the same, and flushes have told
            os.close(fd)
