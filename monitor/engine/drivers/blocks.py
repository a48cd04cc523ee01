"""Requests of any offset and length on what takes whole blocks only.

    block    |----block----|----block----|----block----|
    request        [..........................)
             <head><-------- whole --------><tail>

They go through a room of memory, a piece at a time. What a write covers in part is read first, and
while that is on its way no other writer may touch those blocks: the caller sees to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

Transfer = Callable[[memoryview, int], None]
"""Reads or writes whole blocks: all of the buffer, at an offset."""


class Blocks:
    """``alignment`` is the size of a block in bytes, a power of two; ``piece`` how many bytes are
    moved at once, in whole blocks; ``room(size)`` lends memory of that many bytes."""

    def __init__(
        self,
        alignment: int,
        piece: int,
        read: Transfer,
        write: Transfer,
        room: Callable[[int], AbstractContextManager[memoryview]],
    ) -> None:
        self.alignment = alignment
        self._piece = max(alignment, self.down(piece))
        self._read, self._write, self._room = read, write, room

    def misaligned(self, value: int) -> int:
        """Not 0 where ``value`` (or one of several that were or-ed) is no multiple of a block."""
        return value & (self.alignment - 1)

    def down(self, value: int) -> int:
        return value & -self.alignment

    def up(self, value: int) -> int:
        return -(-value & -self.alignment)

    def read(self, buffer: memoryview, offset: int) -> None:
        """Raises OSError."""
        end = offset + len(buffer)
        for start, stop in self._pieces(offset, end):
            with self._room(stop - start) as room:
                self._read(room, start)
                low, high = max(start, offset), min(stop, end)
                buffer[low - offset : high - offset] = room[low - start : high - start]

    def write(self, buffer: memoryview, offset: int) -> None:
        """Raises OSError."""
        end = offset + len(buffer)
        for start, stop in self._pieces(offset, end):
            with self._room(stop - start) as room:
                self._fill_partial(room, start, offset, end)
                low, high = max(start, offset), min(stop, end)
                room[low - start : high - start] = buffer[low - offset : high - offset]
                self._write(room, start)

    def _fill_partial(self, room: memoryview, start: int, offset: int, end: int) -> None:
        """Reads those blocks of a piece that the request covers in part."""
        stop = start + len(room)
        if start < offset:
            self._read(room[: self.alignment], start)
        if end < stop:
            last = stop - self.alignment
            self._read(room[last - start :], last)

    def _pieces(self, offset: int, end: int) -> Iterator[tuple[int, int]]:
        """Whole blocks that cover ``[offset, end)``, a piece at a time."""
        limit = self.up(end)
        for start in range(self.down(offset), limit, self._piece):
            yield start, min(start + self._piece, limit)
