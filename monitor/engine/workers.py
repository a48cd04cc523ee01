"""Threads for blocking calls of the control loop.

A call there and back costs less than half of what ``run_in_executor`` takes: no lock, no future of
another kind, and one wake-up of the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")


class _Call(Generic[T]):
    """One call. Written by its worker until ``done`` is called on the loop, read there from then
    on."""

    __slots__ = ("_call", "_error", "_loop", "_result", "ended", "waiter")

    def __init__(self, call: Callable[[], T]) -> None:
        self._call: Callable[[], T] | None = call
        self._loop = asyncio.get_running_loop()
        self._result: T | None = None
        self._error: BaseException | None = None
        self.waiter = self._loop.create_future()
        self.ended = False

    def carry_out(self, done: Callable[[_Call[T]], None]) -> None:
        """In the worker."""
        assert self._call is not None
        try:
            self._result = self._call()
        except BaseException as error:
            self._error = error
        self._call = None  # with all that it holds
        with contextlib.suppress(RuntimeError):  # the loop has ended; nobody waits any more
            self._loop.call_soon_threadsafe(done, self)

    def outcome(self) -> T:
        """What the call returned; raises what it raised."""
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
            return self._result  # type: ignore[return-value]
        finally:
            error = None  # whose traceback leads here


class Workers:
    """At most ``limit`` threads, begun as they are needed; used on one loop at a time.

    They are daemons: who waits for nothing any more is not kept by a call that never returns.
    """

    def __init__(self, limit: int, name: str) -> None:
        self._limit = limit
        self._name = name
        self._threads = 0
        self._busy = 0
        self._calls: SimpleQueue[_Call[object] | None] = SimpleQueue()

    async def run(self, call: Callable[[], T]) -> T:
        """Calls it in a thread. Cancelling the wait does not stop the call, so the wait is finished
        first: nobody may close what the call still uses. Cancelled once more, it is given up.
        Raises OSError (EAGAIN) where the host has no thread to give."""
        made = _Call(call)
        if self._threads <= self._busy and self._threads < self._limit:
            self._begin_thread()
        self._busy += 1
        self._calls.put(made)  # type: ignore[arg-type]
        try:
            await made.waiter
        except asyncio.CancelledError:
            if not made.ended:
                made.waiter = asyncio.get_running_loop().create_future()
                await made.waiter
            raise
        return made.outcome()

    def _begin_thread(self) -> None:
        name = f"{self._name}_{self._threads + 1}"
        work = functools.partial(self._work, self._calls)
        try:
            threading.Thread(target=work, name=name, daemon=True).start()
        except RuntimeError as error:
            if not self._threads:
                raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error
            return  # the call waits for one of those that there are
        self._threads += 1

    def close(self) -> None:
        """The threads end with the calls that wait now."""
        calls, self._calls = self._calls, SimpleQueue()
        for _ in range(self._threads):
            calls.put(None)
        self._threads = 0

    def _work(self, calls: SimpleQueue[_Call[object] | None]) -> None:
        while (call := calls.get()) is not None:
            call.carry_out(self._done)
            call = None

    def _done(self, call: _Call[object]) -> None:
        self._busy -= 1
        call.ended = True
        if not call.waiter.done():
            call.waiter.set_result(None)
