"""Stages of a node's pipeline that are not drivers of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable

from monitor.engine.drivers.base import Ranges, RangesRequest, Reservation
from monitor.engine.drivers.buffers import is_zero
from monitor.engine.drivers.ranges import RangeLocks

Write = Callable[[memoryview, int], None]
WriteZeroes = Callable[[int, int, bool, bool], None]
Discard = Callable[[int, int], None]
MapForWrite = Callable[[int, int], Reservation | None]


def detect_zeroes(write: Write, write_zeroes: WriteZeroes, unmap: bool) -> Write:
    """``detect-zeroes``: a write of zeroes becomes a request for zeroes."""

    def detecting(buffer: memoryview, offset: int) -> None:
        if is_zero(buffer):
            write_zeroes(offset, len(buffer), unmap, False)
        else:
            write(buffer, offset)

    return detecting


class Highest:
    """Where the writes to a node have come to: ``offset`` is the end of the furthest, in bytes."""

    def __init__(self) -> None:
        self.offset = 0
        self._lock = threading.Lock()

    def stage(self, write: Write, write_zeroes: WriteZeroes) -> tuple[Write, WriteZeroes]:
        """The operations with a note of where each request ends, one that fails included. The lock
        is taken by a write only where it goes further than all before."""

        def noted_zeroes(
            offset: int, length: int, may_unmap: bool = False, no_fallback: bool = False
        ) -> None:
            self._note(offset + length)
            write_zeroes(offset, length, may_unmap, no_fallback)

        return self.noting(write), noted_zeroes

    def noting(self, write: Write) -> Write:
        """One operation that writes, as in ``stage``."""
        lock = self._lock

        def noted_write(buffer: memoryview, offset: int) -> None:
            end = offset + len(buffer)
            if end > self.offset:
                with lock:
                    if end > self.offset:
                        self.offset = end
            write(buffer, offset)

        return noted_write

    def noting_reservations(self, map_for_write: MapForWrite) -> MapForWrite:
        def noted_reservation(offset: int, length: int) -> Reservation | None:
            reserved = map_for_write(offset, length)
            if reserved is not None:
                self._note(offset + reserved.length)
            return reserved

        return noted_reservation

    def noting_ranges(self, write_ranges: RangesRequest) -> RangesRequest:
        def noted_ranges(buffer: memoryview, ranges: Ranges) -> None:
            offset, length = ranges[-1]
            self._note(offset + length)
            write_ranges(buffer, ranges)

        return noted_ranges

    def _note(self, end: int) -> None:
        with self._lock:
            self.offset = max(self.offset, end)


def overlapping(
    ranges: RangeLocks, write: Write, write_zeroes: WriteZeroes, discard: Discard
) -> tuple[Write, WriteZeroes, Discard]:
    """Requests that change the node take their range first, beside each other but never beside one
    who holds it alone: a job that looks what is missing and fills it in one step."""

    def ranged_zeroes(
        offset: int, length: int, may_unmap: bool = False, no_fallback: bool = False
    ) -> None:
        with ranges.hold(offset, offset + length, exclusive=False):
            write_zeroes(offset, length, may_unmap, no_fallback)

    def ranged_discard(offset: int, length: int) -> None:
        with ranges.hold(offset, offset + length, exclusive=False):
            discard(offset, length)

    return ranged(ranges, write), ranged_zeroes, ranged_discard


def ranged(ranges: RangeLocks, write: Write) -> Write:
    """One operation that writes, as in ``overlapping``."""

    def ranged_write(buffer: memoryview, offset: int) -> None:
        with ranges.hold(offset, offset + len(buffer), exclusive=False):
            write(buffer, offset)

    return ranged_write


def no_reservation(offset: int, length: int) -> Reservation | None:
    """``map_for_write`` of a node whose stages must see every byte that is written."""
    return None


def advice_ignored(offset: int, length: int) -> None:
    """``discard`` of a node that is open with ``discard=ignore``: nothing changes."""
