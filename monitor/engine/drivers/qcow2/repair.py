"""Images that were not closed: the dirty bit says that refcounts may be wrong.

QEMU sets it while it postpones refcounts (``lazy_refcounts``). Before such an image is written to,
all references are counted anew, the refcounts and the COPIED flags are set to what was counted,
and the bit is cleared. A crash in the middle leaves the bit set, and all is done again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from errno import EIO

import numpy as np
from numpy.typing import NDArray

from monitor.engine.drivers.qcow2 import keeping, lazy, writeback
from monitor.engine.drivers.qcow2 import layout as q
from monitor.engine.drivers.qcow2.errors import TooLargeToRepair
from monitor.engine.drivers.qcow2.image import Image
from monitor.engine.drivers.qcow2.mapping import Entries, host_clusters
from monitor.engine.drivers.qcow2.refcount import load_table
from monitor.engine.errors import host_failure

_MAX_CLUSTERS = 1 << 23  # host clusters; 32 MiB of counters
_MAX_TABLES = 1 << 14  # L2 tables to read
_MAX_TABLE_BYTES = 512 << 20


def repair_if_dirty(image: Image) -> None:
    """Rebuilds the refcounts of an image whose dirty bit is set (flush lock held).

    Raises TooLargeToRepair; HostFailure, BadBitmaps when the image is damaged beyond its refcounts
    or cannot be read or written.
    """
    if not image.is_dirty:
        return
    if (
        image.geometry.clusters(image.file.length()) > _MAX_CLUSTERS
        or np.count_nonzero(image.tables.l1) > _MAX_TABLES
        or np.count_nonzero(image.refcounts.table) > _MAX_TABLES
        or sum(snapshot.l1_size for snapshot in image.snapshots) * 8 > _MAX_TABLE_BYTES
        or sum(e.table_size for e in image.bitmap_directory.entries) * 8 > q.MAX_BITMAP_TABLES
    ):
        raise TooLargeToRepair
    try:
        with image.lock:
            found = image.metadata.collision()
            if found:
                image.corrupt(f"Metadata structures overlap ({found[0]} at {found[1]:#x})")
            counts = _count(image)
            _set_refcounts(image, counts)
            _set_copied_flags(image, counts)
        writeback.flush_locked(image, everything=True)
        lazy.mark_clean(image)
    except OSError as error:
        raise host_failure("Could not repair dirty image", error) from error


# -- counting --------------------------------------------------------------------------------


def _count(image: Image) -> NDArray[np.uint32]:
    """The references to each host cluster, from every structure of the image."""
    bits = image.bits
    clusters = image.geometry.clusters(image.file.length())
    tables = Counter(_l2_offsets(image, image.tables.l1))
    for snapshot in image.snapshots:
        if snapshot.l1_size * 8 > q.MAX_L1_BYTES:
            raise OSError(EIO, f"L1 table of snapshot '{snapshot.id}' is too large")
        l1 = load_table(image.file, snapshot.l1_table_offset, snapshot.l1_size)
        tables.update(_l2_offsets(image, l1))
        if len(tables) > _MAX_TABLES:
            raise TooLargeToRepair
    if len(tables) << bits > _MAX_TABLE_BYTES:
        raise TooLargeToRepair
    counts = np.zeros(clusters, np.uint32)
    for offset, size in _plain_regions(image):
        counts = _add(counts, np.arange(offset >> bits, (offset + size + image.in_cluster) >> bits))
    for part in keeping.all_clusters(image):
        counts = _add(counts, part)
    for offset, times in tables.items():
        counts = _add(counts, np.array([offset >> bits]), times)
        counts = _add(counts, host_clusters(_read_l2(image, offset), image.geometry), times)
    return counts


def _plain_regions(image: Image) -> Iterator[tuple[int, int]]:
    """All metadata but L2 tables: host offset and bytes."""
    header = image.header
    yield 0, image.geometry.cluster_size
    yield image.refcounts.table_offset, len(image.refcounts.table) * 8
    for entry in image.refcounts.table[image.refcounts.table != 0]:
        yield int(entry) & q.REFTABLE_MASK, image.geometry.cluster_size
    yield image.tables.l1_offset, len(image.tables.l1) * 8
    yield header.snapshots_offset, image.snapshot_bytes
    for snapshot in image.snapshots:
        yield snapshot.l1_table_offset, snapshot.l1_size * 8


def _l2_offsets(image: Image, l1: Entries) -> list[int]:
    offsets = (l1 & q.OFFSET_MASK)[(l1 & q.OFFSET_MASK) != 0]
    if (offsets & np.uint64(image.in_cluster)).any():
        raise OSError(EIO, "L2 table offset unaligned")
    if len(offsets) > _MAX_TABLES:
        raise TooLargeToRepair
    return [int(offset) for offset in offsets]


def _read_l2(image: Image, offset: int) -> Entries:
    return load_table(image.file, offset, image.in_table + 1)


def _add(
    counts: NDArray[np.uint32], clusters: NDArray[np.integer], times: int = 1
) -> NDArray[np.uint32]:
    """``counts`` with references to ``clusters`` added, longer where they lie past its end."""
    if not len(clusters):
        return counts
    size = int(clusters.max()) + 1
    if size > _MAX_CLUSTERS:
        raise TooLargeToRepair
    if size > len(counts):
        counts = np.concatenate([counts, np.zeros(size - len(counts), np.uint32)])
    np.add.at(counts, clusters.astype(np.intp), np.uint32(times))
    return counts


# -- setting (lock held) -----------------------------------------------------------------------


def _set_refcounts(image: Image, counts: NDArray[np.uint32]) -> None:
    refcounts = image.refcounts
    limit = (1 << image.geometry.refcount_bits) - 1
    if int(counts.max()) > limit:
        raise OSError(EIO, "a cluster has more references than its refcount can hold")
    counts = _add_blocks(image, counts)
    size = refcounts.block_entries
    for index in np.flatnonzero(refcounts.table).tolist():
        block = refcounts.block(index)
        if block is None:
            continue
        wanted = np.zeros(size, block.counters.dtype)
        part = counts[index * size : (index + 1) * size]
        wanted[: len(part)] = part
        wrong = np.flatnonzero(block.counters != wanted)
        if len(wrong):
            block.counters[:] = wanted
            block.touch(int(wrong[0]), int(wrong[-1]) + 1)
    refcounts.search_from(0)


def _add_blocks(image: Image, counts: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """New blocks for parts of the file that have none, in clusters past all that are in use.

    Returns ``counts`` with what was added.
    """
    refcounts = image.refcounts
    size = refcounts.block_entries
    used = np.unique(np.flatnonzero(counts) // size).tolist()
    missing = [index for index in used if refcounts.block(index) is None]
    if not missing:
        return counts
    before = np.count_nonzero(refcounts.table)
    old_table = refcounts.table_offset
    known = set(refcounts.table.tolist())
    refcounts.search_from(len(counts))
    spare = refcounts.allocate(len(missing))
    for index in missing:
        if refcounts.block(index) is None:  # the allocation may have brought this one along
            refcounts.add_block(index, spare)
            spare += 1
    assert np.count_nonzero(refcounts.table) >= before + len(missing)
    added = [offset >> image.bits for offset in refcounts.table.tolist() if offset not in known]
    counts = _add(counts, np.array(added))
    if refcounts.table_offset != old_table:  # the old one loses its reference when it is replaced
        first = refcounts.table_offset >> image.bits
        counts = _add(counts, np.arange(first, first + (len(refcounts.table) * 8 >> image.bits)))
    return counts


def _set_copied_flags(image: Image, counts: NDArray[np.uint32]) -> None:
    """COPIED says exactly that the one reference to a cluster is this one (lock held)."""
    tables = image.tables
    wanted = _with_copied(tables.l1, counts, image.bits)
    tables.l1_dirty.update(np.flatnonzero(wanted != tables.l1).tolist())
    tables.l1[:] = wanted
    for index in np.flatnonzero(tables.l1).tolist():
        table = tables.table(index)
        if table is None:
            continue
        entries = _with_copied(table.entries, counts, image.bits)
        wrong = np.flatnonzero(entries != table.entries)
        table.copied = bool(int(tables.l1[index]) & q.COPIED)
        if len(wrong):
            table.entries[:] = entries
            table.touch(int(wrong[0]), int(wrong[-1]) + 1)


def _with_copied(entries: Entries, counts: NDArray[np.uint32], bits: int) -> Entries:
    """``entries`` with COPIED as ``counts`` has it; compressed and empty ones never have it."""
    hosts = entries & np.uint64(q.OFFSET_MASK)
    plain = ((entries & np.uint64(q.COMPRESSED)) == 0) & (hosts != 0)
    result = entries & ~np.uint64(q.COPIED)
    at = (hosts[plain] >> np.uint64(bits)).astype(np.intp)
    single = counts[at] == 1
    result[plain] |= np.where(single, np.uint64(q.COPIED), np.uint64(0))
    return result
