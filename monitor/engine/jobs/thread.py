"""The thread that a job's blocking work runs on, from its first read to its last flush."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import threading
from collections.abc import Callable, Coroutine
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

_Work = tuple[Callable[[], Any], "asyncio.Future[Any]"]


class JobThread:
    """Runs calls one after the other and reports to the loop it was made on.

    A daemon thread: a job that hangs in a system call does not keep the process from ending. Where
    the host has no thread to give, each call fails with EAGAIN.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        thread = threading.Thread(target=self._main, name=name, daemon=True)
        try:
            thread.start()
            self._runs = True
        except RuntimeError:
            self._runs = False

    def submit(self, call: Callable[[], Any]) -> asyncio.Future[Any]:
        """``call`` runs on the thread when all before it have ended."""
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._runs:
            self._queue.put((call, future))
        else:
            future.set_exception(OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)))
        return future

    def tell_loop(self, callback: Callable[..., None], *args: Any) -> None:
        """Runs ``callback`` on the loop, soon; from any thread. Nothing happens when it ended."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *args)

    def ask_loop(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs ``coroutine`` on the loop and waits for it: from this job's threads, with no request
        in flight."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def stop(self) -> None:
        """The thread ends when its calls have."""
        self._queue.put(None)

    def _main(self) -> None:
        while (work := self._queue.get()) is not None:
            call, future = work
            try:
                result = call()
            except BaseException as error:  # handed to whoever waits for the call
                self.tell_loop(_fail, future, error)
            else:
                self.tell_loop(_resolve, future, result)


def _resolve(future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
