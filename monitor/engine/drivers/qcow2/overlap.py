"""Where the metadata lies, so that nothing is ever written over it.

A crafted or damaged image may say that a cluster in use is free, or point a guest cluster at a
table. Before anything is written to a host range, the range is compared with every structure that
is known, kept as intervals sorted by their start::

    starts   s0     s1        s2
             |--A--||---B----| |--C--|
    ends          e0         e1     e2     running maximum, so that ends[i] covers all before it

A range [a, b) touches one of them exactly if the last interval that starts below b has an end
above a: one bisection, about half a microsecond.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable
from typing import NamedTuple

from monitor.engine.arrays import NDArray, np


class Region(NamedTuple):
    """A structure (QEMU's name for it) and the host ranges it takes, each of ``size`` bytes."""

    name: str
    offsets: NDArray[np.uint64]
    size: int


def region(name: str, offset: int, size: int) -> Region:
    return Region(name, np.array([offset] if size else [], np.uint64), size)


class MetadataMap:
    """Host ranges that hold metadata. Called with the image's metadata lock held.

    ``regions`` lists what is there now; it is asked again after ``forget``. Structures that are
    added one at a time while the image grows come in by ``add``.
    """

    def __init__(self, regions: Callable[[], list[Region]]) -> None:
        self._regions = regions
        self._starts: array[int] | None = None
        self._ends: array[int] = array("Q")

    def forget(self) -> None:
        """Something moved or went away: look again at the next use."""
        self._starts = None

    def add(self, offset: int, size: int) -> None:
        """A new structure, in clusters that were free."""
        if self._starts is None:
            return
        at = bisect_left(self._starts, offset)
        before = self._ends[at - 1] if at else 0
        self._starts.insert(at, offset)
        self._ends.insert(at, max(before, offset + size))

    def remove(self, offset: int) -> None:
        """The structure that began at ``offset`` is no more."""
        if self._starts is None:
            return
        at = bisect_left(self._starts, offset)
        if at < len(self._starts) and self._starts[at] == offset:
            del self._starts[at], self._ends[at]

    def hits(self, offset: int, length: int) -> bool:
        """Whether [offset, offset + length) touches metadata."""
        starts = self._starts
        if starts is None:
            starts = self._build()
        at = bisect_left(starts, offset + length)
        return at > 0 and self._ends[at - 1] > offset

    def name_at(self, offset: int, length: int) -> str:
        """What lies in the range, for the message; '' when nothing does."""
        for name, offsets, size in self._regions():
            touching = (offsets < np.uint64(offset + length)) & (
                offsets + np.uint64(size) > np.uint64(offset)
            )
            if touching.any():
                return name
        return ""

    def collision(self) -> tuple[str, int] | None:
        """A structure that lies on another, and its offset; None in a sound image."""
        starts = np.frombuffer(self._starts or self._build(), np.uint64)
        ends = np.frombuffer(self._ends, np.uint64)
        clash = np.flatnonzero(starts[1:] < ends[:-1])
        if not len(clash):
            return None
        offset = int(starts[int(clash[0]) + 1])
        return self.name_at(offset, 1), offset

    def _build(self) -> array[int]:
        regions = [r for r in self._regions() if len(r.offsets)]
        starts = np.concatenate([r.offsets for r in regions])
        ends = np.concatenate([r.offsets + np.uint64(r.size) for r in regions])
        order = np.argsort(starts, kind="stable")  # quick on what is sorted in part
        starts = starts[order]
        ends = ends[order]
        self._starts = _array(starts)
        self._ends = _array(np.maximum.accumulate(ends))
        return self._starts


def _array(values: NDArray[np.uint64]) -> array[int]:
    """Plain integers: bisecting numpy's would make an object of each that it looks at."""
    result = array("Q")
    result.frombytes(values.data.cast("B"))
    return result
