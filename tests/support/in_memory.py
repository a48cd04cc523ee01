"""An engine on disks in memory whose clock stands; requests that are held up, or fail."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Callable
from typing import Any, Final

from monitor.engine.clock import ManualClock
from monitor.engine.embedded import EmbeddedEngine

MIB: Final = 1 << 20


class MemoryBench:
    """The engine, and what it told."""

    def __init__(self) -> None:
        self.engine = EmbeddedEngine(ManualClock())
        self.graph = self.engine.graph
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.engine.subscribe(lambda event: self.events.append((event.name, dict(event.data))))

    def named(self, name: str) -> list[dict[str, Any]]:
        """What the events of this name told."""
        return [data for event, data in self.events if event == name]


class BadPlace:
    """Fails an operation on one place, until it is mended: for a driver's ``before``. Flushes and
    headers are at 0."""

    def __init__(self, operation: str, at: int, code: int = errno.EIO) -> None:
        self.operation, self.at, self.code = operation, at, code
        self.mended = False
        self.failed = 0

    def __call__(self, operation: str, offset: int, length: int) -> None:
        hit = offset <= self.at < offset + max(1, length)
        if operation == self.operation and hit and not self.mended:
            self.failed += 1
            raise OSError(self.code, "injected")


class Gate:
    """Holds up the operations that it is told of, until it is opened: for a driver's ``before``."""

    def __init__(self, operation: str, at: int | None = None) -> None:
        self.operation, self.at = operation, at
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __call__(self, operation: str, offset: int, length: int) -> None:
        if operation == self.operation and (self.at is None or offset <= self.at < offset + length):
            self.reached.set()
            assert self.opened.wait(20)

    async def wait(self) -> None:
        assert await asyncio.to_thread(self.reached.wait, 20)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0)
