"""Giving an image what it lacks of the images below it, while it is in use.

A range is filled in one step with looking whether it is still missing: whoever fills holds it
alone, and all changes of the image hold theirs (``Node.overlap``). So what was written stays.
All of it blocks; it is called in a lane, or inside a drained section.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from typing import Final

from monitor.engine.drivers.base import ExtentKind, Ranges, one_by_one
from monitor.engine.drivers.between_files import BetweenFiles
from monitor.engine.drivers.buffers import by_zeroes, is_zero, zero
from monitor.engine.drivers.ranges import RangeLocks
from monitor.engine.graph.allocation import Run, merged, runs_of, runs_through, within
from monitor.engine.graph.node import Node

_FIRST: Final = 4096
"""Bytes of a run that show that it is not all zeroes."""
_PIECE: Final = 1 << 20
"""Bytes that are filled at a time where no buffer is given."""


class Filler:
    """``target`` and the ``layers`` below it whose contents it is to take over, top first.

    ``ranges`` is the target's ``overlap``. ``whole``: it takes over the zeroes too that none of the
    layers holds. ``nothing_below``: no layer will be left below the target, so that what is
    unallocated in it reads as zeroes in the end.
    """

    def __init__(
        self,
        target: Node,
        layers: Sequence[Node],
        ranges: RangeLocks,
        *,
        whole: bool = False,
        nothing_below: bool = False,
    ) -> None:
        self.target = target
        self.unit = target.driver.cluster_size() or 1
        self._layers = layers
        self._ranges = ranges
        self._files = BetweenFiles()
        self._whole = whole
        self._nothing_below = nothing_below

    def look(self, offset: int, length: int) -> list[Run]:
        """The runs of a range: DATA or ZERO where the target lacks what a layer below holds,
        UNALLOCATED where there is nothing to do. It may be out of date at once, as the target is
        written to; filling looks again."""
        found: list[Run] = []
        for run in merged(runs_of(self.target, offset, length)):
            if run.kind is ExtentKind.UNALLOCATED:
                found.extend(self._below(run))
            else:
                found.append(Run(ExtentKind.UNALLOCATED, run.offset, run.length))
        return list(merged(found))

    def _below(self, run: Run) -> list[Run]:
        runs = runs_through(self._layers, run.offset, run.length)
        if not self._whole:
            return runs
        return [
            each._replace(kind=ExtentKind.ZERO) if each.kind is ExtentKind.UNALLOCATED else each
            for each in runs
        ]

    def fill(self, offset: int, length: int, buffer: memoryview | None = None) -> None:
        """Looks, and gives the target what it lacks. A ``buffer`` holds the range and the clusters
        that it begins and ends in."""
        if self.target.driver.holds(offset, length):
            return
        first = self.target.map(offset, length)[:1]
        if first and first[0].kind is not ExtentKind.UNALLOCATED and first[0].length >= length:
            return
        for run in self.look(offset, length):
            if run.kind is ExtentKind.UNALLOCATED:
                continue
            if buffer is None:
                buffer = memoryview(bytearray(min(length, _PIECE) + 2 * self.unit))
            if run.kind is ExtentKind.ZERO:
                self.zero(run.offset, run.length, buffer, run.length)
                continue
            room = len(buffer) - 2 * self.unit
            for position in range(run.offset, run.offset + run.length, room):
                self.copy(position, min(room, run.offset + run.length - position), buffer)

    def copy(self, offset: int, length: int, buffer: memoryview) -> None:
        """Gives the target what it lacks of the range, and of the clusters that the range begins
        and ends in. The buffer holds that much."""
        start = offset - offset % self.unit
        end = min(self.target.length(), -(-(offset + length) // self.unit) * self.unit)
        with self._ranges.hold(start, end, exclusive=True):
            for run in merged(runs_of(self.target, start, end - start)):
                if run.kind is ExtentKind.UNALLOCATED:
                    with buffer[: run.length] as view:
                        self._copy_run(run, view)

    def copy_ranges(self, ranges: Ranges, buffer: memoryview) -> None:
        """The same for ranges of whole clusters, ascending and apart; what lies between is held
        too. The buffer holds as much as they come to."""
        start, (last, length) = ranges[0][0], ranges[-1]
        with self._ranges.hold(start, last + length, exclusive=True):
            missing = list(self._missing_of(ranges))
            with buffer[: sum(length for _, length in missing)] as data:
                self._read_ranges_below(data, missing)
                for group, held, zeroes in by_zeroes(missing, data):
                    if zeroes:
                        one_by_one(self._write_zeroes, held, group)
                    else:
                        self.target.driver.write_ranges(held, group)

    def _missing_of(self, ranges: Ranges) -> Iterator[tuple[int, int]]:
        """The parts of ``ranges`` that the target lacks."""
        start, (last, length) = ranges[0][0], ranges[-1]
        runs = list(merged(runs_of(self.target, start, last + length - start)))
        for found in within(ranges, runs):
            for run in found:
                if run.kind is ExtentKind.UNALLOCATED:
                    yield run.offset, run.length

    def _write_zeroes(self, data: memoryview, offset: int) -> None:
        if not self._zero_run(Run(ExtentKind.ZERO, offset, len(data))):
            self.target.driver.write(data, offset)

    def _read_ranges_below(self, data: memoryview, ranges: Ranges) -> None:
        below = self.target.children.get("backing")
        if below is not None and ranges and sum(ranges[-1]) <= below.length():
            below.read_ranges(data, ranges)
        else:  # an image that ends before the target does
            one_by_one(self._read_below, data, ranges)

    def _copy_run(self, run: Run, view: memoryview) -> None:
        done = self._leave_to_host(run, view)
        if done == run.length:
            return
        offset = run.offset + done
        with view[done:] as rest:
            self._read_below(rest, offset)
            if is_zero(rest):
                self._write_zeroes(rest, offset)
            else:
                self.target.driver.write(rest, offset)

    def _leave_to_host(self, run: Run, view: memoryview) -> int:
        """How much of the run's beginning the host has copied: none of a run that may be zeroes,
        since those take no storage."""
        below = self.target.children.get("backing")
        if below is None:
            return 0
        inside = min(run.length, below.length() - run.offset)
        if inside <= _FIRST or below.map(run.offset, inside)[0].host < 0:
            return 0
        with view[:_FIRST] as first:
            self._read_below(first, run.offset)
            if is_zero(first):
                return 0
        return self._files.copy(below, self.target.driver, run.offset, inside)

    def _read_below(self, view: memoryview, offset: int) -> None:
        """What the target shows of the images below it: zeroes where they end before it does."""
        below = self.target.children.get("backing")
        inside = max(0, min(len(view), below.length() - offset)) if below is not None else 0
        if below is not None and inside:
            with view[:inside] as part:
                below.read(part, offset)
        with view[inside:] as rest:
            zero(rest)

    def zero(self, offset: int, length: int, buffer: memoryview, most: int) -> int | None:
        """The same for a range that reads as zeroes; no data moves where the target can say so. The
        bytes that had to be written as data; None where they would be more than ``most``."""
        length_of_disk = self.target.length()
        start = -(-offset // self.unit) * self.unit
        end = offset + length
        end = end if end == length_of_disk else end - end % self.unit
        if start >= end:
            self.copy(offset, length, buffer)
            return 0
        written = 0
        with self._ranges.hold(start, end, exclusive=True):
            for run in merged(runs_of(self.target, start, end - start)):
                if run.kind is ExtentKind.UNALLOCATED and not self._zero_run(run):
                    if run.length > most:
                        return None
                    self.target.driver.write_zeroes(run.offset, run.length)
                    written += run.length
        if offset < start:
            self.copy(offset, start - offset, buffer)
        if end < offset + length:
            self.copy(end, offset + length - end, buffer)
        return written

    def _zero_run(self, run: Run) -> bool:
        """Whether the run now reads as zeroes, in the end, without a byte written."""
        try:
            self.target.driver.write_zeroes(run.offset, run.length, False, True)
        except OSError as error:
            if error.errno != errno.ENOTSUP:
                raise
            return self._nothing_below
        return True
