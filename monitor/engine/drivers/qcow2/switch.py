"""Changing which tables an image has, all at once: what internal snapshots are made with.

A snapshot shares clusters with the disk, so making one, going back to one and deleting one change
counts, the COPIED flags that must agree with them, the L1 table and the snapshot table. None of
that is changed in place. New tables are written into new clusters, and one write of one sector of
the header puts all of them in force::

    1  all that is in memory is on the disk; new clusters are allocated, and that is on the disk
    2  new refcount blocks and their table, new L2 tables where a COPIED flag differs,
       a new L1 table and a new snapshot table, in new clusters
    3  -- barrier --
    4  the header: size, L1 table, refcount table, snapshots
    5  -- barrier --
    6  the old ones lose their references

A crash before 4 leaves the image as it was and after it as it shall be; what lies in clusters of
the other one has leaked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from monitor.engine.arrays import NDArray, np
from monitor.engine.drivers.qcow2 import layout as q
from monitor.engine.drivers.qcow2 import writeback
from monitor.engine.drivers.qcow2.image import Image
from monitor.engine.drivers.qcow2.mapping import Entries, bytes_view, clusters_at, tally
from monitor.engine.drivers.qcow2.shadow import ShadowCounts, blocks_of
from monitor.engine.drivers.qcow2.snapshots import Snapshot, pack_snapshots
from monitor.engine.drivers.qcow2.trees import Tree


@dataclass
class Change:
    """What the image shall be. ``gained`` and ``lost`` are trees that get, or lose, an owner."""

    active: Tree
    size: int
    snapshots: Sequence[Snapshot]
    gained: Sequence[Tree] = ()
    lost: Sequence[Tree] = ()
    freed: list[tuple[int, int]] = field(default_factory=list)
    """L1 tables that nobody has any more: host offset and bytes."""


@dataclass
class _Room:
    """New clusters: each a first cluster and how many."""

    l1: tuple[int, int]
    snapshots: tuple[int, int]
    blocks: tuple[int, int]
    tables: tuple[int, int]
    reftable: tuple[int, int]

    def all(self) -> NDArray[np.uint64]:
        parts = (self.l1, self.snapshots, self.blocks, self.tables, self.reftable)
        return np.concatenate(
            [np.arange(first, first + count, dtype=np.uint64) for first, count in parts]
        )


def switch(image: Image, change: Change) -> None:
    """Carries out ``change``. The flush lock is held, all is on the disk (``writeback.drain``), and
    no request is under way. Raises OSError, and the image is as it was."""
    table = pack_snapshots(change.snapshots, image.size)
    with image.lock:
        touched = sorted(
            blocks_of(image, (part for tree in _concerned(change) for part in tree.references()))
            | blocks_of(image, [change.active.offsets >> np.uint64(image.bits)])
        )
        room = _take_room(image, change, len(table), len(touched))
    old = _old_clusters(image, touched)
    try:
        writeback.drain_locked(image)
        with image.lock:
            l1, reftable, unused = _write_tables(image, change, room, touched)
            if table:
                image.file.write(memoryview(_padded(table)), room.snapshots[0] << image.bits)
            image.file.flush()
        _write_header(image, change, room, len(l1))
    except BaseException:
        if not image.broken:
            with image.lock:
                image.refcounts.release(room.all())
        raise
    freed = [old, unused, *(clusters_at(image.geometry, *extent) for extent in change.freed)]
    with image.lock:
        _adopt(image, change, l1, reftable, touched, len(table))
        image.retire([part for part in freed if len(part)])
    with contextlib.suppress(OSError):  # it stays to be done, and the next flush tells
        writeback.drain_locked(image)
        if image.discard_snapshots:
            _discard_free(image, change.lost)


def _concerned(change: Change) -> list[Tree]:
    return [*change.lost, *change.gained]


def _take_room(image: Image, change: Change, table_bytes: int, blocks: int) -> _Room:
    """Allocates all that is needed, of L2 tables as many as there may be (lock held)."""
    geometry, refcounts = image.geometry, image.refcounts
    l1 = geometry.clusters(len(change.active.l1) * 8)
    snapshots = geometry.clusters(table_bytes)
    tables = len(change.active.offsets)
    total = l1 + snapshots + blocks + tables
    start = refcounts.allocate(total) if total else 0
    try:
        reftable = _room_for_table(image)
    except BaseException:
        refcounts.release(np.arange(start, start + total, dtype=np.uint64))
        raise
    starts = list(accumulate((l1, snapshots, blocks), initial=start))
    return _Room(
        l1=(starts[0], l1),
        snapshots=(starts[1], snapshots),
        blocks=(starts[2], blocks),
        tables=(starts[3], tables),
        reftable=reftable,
    )


def _room_for_table(image: Image) -> tuple[int, int]:
    """Clusters for a copy of the refcount table, which may have to grow for them (lock held)."""
    refcounts = image.refcounts
    while True:
        clusters = len(refcounts.table) >> (image.bits - 3)
        first = refcounts.allocate(clusters)
        if len(refcounts.table) >> (image.bits - 3) == clusters:
            return first, clusters
        refcounts.release(np.arange(first, first + clusters, dtype=np.uint64))


def _write_tables(
    image: Image, change: Change, room: _Room, touched: list[int]
) -> tuple[Entries, Entries, NDArray[np.uint64]]:
    """Writes all but the header; the new L1 and refcount tables, and the clusters left over."""
    counts = ShadowCounts(image, touched, room.blocks[0])
    for tree in change.lost:
        for part in tree.references():
            counts.take(part)
    for tree in change.gained:
        for part in tree.references():
            counts.add(part)
    l1, used = _write_l2_tables(image, change.active, counts, room.tables[0])
    counts.write()
    reftable = image.refcounts.table.copy()
    for index, offset in counts.places.items():
        reftable[index] = offset
    image.file.write(bytes_view(reftable.byteswap()), room.reftable[0] << image.bits)
    if len(l1):
        padded = np.zeros(room.l1[1] << (image.bits - 3), np.uint64)
        padded[: len(l1)] = l1
        image.file.write(bytes_view(padded.byteswap(inplace=True)), room.l1[0] << image.bits)
    first, count = room.tables
    return l1, reftable, np.arange(first + used, first + count, dtype=np.uint64)


def _write_l2_tables(
    image: Image, active: Tree, counts: ShadowCounts, free: int
) -> tuple[Entries, int]:
    """The active L1 table. Where the flags of a table do not agree with the counts, the disk gets a
    copy of it from cluster ``free`` on. Returns how many there are, too."""
    l1 = active.l1 & ~np.uint64(q.COPIED)
    used = 0
    for number, (index, offset) in enumerate(
        zip(active.indexes.tolist(), active.offsets.tolist(), strict=True)
    ):
        cluster = np.array([offset >> image.bits], np.uint64)
        entries = active.table(number)
        if _set_copied(image, entries, counts):
            counts.take(cluster)
            cluster[0] = free + used
            used += 1
            offset = int(cluster[0]) << image.bits
            image.file.write(bytes_view(entries.byteswap(inplace=True)), offset)
        copied = q.COPIED if int(counts.of(cluster)[0]) == 1 else 0
        l1[index] = offset | copied
    return l1, used


def _set_copied(image: Image, entries: Entries, counts: ShadowCounts) -> bool:
    """Makes COPIED agree with the counts; whether anything changed."""
    changed = False
    for low in range(0, len(entries), q.PIECE):
        piece = entries[low : low + q.PIECE]
        hosts = piece & np.uint64(q.OFFSET_MASK)
        plain = np.flatnonzero(((piece & np.uint64(q.COMPRESSED)) == 0) & (hosts != 0))
        wanted = piece & ~np.uint64(q.COPIED)
        single = counts.of(hosts[plain] >> np.uint64(image.bits)) == 1
        wanted[plain[single]] |= np.uint64(q.COPIED)
        if (wanted != piece).any():
            piece[:] = wanted
            changed = True
    return changed


# -- the header, and what is in memory ---------------------------------------------------------


def _write_header(image: Image, change: Change, room: _Room, l1_size: int) -> None:
    """Puts the new tables in force. Where that fails the old header is written again; where that
    fails too, nobody knows what the disk has, and nothing more is written."""
    header = image.header
    old = (
        header.size,
        0,
        header.l1_size,
        header.l1_table_offset,
        header.refcount_table_offset,
        header.refcount_table_clusters,
        header.nb_snapshots,
        header.snapshots_offset,
    )
    new = (
        change.size,
        0,
        l1_size,
        room.l1[0] << image.bits if room.l1[1] else 0,
        room.reftable[0] << image.bits,
        room.reftable[1],
        len(change.snapshots),
        room.snapshots[0] << image.bits if room.snapshots[1] else 0,
    )
    try:
        _write_fields(image, new)
    except OSError:
        try:
            _write_fields(image, old)
        except OSError:
            image.broken = True
        raise
    header.size, _, header.l1_size, header.l1_table_offset = new[:4]
    header.refcount_table_offset, header.refcount_table_clusters = new[4:6]
    header.nb_snapshots, header.snapshots_offset = new[6:]


def _write_fields(image: Image, fields: tuple[int, ...]) -> None:
    image.file.write(memoryview(q.TABLES_FIELDS.pack(*fields)), q.SIZE_AT)
    image.file.flush()


def _old_clusters(image: Image, touched: list[int]) -> NDArray[np.uint64]:
    """What the old header, tables and blocks take and nobody has after the switch. The old L1 table
    is either a snapshot's now or among ``Change.freed``."""
    refcounts = image.refcounts
    blocks = (refcounts.table[touched] & np.uint64(q.REFTABLE_MASK)) >> np.uint64(image.bits)
    return np.concatenate(
        [
            blocks,
            clusters_at(image.geometry, refcounts.table_offset, len(refcounts.table) * 8),
            clusters_at(image.geometry, image.header.snapshots_offset, image.snapshot_bytes),
        ]
    )


def _adopt(
    image: Image,
    change: Change,
    l1: Entries,
    reftable: Entries,
    touched: list[int],
    table_bytes: int,
) -> None:
    """What is in memory becomes what is on the disk (lock held)."""
    tables = image.tables
    image.refcounts.replace(reftable, image.header.refcount_table_offset, touched)
    tables.l1, tables.l1_offset = l1, image.header.l1_table_offset
    tables.cache.clear()
    image.snapshots, image.snapshot_bytes = list(change.snapshots), table_bytes
    image.size = change.size // q.SECTOR * q.SECTOR
    image.metadata.forget()


def _discard_free(image: Image, trees: Sequence[Tree]) -> None:
    """Gives what nobody refers to any more back to the host. Raises OSError."""
    counts = ShadowCounts(image, [], 0)  # those of now
    for tree in trees:
        for clusters in tree.references():
            with image.lock:
                free, _ = tally(clusters[counts.of(clusters) == 0])
            writeback.give_to_host(image, free)


def _padded(table: bytes) -> bytes:
    return table.ljust(-(-len(table) // q.SECTOR) * q.SECTOR, b"\0")
