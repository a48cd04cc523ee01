"""A node's write threshold: one event when a write goes beyond an offset."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from monitor.engine.graph.stages import Discard, Write, WriteZeroes

if TYPE_CHECKING:
    from monitor.engine.graph.node import Node


class WriteThreshold:
    """``offset`` bytes into ``node``; as ``node.threshold`` it is in force. It goes off once, and
    is then the node's no longer; the stage stays bound until the node is wired next."""

    def __init__(
        self, offset: int, node: Node, emit: Callable[[str, dict[str, Any]], None]
    ) -> None:
        self.offset = offset
        self._node = node
        self._emit = emit
        self._loop = asyncio.get_running_loop()

    def stage(
        self, write: Write, write_zeroes: WriteZeroes, discard: Discard
    ) -> tuple[Write, WriteZeroes, Discard]:
        """The node's operations with a look at where each request ends."""
        limit = self.offset

        def watched_zeroes(
            offset: int, length: int, may_unmap: bool = False, no_fallback: bool = False
        ) -> None:
            if offset + length > limit:
                self._crossed(offset + length)
            write_zeroes(offset, length, may_unmap, no_fallback)

        def watched_discard(offset: int, length: int) -> None:
            if offset + length > limit:
                self._crossed(offset + length)
            discard(offset, length)

        return self.watching(write), watched_zeroes, watched_discard

    def watching(self, write: Write) -> Write:
        """One operation that writes, as in ``stage``."""
        limit = self.offset

        def watched_write(buffer: memoryview, offset: int) -> None:
            if offset + len(buffer) > limit:
                self._crossed(offset + len(buffer))
            write(buffer, offset)

        return watched_write

    def _crossed(self, end: int) -> None:
        """From a thread with a request in flight: it tells the loop and goes on."""
        if self._node.threshold is self:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._report, end)

    def _report(self, end: int) -> None:
        """On the loop, where several threads' crossings come one after the other."""
        if self._node.threshold is self:
            self._node.threshold = None
            self._emit(
                "BLOCK_WRITE_THRESHOLD",
                {
                    "node-name": self._node.name,
                    "amount-exceeded": end - self.offset,
                    "write-threshold": self.offset,
                },
            )
