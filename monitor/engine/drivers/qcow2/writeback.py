"""Metadata to the disk, in an order that no crash can turn into damage.

A write-back takes one consistent cut of all that changed, under the lock, and writes it outside::

    1  refcount blocks
    2  -- barrier, if the refcount table changed -- table entries; or a new table, barrier, header
    3  -- barrier --  data, refcounts and refcount table are durable before anything refers to them
    4  L2 tables
    5  -- barrier, if the L1 table changed -- L1 entries; or a new table, barrier, header
    6  -- barrier --  all is durable, and what was replaced is referred to by nobody
    7  clusters that were dropped before the cut lose their references, in memory

Counts only rise before the references do and only fall after them, so that whatever part of this
reaches the disk, a cluster's count is never too low: at worst clusters leak.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

from monitor.engine.arrays import NDArray, np
from monitor.engine.drivers.qcow2 import layout as q
from monitor.engine.drivers.qcow2 import lazy
from monitor.engine.drivers.qcow2.image import Image
from monitor.engine.drivers.qcow2.mapping import bytes_view
from monitor.engine.drivers.qcow2.refblock import RefBlock
from monitor.engine.drivers.qcow2.tables import L2Table


@dataclass(slots=True)
class _Cut:
    """What one write-back carries, and what to put back if it fails."""

    writes: list[tuple[int, memoryview]] = field(default_factory=list)  # refcount blocks
    blocks: list[tuple[RefBlock, int, int]] = field(default_factory=list)
    table_writes: list[tuple[int, memoryview]] = field(default_factory=list)
    table_dirty: set[int] = field(default_factory=set)
    table_pointer: tuple[int, int] | None = None  # new offset and clusters for the header
    l2_writes: list[tuple[int, memoryview]] = field(default_factory=list)
    l2_tables: list[tuple[L2Table, int, int]] = field(default_factory=list)
    l1_writes: list[tuple[int, memoryview]] = field(default_factory=list)
    l1_dirty: set[int] = field(default_factory=set)
    l1_pointer: tuple[int, int] | None = None  # new offset and entries for the header
    dropped: list[NDArray[np.uint64]] = field(default_factory=list)
    dropped_count: int = 0
    data_pending: bool = False


def flush(image: Image) -> None:
    """All that completed before the call is durable when it returns. Raises OSError."""
    arrived = image.flushes_started
    image.tell("flush_to_os")
    with image.flush_lock:
        if image.flushes_finished > arrived:
            return  # one that began after this call was made has done it all
        flush_locked(image)


def flush_locked(image: Image, *, everything: bool = False) -> None:
    """``flush`` with the flush lock held. ``everything``: refcounts too that could wait."""
    image.flushes_started += 1
    number = image.flushes_started
    _write_back(image, everything=everything)
    image.flushes_finished = number


def write_back(image: Image) -> None:
    """A write-back that nobody asked for: dropped clusters and dirty tables are too many."""
    with image.flush_lock:
        if image.crowded():
            _write_back(image)


def drain(image: Image) -> None:
    """Everything durable and nothing left to release; no request may be under way."""
    with image.flush_lock:
        drain_locked(image)


def drain_locked(image: Image) -> None:
    """``drain`` with the flush lock held."""
    flush_locked(image, everything=True)
    while image.dropped or image.retired or image.refcounts.dirty_bytes():
        _write_back(image, everything=True)


def finish(image: Image) -> None:
    """``drain`` at the end of writing: the image says no longer that it is being written to."""
    with image.flush_lock:
        drain_locked(image)
        lazy.mark_clean(image)
        image.changing = image.unfinished = False


def _write_back(image: Image, *, everything: bool = False) -> None:
    _release(image)
    with image.lock:
        cut = _take(image, refcounts=everything or not lazy.postponed(image))
    done = False
    try:
        _write(image, cut)
        done = True
    finally:
        with image.lock:
            if done:
                image.retire(cut.dropped)
            else:
                _put_back(image, cut)
            for block, _, _ in cut.blocks:
                block.writing = False
            for table, _, _ in cut.l2_tables:
                table.writing = False
    _release(image)


def _take(image: Image, *, refcounts: bool) -> _Cut:
    """The cut (lock held), with or without what counts."""
    cut = _Cut()
    if refcounts:
        _take_refcounts(image, cut)
    tables = image.tables
    for table in tables.cache.values():
        if table.dirty:
            offset, entries, low, high = table.take_dirty()
            cut.l2_writes.append((offset, bytes_view(entries)))
            cut.l2_tables.append((table, low, high))
    cut.l1_dirty, tables.l1_dirty = tables.l1_dirty, set()
    if tables.l1_moved:
        tables.l1_moved = False
        cut.l1_pointer = (tables.l1_offset, len(tables.l1))
        cut.l1_writes.append((tables.l1_offset, bytes_view(tables.l1.byteswap())))
    else:
        cut.l1_writes = _sectors(tables.l1, tables.l1_offset, cut.l1_dirty)
    cut.dropped += image.dropped + tables.retired
    cut.dropped_count = image.dropped_count
    image.dropped, image.dropped_count = [], 0
    tables.retired = []
    cut.data_pending, image.data_pending = image.data_pending, False
    return cut


def _take_refcounts(image: Image, cut: _Cut) -> None:
    refcounts = image.refcounts
    order = image.geometry.refcount_order
    for block in refcounts.blocks.values():
        if block.dirty:
            offset, data, low, high = block.take_dirty(order)
            cut.writes.append((offset, data.data))
            cut.blocks.append((block, low, high))
    cut.table_dirty, refcounts.table_dirty = refcounts.table_dirty, set()
    if refcounts.table_moved:
        refcounts.table_moved = False
        clusters = len(refcounts.table) >> (image.geometry.cluster_bits - 3)
        cut.table_pointer = (refcounts.table_offset, clusters)
        whole = bytes_view(refcounts.table.byteswap())
        cut.table_writes.append((refcounts.table_offset, whole))
    else:
        cut.table_writes = _sectors(refcounts.table, refcounts.table_offset, cut.table_dirty)
    cut.dropped = refcounts.retired
    refcounts.retired = []


def _sectors(
    table: NDArray[np.uint64], offset: int, dirty: set[int]
) -> list[tuple[int, memoryview]]:
    """The sectors of a table that hold ``dirty`` entries, neighbours joined."""
    per_sector = q.SECTOR // 8
    result: list[tuple[int, memoryview]] = []
    sectors = sorted({index // per_sector for index in dirty})
    start = 0
    for at in range(1, len(sectors) + 1):
        if at == len(sectors) or sectors[at] != sectors[at - 1] + 1:
            low, high = sectors[start] * per_sector, (sectors[at - 1] + 1) * per_sector
            data = table[low:high].byteswap()
            result.append((offset + low * 8, bytes_view(data)))
            start = at
    return result


def _write(image: Image, cut: _Cut) -> None:
    file = image.file
    for offset, data in cut.writes:
        image.tell("refblock_update_part")
        file.write(data, offset)
    if cut.table_writes:
        file.flush()
        for offset, data in cut.table_writes:
            moved = cut.table_pointer is not None
            image.tell("refblock_alloc_write_table" if moved else "refblock_alloc_hookup")
            file.write(data, offset)
        if cut.table_pointer:
            file.flush()
            image.tell("refblock_alloc_switch_table")
            _write_table_pointer(image, *cut.table_pointer)
    if cut.l2_writes or cut.l1_writes:
        if cut.data_pending or cut.writes or cut.table_writes:
            file.flush()
        for offset, data in cut.l2_writes:
            image.tell("l2_update")
            file.write(data, offset)
        if cut.l1_writes:
            file.flush()
            for offset, data in cut.l1_writes:
                image.tell("l1_grow_write_table" if cut.l1_pointer else "l1_update")
                file.write(data, offset)
            if cut.l1_pointer:
                file.flush()
                image.tell("l1_grow_activate_table")
                _write_l1_pointer(image, *cut.l1_pointer)
    image.tell("flush_to_disk")
    file.flush()


def _write_table_pointer(image: Image, offset: int, clusters: int) -> None:
    """The header names the refcount table that has just become durable."""
    with image.lock:
        image.header.refcount_table_offset = offset
        image.header.refcount_table_clusters = clusters
        fields = q.REFTABLE_FIELDS.pack(offset, clusters)
        image.file.write(memoryview(fields), q.REFTABLE_AT)


def _write_l1_pointer(image: Image, offset: int, entries: int) -> None:
    """The header names the L1 table that has just become durable."""
    with image.lock:
        image.header.l1_table_offset = offset
        image.header.l1_size = entries
        image.write_size()


def _put_back(image: Image, cut: _Cut) -> None:
    """A write-back failed somewhere: all of it is still to be done (lock held)."""
    refcounts, tables = image.refcounts, image.tables
    for block, low, high in cut.blocks:
        block.touch(low, high)
    refcounts.table_dirty |= cut.table_dirty
    refcounts.table_moved |= cut.table_pointer is not None
    for table, low, high in cut.l2_tables:
        table.touch(low, high)
    tables.l1_dirty |= cut.l1_dirty
    tables.l1_moved |= cut.l1_pointer is not None
    image.dropped = cut.dropped + image.dropped
    image.dropped_count += cut.dropped_count
    image.data_pending |= cut.data_pending


def _release(image: Image) -> None:
    """Lowers the refcounts of retired clusters that no request uses any more, and of those whose
    counts could not be read before. Raises nothing: what it cannot do has nothing to do with what
    is to be durable."""
    with image.lock:
        owed, image.refcounts.owed = image.refcounts.owed, []
        clusters = owed + image.releasable()
    for part in clusters:
        for low in range(0, len(part), q.PIECE):
            piece = part[low : low + q.PIECE]
            if image.pass_discards:
                _discard(image, piece)
            with image.lock:
                image.refcounts.release(piece)


def _discard(image: Image, clusters: NDArray[np.uint64]) -> None:
    """Gives clusters back to the host while they still count as used, so nobody gets them."""
    try:
        with image.lock:
            free = image.refcounts.would_free(clusters)
            image.refcounts.stop_packing(free)
    except OSError:
        return  # it is told where somebody needs these counts
    with contextlib.suppress(OSError):  # advice: the space stays with the file
        give_to_host(image, free)


def give_to_host(image: Image, clusters: NDArray[np.uint64]) -> None:
    """Discards host clusters, ascending, but none that hold metadata, whatever counts and tables
    say. Raises OSError."""
    if not len(clusters):
        return
    bits = image.bits
    starts = [0, *(np.flatnonzero(clusters[1:] != clusters[:-1] + np.uint64(1)) + 1).tolist()]
    for low, high in zip(starts, [*starts[1:], len(clusters)], strict=True):
        offset, length = int(clusters[low]) << bits, (high - low) << bits
        with image.lock:
            taken = image.metadata.hits(offset, length)
        if not taken:
            image.file.discard(offset, length)
