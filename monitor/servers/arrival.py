"""A wait for what comes in, that costs no turn of the loop.

A future's callbacks run at the next turn: a task that waits for one is woken by way of another look
at all descriptors, which for a small request is a quarter of what it costs. Here the task goes on
within the callback of the loop that brought what it waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any


class Arrival:
    """``await`` it in a task; ``set`` lets the task go on. For one wait of one task.

    It is what asyncio takes for a future (``asyncio.isfuture``) as far as tasks use one.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._wake: Callable[[Any], object] | None = None
        self._context: Context | None = None
        self._over = False
        self._cancelled = False
        self._asyncio_future_blocking = False

    def set(self) -> None:
        """It is there. Nothing where it has been told already."""
        if asyncio.current_task(self._loop) is None:
            self._end(at_once=True)
        else:  # one task cannot run within another
            self._end(at_once=False)

    def __await__(self) -> Generator[Arrival, None, None]:
        if not self._over:
            self._asyncio_future_blocking = True
            yield self
        self.result()

    # -- what a task asks of a future

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def add_done_callback(
        self, callback: Callable[[Any], object], *, context: Context | None = None
    ) -> None:
        self._wake, self._context = callback, context

    def result(self) -> None:
        """Raises CancelledError where the wait was cancelled."""
        if self._cancelled:
            raise asyncio.CancelledError

    def cancel(self, msg: str | None = None) -> bool:
        if self._over:
            return False
        self._cancelled = True
        self._end(at_once=False)
        return True

    def _end(self, *, at_once: bool) -> None:
        if self._over:
            return
        self._over = True
        if self._wake is None:
            return
        if at_once and self._context is not None:
            self._context.run(self._wake, self)
        else:
            self._loop.call_soon(self._wake, self, context=self._context)
