"""A driver that keeps every change in order: jobs run on it, and a part of it is replayed."""

from __future__ import annotations

import threading

from monitor.engine.drivers.base import Driver, DriverKind, Extent, OpenContext
from tests.support.children import RecordingChild


class RecordingDriver(Driver):
    """``child`` is what is written to, and has the record. Any number of threads."""

    name = "memory"
    kind = DriverKind.PROTOCOL
    opens_at_once = True

    def __init__(self, content: bytes = b"") -> None:
        self.child = RecordingChild(content)
        self._lock = threading.Lock()

    def open(self, context: OpenContext) -> None:
        """There is nothing to open."""

    def close(self) -> None:
        """The record stays."""

    def length(self) -> int:
        return self.child.length()

    def read(self, buffer: memoryview, offset: int) -> None:
        with self._lock:
            self.child.read(buffer, offset)

    def write(self, buffer: memoryview, offset: int) -> None:
        with self._lock:
            self.child.write(buffer, offset)

    def write_zeroes(
        self, offset: int, length: int, may_unmap: bool = False, no_fallback: bool = False
    ) -> None:
        with self._lock:
            self.child.write_zeroes(offset, length)

    def flush(self) -> None:
        with self._lock:
            self.child.flush()

    def truncate(self, size: int) -> None:
        with self._lock:
            self.child.truncate(size)

    def map(self, offset: int, length: int) -> list[Extent]:
        with self._lock:
            return self.child.map(offset, length)
