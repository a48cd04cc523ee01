"""The filters that jobs put into the graph while they run; nobody opens one by its options.

``mirror_top`` lies on what is mirrored, or on what an active commit carries down. It promises its
parents consistent reads and asks for no more below than there is; a mirror that is to hold up
guests until the target has what they write has it hand each write on (``ActiveWrites``).

``commit_top`` lies between an overlay and the images that an intermediate commit carries down:
whoever is above sees the same bytes all the while, and nobody above keeps the base from being
written to.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import ClassVar

from monitor.engine import permissions
from monitor.engine.bitmap import DirtyBitmap
from monitor.engine.drivers.base import Child, Driver, DriverKind, Extent, OpenContext
from monitor.engine.drivers.ranges import RangeLocks


class ActiveWrites:
    """What a mirror's filter does with writes in copy mode ``write-blocking``.

    A write holds its range of the disk alone, in whole units of the bitmap, so that neither the
    job's copies nor another write comes between source and target. ``bitmap`` is the source's: it
    has noted the write by then; what is in step is clean again, unless the unit holds more that was
    dirty before. ``failed`` is told, in the writer's thread, of an error of the target, which is
    none of the guest's.
    """

    def __init__(self, bitmap: DirtyBitmap, failed: Callable[[OSError], None]) -> None:
        self.bitmap = bitmap
        self.ranges = RangeLocks()
        self.on = False
        """Set by the job when it has found out what there is to copy."""
        self.whole_units = False
        """The target's clusters hold nothing of what lies around a write."""
        self._failed = failed

    def carry(
        self,
        offset: int,
        length: int,
        source: Callable[[], None],
        target: Callable[[int, int], None],
    ) -> None:
        """Does one write on both sides; ``source`` raises its OSError. ``target`` is called with
        the part (offset, end) that it is to have."""
        with self.ranges.hold(*self._whole(offset, offset + length), exclusive=True):
            on = self.on  # looked at first: then all that the target lacks is marked
            start, end = self._part_in_step(offset, offset + length)
            source()
            if not on or start >= end:
                return
            try:
                target(start, end)
            except OSError as error:
                self._failed(error)
                return
            low, high = self._whole(start, end)
            self.bitmap.reset(low, high - low)

    def _part_in_step(self, offset: int, end: int) -> tuple[int, int]:
        """The part of a write after which its units are in step: units that hold more that is dirty
        are left out, and those of a target whose clusters must be written whole."""
        low, high = self._whole(offset, end)
        unit = self.bitmap.granularity
        at_end = end >= self.bitmap.size
        if offset > low and (self.whole_units or not self._is_clean(low)):
            offset = low + unit
        if end < high and not at_end and (self.whole_units or not self._is_clean(high - unit)):
            end = high - unit
        return offset, end

    def _whole(self, start: int, end: int) -> tuple[int, int]:
        unit = self.bitmap.granularity
        return start - start % unit, -(-end // unit) * unit

    def hold(self, offset: int, length: int) -> AbstractContextManager[None]:
        """Keeps the job's copies off a range while it changes at the source alone."""
        return self.ranges.hold(*self._whole(offset, offset + length), exclusive=True)

    def _is_clean(self, start: int) -> bool:
        return self.bitmap.next_dirty(start, start + self.bitmap.granularity) is None


class _JobFilter(Driver):
    """A filter whose child is in the place of a backing image, as QEMU has these."""

    kind = DriverKind.FILTER
    child_roles: ClassVar[tuple[str, ...]] = ("backing",)
    opens_at_once = True
    reopens = False

    stopped = False
    """The job lets go: nothing is asked of the child any more."""

    def __init__(self) -> None:
        self.image: Child

    def open(self, context: OpenContext) -> None:
        self.image = context.children["backing"]

    def close(self) -> None:
        """Nothing of its own to let go of."""

    def passes_to(self) -> str | None:
        return "backing"

    def length(self) -> int:
        return self.image.length()

    def read(self, buffer: memoryview, offset: int) -> None:
        self.image.read(buffer, offset)

    def write(self, buffer: memoryview, offset: int) -> None:
        self.image.write(buffer, offset)

    def write_zeroes(
        self, offset: int, length: int, may_unmap: bool = False, no_fallback: bool = False
    ) -> None:
        self.image.write_zeroes(offset, length, may_unmap, no_fallback)

    def discard(self, offset: int, length: int) -> None:
        self.image.discard(offset, length)

    def flush(self) -> None:
        self.image.flush()

    def truncate(self, size: int) -> None:
        self.image.truncate(size)

    def map(self, offset: int, length: int) -> list[Extent]:
        return self.image.map(offset, length)

    def hold(self) -> AbstractContextManager[None]:
        return self.image.hold()

    @property
    def alignment(self) -> int:  # type: ignore[override]  # the child's may change when reopened
        return self.image.alignment

    def filename_over(self, below: str) -> str:
        return below


class MirrorTopDriver(_JobFilter):
    name = "mirror_top"

    def __init__(self, *, commits: bool, active: ActiveWrites | None = None) -> None:
        super().__init__()
        self._commits = commits
        self.active = active
        self.target: Child | None = None

    def passes_to(self) -> str | None:
        return "backing" if self.active is None else None

    def child_permissions(
        self, role: str, taken: int, shared: int, writable: bool
    ) -> tuple[int, int]:
        if self.stopped or role == "target":  # the job itself has what the target needs
            return 0, permissions.ALL
        taken, shared = permissions.through_filter(taken, shared)
        if self._commits:
            # What lies above the base is no consistent image by itself while the base changes, and
            # the base is below everything: nobody here may keep the job from writing to it.
            return taken & ~permissions.CONSISTENT_READ, shared | permissions.WRITE
        if self.active is not None:
            shared &= ~permissions.WRITE  # a write that did not come this way would be missed
        return taken, shared

    def write(self, buffer: memoryview, offset: int) -> None:
        active, target = self.active, self.target
        if active is None or target is None:
            self.image.write(buffer, offset)
            return
        active.carry(
            offset,
            len(buffer),
            lambda: self.image.write(buffer, offset),
            lambda start, end: target.write(buffer[start - offset : end - offset], start),
        )

    def discard(self, offset: int, length: int) -> None:
        """Not handed on, as what it leaves is for each side to say: it stays dirty."""
        if self.active is None:
            self.image.discard(offset, length)
            return
        with self.active.hold(offset, length):
            self.image.discard(offset, length)

    def write_zeroes(
        self, offset: int, length: int, may_unmap: bool = False, no_fallback: bool = False
    ) -> None:
        active, target = self.active, self.target
        if active is None or target is None:
            self.image.write_zeroes(offset, length, may_unmap, no_fallback)
            return
        active.carry(
            offset,
            length,
            lambda: self.image.write_zeroes(offset, length, may_unmap, no_fallback),
            lambda start, end: target.write_zeroes(start, end - start, may_unmap, False),
        )


class CommitTopDriver(_JobFilter):
    name = "commit_top"

    def child_permissions(
        self, role: str, taken: int, shared: int, writable: bool
    ) -> tuple[int, int]:
        return 0, permissions.ALL
