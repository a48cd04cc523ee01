"""Work that is waited for only so long. Nothing can stop a request to a disk that hangs, so it goes
on by itself, in one of a few threads; what has not begun when nobody waits any more is dropped.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

MOST: Final = 16
"""Threads, so that a disk that hangs takes no more of them, however often it is tried."""

Wait = Callable[[threading.Event, float], bool]


class _Call:
    def __init__(self, work: Callable[[], None]) -> None:
        self.work = work
        self.ended = threading.Event()
        self.failure: Exception | None = None


class Lingering:
    """Calls that may outlast who asked for them. ``rested`` is called, from any thread, when the
    last one may have ended."""

    def __init__(self, name: str, wait: Wait, rested: Callable[[], None]) -> None:
        self._name = name
        self._wait = wait
        self._rested = rested
        self._lock = threading.Lock()
        self._calls: deque[_Call] = deque()
        self._threads = 0

    @property
    def at_rest(self) -> bool:
        return not self._threads

    def run(self, work: Callable[[], None], seconds: float) -> None:
        """Raises what ``work`` raises, and OSError: ETIMEDOUT when it takes longer, EAGAIN where
        the host has no thread for it. It is at rest no more from the beginning on."""
        call = _Call(work)
        self._begin(call)
        if not self._wait(call.ended, seconds):
            with self._lock:
                if call in self._calls:
                    self._calls.remove(call)
            raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        if call.failure is not None:
            raise call.failure

    def _begin(self, call: _Call) -> None:
        with self._lock:
            self._calls.append(call)
            if self._threads == MOST:
                return
            self._threads += 1
        try:
            threading.Thread(target=self._main, name=self._name, daemon=True).start()
        except RuntimeError as error:
            with self._lock:
                self._threads -= 1
                if self._threads or call not in self._calls:
                    return  # one of those that there are does it
                self._calls.remove(call)
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error

    def _main(self) -> None:
        while (call := self._next()) is not None:
            try:
                call.work()
            except Exception as error:  # for who asked, unless he has gone on
                call.failure = error
            call.ended.set()
        self._rested()

    def _next(self) -> _Call | None:
        with self._lock:
            if self._calls:
                return self._calls.popleft()
            self._threads -= 1
            return None
