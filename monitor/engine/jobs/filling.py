"""Finding what an image lacks, and filling it while it is in use."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Final

from monitor.engine.drivers.base import ExtentKind
from monitor.engine.drivers.between_files import BetweenFiles
from monitor.engine.drivers.buffers import is_zero
from monitor.engine.drivers.ranges import RangeLocks
from monitor.engine.graph.allocation import Run, merged, runs_of, runs_through
from monitor.engine.graph.node import Node

_WINDOW: Final = 64 << 20
_WINDOW_CLUSTERS: Final = 4096
"""How far the filler looks ahead: bytes, and clusters of the target."""
_NARROW: Final = 512 << 10
"""The same where looking failed, so that not much more than what is broken fails."""

_FIRST: Final = 4096
"""Bytes of a run that show that it is not all zeroes."""


class Filler:
    """``target`` and the ``layers`` below it whose contents it is to take over, top first.

    ``ranges`` is the target's ``overlap``. ``nothing_below``: no layer will be left below the
    target, so that what is unallocated in it reads as zeroes in the end.
    """

    def __init__(
        self, target: Node, layers: Sequence[Node], ranges: RangeLocks, *, nothing_below: bool
    ) -> None:
        self._target = target
        self._layers = layers
        self._ranges = ranges
        self._files = BetweenFiles()
        self._nothing_below = nothing_below
        self._unit = target.driver.cluster_size() or 1
        self._window = min(_WINDOW, max(_WINDOW_CLUSTERS * self._unit, 1 << 20))
        self._length = target.length()
        self._ahead: list[Run] = []

    # -- looking -----------------------------------------------------------------------------

    def missing_at(self, offset: int) -> Run:
        """The run that begins at ``offset``: DATA or ZERO where the target lacks what a layer
        below holds, UNALLOCATED where there is nothing to do. It may be out of date at once, as
        the guest writes; ``fill`` looks again. Blocks: in a lane."""
        while self._ahead and self._ahead[0].offset + self._ahead[0].length <= offset:
            self._ahead.pop(0)
        if not self._ahead or self._ahead[0].offset > offset:
            try:
                self._ahead = self._look(offset, self._window)
            except OSError:
                self._ahead = self._look(offset, _NARROW)
        run = self._ahead[0]
        return Run(run.kind, offset, run.offset + run.length - offset)

    def _look(self, offset: int, window: int) -> list[Run]:
        length = min(window, self._length - offset)
        found: list[Run] = []
        for run in merged(runs_of(self._target, offset, length)):
            if run.kind is ExtentKind.UNALLOCATED:
                found.extend(runs_through(self._layers, run.offset, run.length))
            else:
                found.append(Run(ExtentKind.UNALLOCATED, run.offset, run.length))
        return list(merged(found))

    # -- filling; in a lane ------------------------------------------------------------------

    def fill(self, offset: int, length: int, buffer: memoryview) -> None:
        """Looks, and gives the target what it lacks."""
        for run in self._look(offset, length):
            if run.kind is ExtentKind.DATA:
                self.copy(run.offset, run.length, buffer)
            elif run.kind is ExtentKind.ZERO:
                self.zero(run.offset, run.length, buffer)

    def copy(self, offset: int, length: int, buffer: memoryview) -> None:
        """Gives the target what it lacks of the range, and of the clusters that the range begins
        and ends in. The buffer holds that much."""
        start = offset - offset % self._unit
        end = min(self._length, -(-(offset + length) // self._unit) * self._unit)
        with self._ranges.hold(start, end, exclusive=True):
            for run in merged(runs_of(self._target, start, end - start)):
                if run.kind is ExtentKind.UNALLOCATED:
                    with buffer[: run.length] as view:
                        self._copy_run(run, view)

    def _copy_run(self, run: Run, view: memoryview) -> None:
        done = self._leave_to_host(run, view)
        if done == run.length:
            return
        offset = run.offset + done
        with view[done:] as rest:
            self._read_below(rest, offset)
            if not is_zero(rest) or not self._zero_run(Run(run.kind, offset, len(rest))):
                self._target.driver.write(rest, offset)

    def _leave_to_host(self, run: Run, view: memoryview) -> int:
        """How much of the run's beginning the host has copied: none of a run that may be zeroes,
        since those take no storage."""
        below = self._target.children["backing"]
        inside = min(run.length, below.length() - run.offset)
        if inside <= _FIRST or below.map(run.offset, inside)[0].host < 0:
            return 0
        with view[:_FIRST] as first:
            self._read_below(first, run.offset)
            if is_zero(first):
                return 0
        return self._files.copy(below, self._target.driver, run.offset, inside)

    def _read_below(self, view: memoryview, offset: int) -> None:
        """What the target shows of the images below it: zeroes where they end before it does."""
        below = self._target.children["backing"]
        inside = max(0, min(len(view), below.length() - offset))
        if inside:
            with view[:inside] as part:
                below.read(part, offset)
        if inside < len(view):
            view[inside:] = bytes(len(view) - inside)

    def zero(self, offset: int, length: int, buffer: memoryview) -> None:
        """The same for a range that reads as zeroes; no data moves where the target can say so."""
        start = -(-offset // self._unit) * self._unit
        end = offset + length
        end = end if end == self._length else end - end % self._unit
        if start >= end:
            self.copy(offset, length, buffer)
            return
        with self._ranges.hold(start, end, exclusive=True):
            for run in merged(runs_of(self._target, start, end - start)):
                if run.kind is ExtentKind.UNALLOCATED and not self._zero_run(run):
                    self._target.driver.write_zeroes(run.offset, run.length)
        if offset < start:
            self.copy(offset, start - offset, buffer)
        if end < offset + length:
            self.copy(end, offset + length - end, buffer)

    def _zero_run(self, run: Run) -> bool:
        """Whether the run now reads as zeroes, in the end, without a byte written."""
        try:
            self._target.driver.write_zeroes(run.offset, run.length, False, True)
        except OSError as error:
            if error.errno != errno.ENOTSUP:
                raise
            return self._nothing_below
        return True
