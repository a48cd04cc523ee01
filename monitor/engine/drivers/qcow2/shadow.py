"""Reference counts as they will be after a switch: copies of refcount blocks, in new clusters.

The blocks that the image has now stay as they are, in memory and on the disk, until the header
names a refcount table with the new ones in it (``switch``).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from errno import EINVAL
from typing import Any, Final

from monitor.engine.arrays import NDArray, np
from monitor.engine.drivers.qcow2 import refblock
from monitor.engine.drivers.qcow2.image import Image
from monitor.engine.drivers.qcow2.mapping import Entries, tally

_MEMORY: Final = 64 << 20
"""Bytes of counters to hold at once; more are written to their new clusters and read again."""

Counters = NDArray[Any]


class ShadowCounts:
    """The counters of the blocks ``indexes``; ``first`` is the first of as many new clusters."""

    def __init__(self, image: Image, indexes: list[int], first: int) -> None:
        self._image = image
        self._refcounts = image.refcounts
        self.places = {index: (first + n) << image.bits for n, index in enumerate(indexes)}
        """The host offset of each new block."""
        self._held: dict[int, Counters] = {}  # the least recently used first
        self._written: set[int] = set()
        per_block = self._refcounts.block_entries * refblock.counter_type(self._order).itemsize
        self._limit = max(2, _MEMORY // per_block)

    @property
    def _order(self) -> int:
        return self._image.geometry.refcount_order

    def add(self, clusters: Entries) -> None:
        """Counts one more reference for each item. Raises OSError(EINVAL) when a counter cannot
        hold it, as QEMU does; an image whose references are not counted is corrupt."""
        limit = self._refcounts.limit
        for index, at, times in self._groups(clusters):
            counters = self._counters(index)
            if counters is None or not counters[at].all():
                self._image.corrupt("A cluster that is in use counts as free")
            room = np.uint64(limit) - counters[at].astype(np.uint64)
            if (times > room).any():
                raise OSError(EINVAL, os.strerror(EINVAL))
            counters[at] += times.astype(counters.dtype)

    def take(self, clusters: Entries) -> None:
        """Counts one reference less for each item; one that was not counted is ignored."""
        for index, at, times in self._groups(clusters):
            counters = self._counters(index)
            if counters is not None:
                old = counters[at]
                counters[at] = old - np.minimum(old, times.astype(old.dtype))

    def of(self, clusters: Entries) -> Counters:
        """The count of each item, which will be on the disk."""
        counts = np.zeros(len(clusters), np.uint64)
        bits = np.uint64(self._image.geometry.block_bits)
        indexes = clusters >> bits
        for index in _distinct(indexes):
            counters = self._counters(index)
            if counters is not None:
                mine = indexes == index
                at = clusters[mine] & np.uint64(self._refcounts.block_entries - 1)
                counts[mine] = counters[at.astype(np.intp)]
        return counts

    def write(self) -> None:
        """All new blocks to their clusters."""
        for index in self.places:
            if index in self._held or index not in self._written:
                self._write(index, self._load(index))
        self._held.clear()

    def _groups(self, clusters: Entries) -> Iterator[tuple[int, NDArray[np.intp], Entries]]:
        """By block: its index, places in it, and how often each is meant."""
        unique, counts = tally(clusters)
        times = counts.astype(np.uint64)
        indexes = unique >> np.uint64(self._image.geometry.block_bits)
        places = (unique & np.uint64(self._refcounts.block_entries - 1)).astype(np.intp)
        starts = [0, *(np.flatnonzero(indexes[1:] != indexes[:-1]) + 1).tolist()]
        for low, high in zip(starts, [*starts[1:], len(unique)], strict=True):
            if low < high:
                yield int(indexes[low]), places[low:high], times[low:high]

    def _counters(self, index: int) -> Counters | None:
        """The new counters of a block, or those of one that stays; None where there is none."""
        if index not in self.places:
            block = self._refcounts.block(index)
            return None if block is None else block.counters
        counters = self._load(index)
        self._held[index] = counters
        if len(self._held) > self._limit:
            oldest = next(iter(self._held))
            self._write(oldest, self._held.pop(oldest))
        return counters

    def _load(self, index: int) -> Counters:
        held = self._held.pop(index, None)
        if held is not None:
            return held
        if index not in self._written:
            block = self._refcounts.block(index)
            assert block is not None
            copy: Counters = block.counters.copy()
            return copy
        raw = np.empty(self._image.geometry.cluster_size, np.uint8)
        self._image.file.read(raw.data, self.places[index])
        return refblock.unpack(raw, self._order)

    def _write(self, index: int, counters: Counters) -> None:
        data = refblock.pack(counters, self._order)
        self._image.file.write(np.ascontiguousarray(data).data, self.places[index])
        self._written.add(index)


def _distinct(indexes: Entries) -> list[int]:
    """Each index once. Those of a table mostly are one or two."""
    if not len(indexes):
        return []
    low, high = int(indexes.min()), int(indexes.max())
    return [low] if low == high else tally(indexes)[0].tolist()


def blocks_of(image: Image, references: Iterable[Entries]) -> set[int]:
    """The indexes of the blocks that hold the counts of these clusters, and exist."""
    found: set[int] = set()
    bits = np.uint64(image.geometry.block_bits)
    for clusters in references:
        found.update(_distinct(clusters >> bits))
    return {index for index in found if image.refcounts.block(index) is not None}
