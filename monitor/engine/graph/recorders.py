"""The dirty bitmaps of a node, and the stages of its pipeline that tell them of writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from monitor.engine.graph.stages import Discard, MapForWrite, Write, WriteZeroes

if TYPE_CHECKING:
    from monitor.engine.bitmap import DirtyBitmap
    from monitor.engine.drivers.base import Reservation


Note = Callable[[int, int], None]


class Bitmaps:
    """A node's bitmaps: its users' by name, and the jobs' own. Oldest first; changed by steps of
    ``graph.edit`` only."""

    def __init__(self) -> None:
        self._all: tuple[DirtyBitmap, ...] = ()
        self._named: dict[str, DirtyBitmap] = {}

    def __iter__(self) -> Iterator[DirtyBitmap]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, name: str) -> bool:
        return name in self._named

    def get(self, name: str) -> DirtyBitmap | None:
        return self._named.get(name)

    def named(self) -> list[DirtyBitmap]:
        """Those with a name, oldest first."""
        return [bitmap for bitmap in self._all if bitmap.name is not None]

    def add(self, bitmap: DirtyBitmap, place: int | None = None) -> None:
        """Takes one in, as the newest or at the ``place`` that ``remove`` told."""
        place = len(self._all) if place is None else place
        self._all = (*self._all[:place], bitmap, *self._all[place:])
        if bitmap.name is not None:
            self._named[bitmap.name] = bitmap

    def remove(self, bitmap: DirtyBitmap) -> int:
        """Lets one go; the place that it had."""
        place = self._all.index(bitmap)
        self._all = (*self._all[:place], *self._all[place + 1 :])
        if bitmap.name is not None:
            del self._named[bitmap.name]
        return place

    def resize(self, size: int) -> None:
        for bitmap in self._all:
            bitmap.resize(size)

    @property
    def bound_by_number(self) -> bool:
        """Whether one more, or one less that has just gone, has the pipeline bound anew: of several
        ``note`` finds out itself how many there are."""
        return len(self._all) < 2

    def note(self) -> Note:
        """What tells every bitmap of a range that was written."""
        if len(self._all) == 1:  # as usual: without a loop
            return self._all[0].note

        def note(offset: int, length: int) -> None:
            for bitmap in self._all:
                bitmap.note(offset, length)

        return note

    def noting(self, write: Write) -> Write:
        """The operation, noted in every bitmap."""
        return (
            self._all[0].noting(write) if len(self._all) == 1 else noted_write(write, self.note())
        )


def noted_write(write: Write, note: Note) -> Write:
    """The operation, noted once it has ended, however it ended; so are those below."""

    def noted(buffer: memoryview, offset: int) -> None:
        try:
            write(buffer, offset)
        finally:
            note(offset, len(buffer))

    return noted


def noted_zeroes(write_zeroes: WriteZeroes, note: Note) -> WriteZeroes:
    def noted(offset: int, length: int, may_unmap: bool = False, no_fallback: bool = False) -> None:
        try:
            write_zeroes(offset, length, may_unmap, no_fallback)
        finally:
            note(offset, length)

    return noted


def noted_discard(discard: Discard, note: Note) -> Discard:
    def noted(offset: int, length: int) -> None:
        try:
            discard(offset, length)
        finally:
            note(offset, length)

    return noted


def noted_reservation(map_for_write: MapForWrite, note: Note) -> MapForWrite:
    def noted(offset: int, length: int) -> Reservation | None:
        reserved = map_for_write(offset, length)
        if reserved is None:
            return None
        covered = reserved.length
        return reserved.followed_by(lambda: note(offset, covered))

    return noted
