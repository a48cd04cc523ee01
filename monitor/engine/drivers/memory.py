"""An image in memory: the plainest reading of the contract, and what tests stand on.

Not known to QMP. It is sparse by pages; what was never written is a hole.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Final

from monitor.engine.drivers.base import Driver, DriverKind, Extent, ExtentKind, OpenContext

PAGE: Final = 4096


class MemoryDriver(Driver):
    """``size`` bytes that begin with ``data``.

    ``before`` is called at the start of every operation with its name, offset and length: it may
    raise (the operation then does nothing), wait, or take notes. It runs in the caller's thread
    and without a lock.
    """

    name = "memory"
    kind = DriverKind.PROTOCOL
    is_protocol = True
    opens_at_once = True

    def __init__(
        self,
        size: int = 0,
        data: bytes = b"",
        *,
        before: Callable[[str, int, int], None] | None = None,
        alignment: int = 1,
    ) -> None:
        self.before = before
        self.alignment = alignment
        self._lock = threading.Lock()
        self._pages: dict[int, bytearray] = {}
        self._length = max(size, len(data))
        if data:
            self._store(memoryview(data), 0)

    def open(self, context: OpenContext) -> None:
        """There is nothing to open."""

    def close(self) -> None:
        """The bytes stay, so that a test can look at them or open them again."""

    def contents(self) -> bytes:
        """The whole image."""
        data = bytearray(self._length)
        self._load(memoryview(data), 0)
        return bytes(data)

    # -- data --------------------------------------------------------------------------------

    def length(self) -> int:
        return self._length

    def read(self, buffer: memoryview, offset: int) -> None:
        self._begin("read", offset, len(buffer))
        with self._lock:
            self._load(buffer, offset)

    def write(self, buffer: memoryview, offset: int) -> None:
        self._begin("write", offset, len(buffer))
        with self._lock:
            self._store(buffer, offset)
            self._grow(offset + len(buffer))

    def write_zeroes(
        self, offset: int, length: int, may_unmap: bool = False, no_fallback: bool = False
    ) -> None:
        self._begin("write_zeroes", offset, length)
        with self._lock:
            self._clear(offset, length, drop=may_unmap)
            self._grow(offset + length)

    def discard(self, offset: int, length: int) -> None:
        self._begin("discard", offset, length)
        with self._lock:
            self._clear(offset, length, drop=True)

    def flush(self) -> None:
        self._begin("flush", 0, 0)

    def truncate(self, size: int) -> None:
        self._begin("truncate", size, 0)
        with self._lock:
            if size < self._length:
                self._clear(size, self._length - size, drop=True)
            self._length = size

    def map(self, offset: int, length: int) -> list[Extent]:
        self._begin("map", offset, length)
        if length == 0:
            return []
        first, last = offset // PAGE, (offset + length - 1) // PAGE
        with self._lock:
            stored = sorted(page for page in self._pages if first <= page <= last)
        runs: list[Extent] = []
        position = offset
        for page in [*stored, last + 1]:
            hole_end = min(page * PAGE, offset + length)
            if hole_end > position:
                runs.append(Extent(ExtentKind.ZERO, hole_end - position))
                position = hole_end
            data_end = min((page + 1) * PAGE, offset + length)
            if data_end > position:
                before = runs.pop().length if runs and runs[-1].kind is ExtentKind.DATA else 0
                runs.append(Extent(ExtentKind.DATA, before + data_end - position))
                position = data_end
        return runs

    def allocated_bytes(self) -> int:
        return len(self._pages) * PAGE

    # -- pages -------------------------------------------------------------------------------

    def _begin(self, operation: str, offset: int, length: int) -> None:
        if self.before is not None:
            self.before(operation, offset, length)

    def _grow(self, end: int) -> None:
        self._length = max(self._length, end)

    def _load(self, buffer: memoryview, offset: int) -> None:
        position = 0
        for page, start, part in _pages(offset, len(buffer)):
            stored = self._pages.get(page)
            buffer[position : position + part] = (
                stored[start : start + part] if stored is not None else bytes(part)
            )
            position += part

    def _store(self, buffer: memoryview, offset: int) -> None:
        position = 0
        for page, start, part in _pages(offset, len(buffer)):
            stored = self._pages.setdefault(page, bytearray(PAGE))
            stored[start : start + part] = buffer[position : position + part]
            position += part

    def _clear(self, offset: int, length: int, *, drop: bool) -> None:
        """Zeroes; whole pages are dropped if ``drop``, else allocated."""
        first, last = offset // PAGE, (offset + length - 1) // PAGE
        if drop and length and last - first > len(self._pages):  # a huge range, few pages in it
            for page in [page for page in self._pages if first < page < last]:
                del self._pages[page]
            head = PAGE - offset % PAGE
            tail = (offset + length - 1) % PAGE + 1
            self._clear(offset, head, drop=True)
            self._clear(offset + length - tail, tail, drop=True)
            return
        for page, start, part in _pages(offset, length):
            if drop and (part == PAGE or page not in self._pages):
                self._pages.pop(page, None)
            else:
                stored = self._pages.setdefault(page, bytearray(PAGE))
                stored[start : start + part] = bytes(part)


def _pages(offset: int, length: int) -> Iterator[tuple[int, int, int]]:
    """(page, start in the page, bytes) for each page that a range touches."""
    end = offset + length
    while offset < end:
        page, start = divmod(offset, PAGE)
        part = min(PAGE - start, end - offset)
        yield page, start, part
        offset += part
