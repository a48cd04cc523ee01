"""Copying what is dirty, again and again, while the guest goes on writing.

    bitmap    DDDD....DD......D       what the target lacks, as far as anybody has noted by now
    pass      ---->  ->      >        once over it; what is dirtied behind it is the next one's

A unit is marked clean before it is read: a write that is under way meanwhile is noted when it ends,
and makes it dirty again. No range is under way twice at a time, as passes do not overlap.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Final

from monitor.engine.bitmap import DirtyBitmap
from monitor.engine.drivers.base import ExtentKind
from monitor.engine.drivers.between_files import BetweenFiles
from monitor.engine.drivers.ranges import RangeLocks
from monitor.engine.drivers.zeroes import zero
from monitor.engine.graph.allocation import Run, runs_through, within
from monitor.engine.jobs.carrying import ZERO_CHUNK
from monitor.engine.jobs.copying import Piece
from monitor.engine.jobs.gathering import carry, gather, is_short

if TYPE_CHECKING:
    from monitor.engine.graph.edge import Edge
    from monitor.engine.graph.node import Node
    from monitor.engine.jobs.block import BlockJob

_AREA: Final = 64 << 20
"""Bytes of the disk whose dirty areas are taken, and looked at, in one step."""


class Converging:
    """A mirror as a plan (``carrying.Plan``): one pass over ``bitmap`` for each ``Carrier.run``.

    ``layers`` are the source's images, top first, to look for zeroes in. ``unit`` is what a piece
    is a multiple of, in bytes: a cluster, where the target's clusters must be written whole.
    ``blank`` says whether the target reads as zeroes all over a range, so that none need be written
    there: a guest's write that comes between is dirty, or has reached the target itself.
    ``given_up``: whether nothing more is to be begun.
    """

    def __init__(
        self,
        job: BlockJob,
        bitmap: DirtyBitmap,
        source: Edge,
        target: Edge,
        layers: Callable[[], Sequence[Node]],
        *,
        length: int,
        unit: int,
        unmap: bool,
        ranges: RangeLocks | None,
        blank: Callable[[int, int], bool],
        given_up: Callable[[], bool],
    ) -> None:
        self._job = job
        self._bitmap = bitmap
        self._source, self._target = source, target
        self._layers = layers
        self._length = length
        self._unit = unit
        self._unmap = unmap
        self._ranges = ranges
        self._blank = blank
        self._given_up = given_up
        self._files = BetweenFiles()
        self._position = 0
        self._ahead: deque[Run] = deque()
        self.grain = max(unit, 64 << 10)
        self.errors = 0
        """Errors that were ignored in this pass; what they were met at is dirty again."""

    def begin_pass(self) -> None:
        self._position = 0
        self.errors = 0

    # -- carrying.Plan -----------------------------------------------------------------------

    def next(self, most: int) -> Piece | None:
        if self._given_up() or not (self._ahead or self._take()):
            return None
        if (piece := gather(self._ahead, most)) is not None:
            return piece
        run = self._ahead.popleft()
        if run.kind is ExtentKind.UNALLOCATED:
            return Piece(run.offset, run.length)
        most = ZERO_CHUNK if run.kind is ExtentKind.ZERO else max(most - most % self._unit, 1)
        length = min(run.length, max(most, self._unit))
        if length < run.length:
            self._ahead.appendleft(Run(run.kind, run.offset + length, run.length - length))
        zero = run.kind is ExtentKind.ZERO
        return Piece(run.offset, length, copy=not zero, zero=zero)

    def work(self, piece: Piece, buffer: memoryview) -> None:
        with self._held(piece):
            self._carry(piece, buffer)

    def done(self, piece: Piece) -> None:
        self._job.progress.advance(piece.size)

    def ignored(self, piece: Piece, error: OSError) -> None:
        self.errors += 1
        with self._held(piece):  # a request that found the range taken may be about to reset it
            for offset, length in piece.parts or [(piece.offset, piece.length)]:
                self._bitmap.set(offset, length)

    # -- inside ------------------------------------------------------------------------------

    def _held(self, piece: Piece) -> AbstractContextManager[None]:
        if self._ranges is None:
            return nullcontext()
        return self._ranges.hold(piece.offset, piece.offset + piece.length, exclusive=True)

    def _carry(self, piece: Piece, buffer: memoryview) -> None:
        if piece.zero and self._is_zero_still(piece):
            piece.side = "write"
            if not self._blank(piece.offset, piece.length):  # or a sparse file would be filled
                most = len(buffer)
                unmap = self._unmap
                done = zero(self._target, piece.offset, piece.length, may_unmap=unmap, most=most)
                piece.zeroed(done)
            return
        if piece.parts:
            carry(piece, self._source, self._target, buffer)
            return
        end = piece.offset + piece.length
        done = self._files.copy(self._source, self._target, piece.offset, piece.length, piece.at)
        for offset in range(piece.offset + done, end, len(buffer)):
            view = buffer[: min(len(buffer), end - offset)]
            piece.side = "read"
            self._source.read(view, offset)
            piece.side = "write"
            self._target.write(view, offset)

    def _is_zero_still(self, piece: Piece) -> bool:
        """A write since it was looked at is dirty, and copied by the next pass. Only where writes
        go to the target themselves, and are clean then, must it be looked at again."""
        if self._ranges is None:
            return True
        piece.side = "read"
        runs = runs_through(self._layers(), piece.offset, piece.length)
        return all(run.kind is not ExtentKind.DATA for run in runs)

    def _take(self) -> bool:
        """Takes the next dirty areas, a stretch of the disk: they are clean from now on; ``_ahead``
        tells what they hold."""
        start = self._bitmap.next_dirty(self._position)
        if start is None or start >= self._length:
            return False
        limit = start + max(_AREA, self._bitmap.granularity)
        areas = list(self._bitmap.areas(start, min(limit, self._length)))
        if not areas:  # a guest's write has reached the target itself meanwhile
            self._position = limit
            return self._take()
        if self._unit > 1:
            areas = [self._in_whole_units(*areas[0])]
        for offset, size in areas:
            self._bitmap.reset(offset, size)
        start, end = areas[0][0], areas[-1][0] + areas[-1][1]
        self._position = end
        try:
            runs = runs_through(self._layers(), start, end - start)
        except OSError:
            runs = [Run(ExtentKind.DATA, start, end - start)]  # reading it will say what is wrong
        if self._unit > 1:
            runs = self._in_units(runs, start, end)
        found = [_data_or_zero(run) for part in within(areas, runs) for run in part]
        if self._blank(start, end - start):
            data = [run for run in found if run.kind is ExtentKind.DATA]
            skipped = sum(run.length for run in found) - sum(run.length for run in data)
            found = [*data, Run(ExtentKind.UNALLOCATED, start, skipped)]  # to be counted, as one
        found.sort(key=is_short)  # they come last, to be gathered
        self._ahead.extend(found)
        return True

    def _in_whole_units(self, offset: int, size: int) -> tuple[int, int]:
        start = offset - offset % self._unit
        end = min(self._length, -(-(offset + size) // self._unit) * self._unit)
        return start, end - start

    def _in_units(self, runs: Sequence[Run], start: int, end: int) -> list[Run]:
        """Data and zeroes with borders on units: a unit that holds data in part is data."""
        found: list[Run] = []
        at = start
        for run in runs:
            if run.kind is not ExtentKind.DATA:
                continue
            low = max(at, run.offset - run.offset % self._unit)
            high = min(end, -(-(run.offset + run.length) // self._unit) * self._unit)
            if low > at:
                found.append(Run(ExtentKind.ZERO, at, low - at))
            if high > low:
                found.append(Run(ExtentKind.DATA, low, high - low))
            at = max(at, high)
        if at < end:
            found.append(Run(ExtentKind.ZERO, at, end - at))
        return found


def _data_or_zero(run: Run) -> Run:
    return run if run.kind is ExtentKind.DATA else run._replace(kind=ExtentKind.ZERO)
