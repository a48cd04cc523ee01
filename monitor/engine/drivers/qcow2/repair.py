"""Images that were not closed: the dirty bit says that refcounts may be wrong.

QEMU sets it while it postpones refcounts (``lazy_refcounts``). Before such an image is written to,
all references are counted anew, the refcounts and the COPIED flags are set to what was counted,
and the bit is cleared. A crash in the middle leaves the bit set, and all is done again.
"""

from __future__ import annotations

from errno import EIO

from monitor.engine.arrays import NDArray, np
from monitor.engine.drivers.qcow2 import census, lazy, writeback
from monitor.engine.drivers.qcow2 import layout as q
from monitor.engine.drivers.qcow2.errors import TooLargeToRepair
from monitor.engine.drivers.qcow2.image import Image
from monitor.engine.drivers.qcow2.mapping import Entries
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
            found_now = census.take(image, limit=_MAX_CLUSTERS)
            if found_now.corruptions:
                raise OSError(EIO, found_now.problems[0])
            set_refcounts(image, found_now.counts)
            set_copied_flags(image, found_now.counts)
        writeback.flush_locked(image, everything=True)
        lazy.mark_clean(image)
    except OSError as error:
        raise host_failure("Could not repair dirty image", error) from error


# -- setting (lock held) -----------------------------------------------------------------------


def set_refcounts(image: Image, counts: NDArray[np.uint32], *, add_blocks: bool = True) -> None:
    """Makes the refcounts what was counted. Raises OSError."""
    refcounts = image.refcounts
    refcounts.owed = []
    limit = (1 << image.geometry.refcount_bits) - 1
    if int(counts.max()) > limit:
        raise OSError(EIO, "a cluster has more references than its refcount can hold")
    if add_blocks:
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
            refcounts.settle(block)
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
    spare = refcounts.allocate_placed(len(missing))
    for index in missing:
        if refcounts.block(index) is None:  # the allocation may have brought this one along
            refcounts.add_block(index, spare)
            spare += 1
    assert np.count_nonzero(refcounts.table) >= before + len(missing)
    added = [offset >> image.bits for offset in refcounts.table.tolist() if offset not in known]
    counts = _count(counts, np.array(added, np.int64))
    if refcounts.table_offset != old_table:  # the old one loses its reference when it is replaced
        first = refcounts.table_offset >> image.bits
        counts = _count(counts, np.arange(first, first + (len(refcounts.table) * 8 >> image.bits)))
    return counts


def _count(counts: NDArray[np.uint32], clusters: NDArray[np.int64]) -> NDArray[np.uint32]:
    """``counts`` with one reference more to each of ``clusters``, longer where it ends earlier."""
    if not len(clusters):
        return counts
    size = max(len(counts), int(clusters.max()) + 1)
    counts = np.concatenate([counts, np.zeros(size - len(counts), np.uint32)])
    counts[clusters] += np.uint32(1)
    return counts


def set_copied_flags(image: Image, counts: NDArray[np.uint32]) -> None:
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
    plain &= (hosts >> np.uint64(bits)) < len(counts)
    result = entries & ~np.uint64(q.COPIED)
    at = (hosts[plain] >> np.uint64(bits)).astype(np.intp)
    single = counts[at] == 1
    result[plain] |= np.where(single, np.uint64(q.COPIED), np.uint64(0))
    return result
