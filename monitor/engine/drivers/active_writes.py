"""Guests' requests on both sides of a mirror, in copy mode ``write-blocking``.

    request        |   wwwwwwwwwwwwww  |
    units          |....|....|....|....|   of the bitmap; d is dirty, and left to the job
    dirty          |d   |    |    |    |
    handed on           |wwwwwwwwww|

A request holds its range of the disk alone, in whole units and clusters of the target, so that
neither the job's copies nor another request comes between source and target. The source has it
first. A unit that it covers in part and that holds more that is dirty is left to the job, which is
to copy all of it anyway. The bitmap is the source's: it has noted the request by then, and what is
in step is clean again.

A target that is to show parts of the disk by a backing image that it does not have yet cannot fill
up a new cluster: such a cluster is written whole, with what the source shows around the request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

from monitor.engine.bitmap import DirtyBitmap
from monitor.engine.drivers.base import Child
from monitor.engine.drivers.ranges import END, RangeLocks

_STEP: Final = 1 << 20
"""Bytes of a cluster that are copied at once."""
_MOST_KEPT: Final = 1 << 20
"""Bytes that a discard may leave as they are before their copying is the job's."""

Part = Callable[[int, int], None]
"""Does a request on the target, from ``offset`` to ``end``. Raises OSError."""


@dataclass(frozen=True)
class Sides:
    """What a mirror's filter hands requests on to.

    ``zeroes`` tells where the source shows zeroes, as runs (offset, length, zero?) of a range;
    ``lacks`` whether the target holds nothing of a part of a range (begin, end).
    ``unmap``: the target may give storage back for zeroes. ``moved`` is told the bytes that were
    handed on, ``failed`` an error of the target, which is none of the guest's; both in the guest's
    thread. ``discards``: whether the source heeds discards now.
    """

    source: Child
    target: Child
    zeroes: Callable[[int, int], Iterator[tuple[int, int, bool]]]
    lacks: Callable[[int, int], bool]
    unmap: bool
    moved: Callable[[int], None]
    failed: Callable[[OSError], None]
    discards: Callable[[], bool] = lambda: True


class ActiveWrites:
    """``bitmap``: what the target lacks. ``cluster``: bytes that the target must be written whole,
    where it has nothing yet; 1 where it fills up clusters itself."""

    def __init__(self, bitmap: DirtyBitmap, sides: Sides, cluster: int) -> None:
        self.ranges = RangeLocks()
        self.on = False
        """Whether requests are handed on; else they make dirty what they cover."""
        self._bitmap = bitmap
        self._sides = sides
        self._cluster = cluster

    def begin(self) -> None:
        """The job has marked all that the target lacks. In a lane; waits for the requests that came
        before, so that what they make dirty is marked too."""
        with self.ranges.hold(0, END, exclusive=True):
            self.on = True

    # -- requests, in a guest's thread -------------------------------------------------------

    def write(self, buffer: memoryview, offset: int) -> None:
        """Raises OSError, of the source."""

        def on_target(start: int, end: int) -> None:
            self._sides.target.write(buffer[start - offset : end - offset], start)

        source = self._sides.source
        self._carry(offset, len(buffer), lambda: source.write(buffer, offset), on_target)

    def write_zeroes(self, offset: int, length: int, may_unmap: bool, no_fallback: bool) -> None:
        """Raises OSError, of the source."""
        unmap = may_unmap and self._sides.unmap

        def on_target(start: int, end: int) -> None:
            self._sides.target.write_zeroes(start, end - start, unmap, False)

        source = self._sides.source
        self._carry(
            offset,
            length,
            lambda: source.write_zeroes(offset, length, may_unmap, no_fallback),
            on_target,
        )

    def discard(self, offset: int, length: int) -> None:
        """What it leaves is for each image to say, so the target shows afterwards what the source
        does. One that the source ignores is over. Raises OSError, of the source."""
        if not self._sides.discards():
            return
        source = self._sides.source
        self._carry(offset, length, lambda: source.discard(offset, length), self._follow)

    # -- inside ------------------------------------------------------------------------------

    def _carry(self, offset: int, length: int, on_source: Callable[[], None], target: Part) -> None:
        with self._hold(offset, offset + length):
            on = self.on  # looked at first: then all that the target lacks is marked
            start, end = self._part_in_step(offset, offset + length)
            on_source()
            if not on or start >= end:
                return
            try:
                self._hand_on(start, end, target)
            except _LeftToTheJob:
                return
            except OSError as error:
                self._sides.failed(error)
                return
            low, high = _rounded(start, end, self._bitmap.granularity)
            self._bitmap.reset(low, high - low)
            self._sides.moved(end - start)

    def _hold(self, start: int, end: int) -> AbstractContextManager[None]:
        start, end = _rounded(start, end, self._bitmap.granularity)
        return self.ranges.hold(*_rounded(start, end, self._cluster), exclusive=True)

    def _part_in_step(self, offset: int, end: int) -> tuple[int, int]:
        """The part of a request after which its units are in step."""
        unit = self._bitmap.granularity
        low, high = _rounded(offset, end, unit)
        if offset > low and self._is_dirty(low):
            offset = low + unit
        if end < min(high, self._bitmap.size) and self._is_dirty(high - unit):
            end = high - unit
        return offset, end

    def _is_dirty(self, start: int) -> bool:
        return self._bitmap.next_dirty(start, start + self._bitmap.granularity) is not None

    def _hand_on(self, start: int, end: int, target: Part) -> None:
        """A request on the target, with new clusters at either end filled up."""
        first = start - start % self._cluster
        if self._is_part_of_new(first, start, end):
            start = self._copy_cluster(first)
        last = end - end % self._cluster
        if start < end and self._is_part_of_new(last, start, end):
            self._copy_cluster(last)
            end = last
        if start < end:
            target(start, end)

    def _is_part_of_new(self, cluster: int, start: int, end: int) -> bool:
        """Whether the range covers some of a cluster that the target has not."""
        cluster_end = min(cluster + self._cluster, self._bitmap.size)
        if (start <= cluster and end >= cluster_end) or end <= cluster:
            return False
        return self._sides.lacks(cluster, cluster_end)

    def _copy_cluster(self, start: int) -> int:
        end = min(start + self._cluster, self._bitmap.size)
        self._copy(start, end)
        return end

    def _copy(self, start: int, end: int) -> None:
        """What the source shows goes to the target."""
        buffer = memoryview(bytearray(min(_STEP, end - start)))
        for offset in range(start, end, len(buffer)):
            view = buffer[: min(len(buffer), end - offset)]
            try:
                self._sides.source.read(view, offset)
            except OSError as error:
                raise _LeftToTheJob from error  # which meets it itself, and knows what to do
            self._sides.target.write(view, offset)

    def _follow(self, start: int, end: int) -> None:
        """After a discard: zeroes where the source shows some; what it still holds is copied, as
        nobody promises that it is what it was."""
        kept = 0
        for offset, length, zero in self._look(start, end):
            if zero:
                self._sides.target.write_zeroes(offset, length, self._sides.unmap, False)
                continue
            kept += length
            if kept > _MOST_KEPT:
                raise _LeftToTheJob
            self._copy(offset, offset + length)

    def _look(self, start: int, end: int) -> Iterator[tuple[int, int, bool]]:
        try:
            yield from self._sides.zeroes(start, end - start)
        except OSError as error:
            raise _LeftToTheJob from error


class _LeftToTheJob(Exception):
    """The range stays dirty."""


def _rounded(start: int, end: int, unit: int) -> tuple[int, int]:
    return start - start % unit, -(-end // unit) * unit
