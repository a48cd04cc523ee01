"""Scattered parts of a disk, read behind one another into one buffer and written at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from monitor.engine.drivers.base import Child, Ranges


def batches(areas: Iterable[tuple[int, int]], most: int) -> Iterator[list[tuple[int, int]]]:
    """``areas`` (offset, length), in order, cut into parts that come to at most ``most`` bytes
    together."""
    batch: list[tuple[int, int]] = []
    room = most
    for start, length in areas:
        end = start + length
        for offset in range(start, end, most):
            part = min(most, end - offset)
            if part > room:
                yield batch
                batch, room = [], most
            batch.append((offset, part))
            room -= part
    if batch:
        yield batch


class Gathered:
    """What has been read of a batch and is to be written; ``buffer`` holds all of it."""

    def __init__(self, buffer: memoryview) -> None:
        self._buffer = buffer
        self._used = 0
        self._ranges: list[tuple[int, int]] = []

    def read(self, source: Child, offset: int, length: int) -> memoryview:
        """Takes a part of ``source`` in; its bytes. Raises OSError, and has taken nothing then."""
        view = self._buffer[self._used : self._used + length]
        source.read(view, offset)
        self._ranges.append((offset, length))
        self._used += length
        return view

    def drop_last(self) -> None:
        """The part that was read last need not be written after all."""
        self._used -= self._ranges.pop()[1]

    def write(self, target: Child) -> None:
        """Writes to ``target`` what was read, at the same offsets. Raises OSError."""
        ranges: Ranges = self._ranges
        with self._buffer[: self._used] as data:
            if len(ranges) == 1:
                target.write(data, ranges[0][0])
            elif ranges:
                target.write_ranges(data, ranges)

    def write_apart(self, target: Child) -> int:
        """After a ``write`` that failed: part by part up to the first that cannot be written, so
        that only what is bad is left undone. How many were written."""
        if len(self._ranges) == 1:
            return 0
        at = 0
        for count, (offset, length) in enumerate(self._ranges):
            try:
                target.write(self._buffer[at : at + length], offset)
            except OSError:
                return count
            at += length
        return len(self._ranges)
