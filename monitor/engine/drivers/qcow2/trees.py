"""What hangs below an L1 table: L2 tables and, in them, references to host clusters.

The active L1 table and that of each internal snapshot are the roots of such trees. A tree holds a
reference to each of its L2 tables and, through it, one to each host cluster that its entries name,
whether or not other trees share the table.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from errno import EFBIG, EIO
from typing import Final

from monitor.engine.arrays import np
from monitor.engine.drivers.qcow2 import layout as q
from monitor.engine.drivers.qcow2.errors import TableOffsetInvalid, TableOutsideFile, TableTooLarge
from monitor.engine.drivers.qcow2.image import Image
from monitor.engine.drivers.qcow2.mapping import (
    Entries,
    c_hex,
    first_invalid,
    host_clusters,
    tally,
)
from monitor.engine.drivers.qcow2.refcount import load_table
from monitor.engine.drivers.qcow2.snapshots import Snapshot

MAX_TABLES: Final = 1 << 20
MAX_ENTRIES: Final = 1 << 30
"""L2 tables of a tree, and entries in them: 64 TiB in clusters of 64 KiB, minutes of work."""


class Tree:
    """A checked L1 table: its L2 tables are aligned, begin inside the file, are all different, and
    not more than can be gone through. What is on the disk is read: it must be up to date. Raises
    CorruptionError; OSError(EFBIG) for what is too much.
    """

    def __init__(self, image: Image, l1: Entries) -> None:
        self.l1 = l1
        self._image = image
        offsets = l1 & np.uint64(q.OFFSET_MASK)
        self.indexes = np.flatnonzero(offsets)
        """The L1 indexes of its L2 tables."""
        self.offsets: Entries = offsets[self.indexes]
        """The host offset of each."""
        self._check()

    def _check(self) -> None:
        image = self._image
        tables = len(self.offsets)
        if tables > MAX_TABLES or tables << image.l2_bits > MAX_ENTRIES:
            raise OSError(EFBIG, os.strerror(EFBIG))
        odd = np.flatnonzero(self.offsets & np.uint64(image.in_cluster))
        if len(odd):
            image.corrupt(f"L2 table offset {self._place(int(odd[0]), 'unaligned')}")
        far = np.flatnonzero(self.offsets >= image.file.length())
        if len(far):
            where = self._place(int(far[0]), "outside of the file")
            image.corrupt(f"L2 table offset {where}")
        if len(tally(self.offsets)[0]) != len(self.offsets):
            raise OSError(EIO, "an L2 table is used twice")

    def _place(self, number: int, what: str) -> str:
        offset, index = int(self.offsets[number]), int(self.indexes[number])
        return f"{offset:#x} {what} (L1 index: {c_hex(index)})"

    def table(self, number: int) -> Entries:
        """The entries of its L2 table of that number, checked for sense."""
        image = self._image
        offset = int(self.offsets[number])
        entries = load_table(image.file, offset, image.in_table + 1)
        bad = first_invalid(entries, image.geometry)
        if bad is not None:
            at = int(entries[bad]) & q.OFFSET_MASK
            where = f"(L2 offset: {offset:#x}, L2 index: {c_hex(bad)})"
            if at & image.in_cluster:
                image.corrupt(f"Cluster allocation offset {at:#x} unaligned {where}")
            image.corrupt(f"Zero cluster entry found in pre-v3 image {where}")
        return entries

    def references(self) -> Iterator[Entries]:
        """The host clusters that the tree refers to, one item a reference, a piece at a time; its
        L2 tables last, after they have been read."""
        for number in range(len(self.offsets)):
            entries = self.table(number)
            for low in range(0, len(entries), q.PIECE):
                yield host_clusters(entries[low : low + q.PIECE], self._image.geometry)
        bits = np.uint64(self._image.bits)
        for low in range(0, len(self.offsets), q.PIECE):
            yield self.offsets[low : low + q.PIECE] >> bits


def snapshot_l1(image: Image, snapshot: Snapshot) -> Entries:
    """The L1 table of a snapshot. Raises BadImage (its place makes no sense), OSError."""
    size = snapshot.l1_size * 8
    if size > q.MAX_L1_BYTES:
        raise TableTooLarge("Snapshot L1 table")
    if snapshot.l1_table_offset + size > q.MAX_INT64 or (
        snapshot.l1_table_offset & image.in_cluster
    ):
        raise TableOffsetInvalid("Snapshot L1 table")
    if size and snapshot.l1_table_offset >= image.file.length():
        raise TableOutsideFile("Snapshot L1 table")
    return load_table(image.file, snapshot.l1_table_offset, snapshot.l1_size)
