"""Reference counts of host clusters: look up, allocate runs, release.

The refcount table points at refcount blocks, each a cluster of counters. Counters are changed in
memory and reach the disk by ``writeback``. Everything here is called with the image's metadata
lock held. Raises OSError: EIO (with the image marked corrupt where it contradicts itself), EFBIG
when the format can hold no more.

A run that reaches into clusters that no block describes brings its blocks along, and a larger
table where the table ends, all at its head, so that the run itself stays in one piece::

    | new table | new blocks | the run that was asked for |

The head gets its place in the file at once (``place``), so that a write-back only writes over what
is there, and a disk that is full fails the request that wanted the room, not a later flush.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from errno import EFBIG, EINVAL
from typing import Any, NamedTuple, NoReturn, Protocol

from monitor.engine.arrays import NDArray, np
from monitor.engine.drivers.base import Child
from monitor.engine.drivers.qcow2 import layout as q
from monitor.engine.drivers.qcow2 import placing, refblock
from monitor.engine.drivers.qcow2.mapping import bytes_view, c_hex, tally
from monitor.engine.drivers.qcow2.overlap import MetadataMap
from monitor.engine.drivers.qcow2.refblock import RefBlock


class Corrupt(Protocol):
    """Marks the image corrupt (when ``fatal``), reports it, and raises CorruptionError."""

    def __call__(
        self, message: str, offset: int | None = None, size: int | None = None, fatal: bool = True
    ) -> NoReturn: ...


class _Plan(NamedTuple):
    """What an allocation at ``start`` must bring along: table clusters, then missing blocks."""

    start: int
    table_clusters: int
    blocks: list[int]

    @property
    def extra(self) -> int:
        return self.table_clusters + len(self.blocks)


class Refcounts:
    """The refcount table and the blocks in memory.

    ``file_end`` is the end of the part of the file that may hold anything but zeroes, in whole
    clusters: a file may hold only the beginning of its last one, and the rest be written in place.
    ``table_moved`` means that the header does not yet name this table, ``table_dirty`` lists the
    entries that the disk lacks, ``retired`` the clusters of tables that were replaced. ``owed`` are
    references that could not be taken away, as their block could not be read.
    """

    def __init__(
        self,
        file: Child,
        geometry: q.Geometry,
        table: NDArray[np.uint64],
        table_offset: int,
        metadata: MetadataMap,
        corrupt: Corrupt,
        cache_bytes: int,
    ) -> None:
        self.file = file
        self.geometry = geometry
        self.table = table
        self.table_offset = table_offset
        self.table_dirty: set[int] = set()
        self.table_moved = False
        self.retired: list[NDArray[np.uint64]] = []
        self.owed: list[NDArray[np.uint64]] = []
        self.file_end = -(-file.length() & -geometry.cluster_size)
        self._metadata = metadata
        self._corrupt = corrupt
        self.blocks: dict[int, RefBlock] = {}
        self.limit_cache(cache_bytes)
        self._single_hint = 0  # no free cluster lies below
        self._run_hint = 0  # where the search for more than one begins
        self._packing = 0  # where the next compressed data may begin, inside a cluster; 0: nowhere

    @property
    def limit(self) -> int:
        """The most references that a counter can hold."""
        return (1 << self.geometry.refcount_bits) - 1

    def limit_cache(self, cache_bytes: int) -> None:
        """How much is kept from now on; what is too much goes when room is made."""
        self._block_limit = max(4, cache_bytes >> self.geometry.cluster_bits)

    def _tell(self, event: str) -> None:
        """Reports an event to a ``blkdebug`` below, where there is one. It may wait."""
        if self.file.event is not None:
            self.file.event(event)

    @property
    def block_entries(self) -> int:
        return 1 << self.geometry.block_bits

    # -- blocks ------------------------------------------------------------------------------

    def block(self, index: int) -> RefBlock | None:
        """The block of that index; None where there is none, and all its clusters are free."""
        found = self.blocks.get(index)
        if found is not None:
            found.used = True
            return found
        if index >= len(self.table):
            return None
        offset = int(self.table[index]) & q.REFTABLE_MASK
        if offset == 0:
            return None
        if offset & (self.geometry.cluster_size - 1):
            message = f"Refblock offset {offset:#x} unaligned (reftable index: {c_hex(index)})"
            self._corrupt(message)
        if offset >= self.file.length():
            message = (
                f"Refblock offset {offset:#x} outside of the file (reftable index: {c_hex(index)})"
            )
            self._corrupt(message, offset, self.geometry.cluster_size)
        raw = np.empty(self.geometry.cluster_size, np.uint8)
        self._tell("refblock_load")
        self.file.read(raw.data, offset)
        block = RefBlock(offset, refblock.unpack(raw, self.geometry.refcount_order))
        self._make_room()
        self.blocks[index] = block
        return block

    def _make_room(self) -> None:
        """Second chance: the first block that is clean and was not used since the last look."""
        if len(self.blocks) < self._block_limit:
            return
        for index, block in list(self.blocks.items()):
            if block.dirty or block.writing:
                continue
            if block.used:
                block.used = False
                continue
            del self.blocks[index]
            return

    def dirty_bytes(self) -> int:
        return sum(b.dirty for b in self.blocks.values()) * self.geometry.cluster_size

    def get(self, cluster: int) -> int:
        """The refcount of one host cluster."""
        block = self.block(cluster >> self.geometry.block_bits)
        return 0 if block is None else int(block.counters[cluster & (self.block_entries - 1)])

    # -- allocation --------------------------------------------------------------------------

    def allocate(self, count: int) -> int:
        """The first of ``count`` contiguous host clusters that were free; each has refcount 1.

        The clusters hold whatever was left there. Nothing has been claimed when this raises.
        """
        hint = self._single_hint if count == 1 else max(self._run_hint, self._single_hint)
        extra = 0
        while True:
            start = self._search(count + extra, hint)
            plan = self._plan(start, count, extra)
            if plan.extra <= extra:
                break
            extra = plan.extra
        self._tell("cluster_alloc")
        total = count + plan.extra
        self._check(start, total)
        known = self._blocks_of(start, total)
        for block in known.values():
            if not block.placed:
                self.settle(block)
        if plan.extra:
            self._tell("refblock_alloc_write")
            self.place(start, plan.extra)
            self._bring(plan)
        for index, low, high in self._spans(start, total):
            # Loading another one, or making room for a new one, may have dropped it.
            block = self.blocks[index] = known.get(index) or self.blocks[index]
            block.counters[low:high] = 1
            block.touch(low, high)
        end = start + total
        if count == 1 and not plan.extra:
            self._single_hint = end
        self._run_hint = end
        self.file_end = max(self.file_end, end << self.geometry.cluster_bits)
        return start + plan.extra

    def place(self, start: int, count: int) -> None:
        """Has the file take up the room of ``count`` host clusters, which nobody refers to; they
        hold zeroes. Raises OSError."""
        bits = self.geometry.cluster_bits
        placing.write_zeroes(self.file, start << bits, (start + count) << bits)

    def settle(self, block: RefBlock) -> None:
        """Before ``block`` changes: no hole of the file is left where it lies. Raises OSError."""
        placing.fill_holes(self.file, block.offset, block.offset + self.geometry.cluster_size)
        block.placed = True

    def allocate_placed(self, count: int) -> int:
        """``allocate``, and the clusters hold zeroes, for which the file has room."""
        start = self.allocate(count)
        try:
            self.place(start, count)
        except BaseException:
            self.release(np.arange(start, start + count, dtype=np.uint64))
            raise
        return start

    def allocate_bytes(self, size: int) -> int:
        """The host offset of room for ``size`` bytes, a cluster at most, behind what was allocated
        so before where that fits. Each cluster that it touches gains a reference."""
        bits = self.geometry.cluster_bits
        at = self._packing
        if at and self.get(at >> bits) >= self.limit:
            at = 0
        if not at or -at & (self.geometry.cluster_size - 1) < size:
            fresh = self.allocate(1)
            if at and fresh == (at >> bits) + 1:
                try:
                    self.add(np.array([at >> bits], np.uint64))
                except BaseException:
                    self.release(np.array([fresh], np.uint64))
                    raise
            else:
                at = fresh << bits
        else:
            self.add(np.array([at >> bits], np.uint64))
        end = at + size
        self._packing = end if end & (self.geometry.cluster_size - 1) else 0
        return at

    def stop_packing(self, clusters: NDArray[np.uint64]) -> None:
        """Compressed data no longer goes into these clusters: they are about to become free."""
        if self._packing and (clusters == self._packing >> self.geometry.cluster_bits).any():
            self._packing = 0

    def add(self, clusters: NDArray[np.uint64]) -> None:
        """One more reference for each item of ``clusters``, which are in use. Raises
        OSError: EINVAL where a counter is too narrow for it, and nothing has changed then."""
        unique, counts = tally(clusters)
        # Twice, and nothing kept in between: loading a block may drop another one that is clean.
        for change in (False, True):
            for block, part, added in self._by_block(unique, counts):
                at = (part & np.uint64(self.block_entries - 1)).astype(np.intp)
                old = block.counters[at].astype(np.uint64)
                if (np.uint64(self.limit) - old < added.astype(np.uint64)).any():
                    raise OSError(EINVAL, os.strerror(EINVAL))
                if change:
                    block.counters[at] += added.astype(block.counters.dtype)
                    block.touch(int(at[0]), int(at[-1]) + 1)

    def _check(self, start: int, count: int) -> None:
        bits = self.geometry.cluster_bits
        offset, size = start << bits, count << bits
        if offset + size > q.MAX_HOST_OFFSET:
            raise OSError(EFBIG, os.strerror(EFBIG))
        if self._metadata.hits(offset, size):
            name = self._metadata.name_at(offset, size)
            message = f"Preventing invalid write on metadata (overlaps with {name})"
            self._corrupt(message, offset, size)

    def _plan(self, start: int, count: int, allowed: int) -> _Plan:
        """What a run of ``count`` at ``start`` needs besides, if ``allowed`` more is granted."""
        bits = self.geometry.block_bits
        blocks = [
            index
            for index in range(start >> bits, ((start + count + allowed - 1) >> bits) + 1)
            if index >= len(self.table) or not int(self.table[index]) & q.REFTABLE_MASK
        ]
        clusters = 0
        if blocks and blocks[-1] >= len(self.table):
            clusters = self._table_clusters(blocks[-1] + 1)
        return _Plan(start, clusters, blocks)

    def _table_clusters(self, entries: int) -> int:
        """Clusters of a table with room for ``entries`` and for half as many again as now."""
        per_cluster = self.geometry.reftable_entries_per_cluster
        limit = q.MAX_REFTABLE_BYTES >> self.geometry.cluster_bits
        needed = -(-entries // per_cluster)
        if needed > limit:
            raise OSError(EFBIG, os.strerror(EFBIG))
        grown = -(-len(self.table) * 3 // 2 // per_cluster)
        return min(max(needed, grown), limit)

    def _bring(self, plan: _Plan) -> None:
        """Puts the new table and the missing blocks at the head of the run."""
        if plan.table_clusters:
            self._move_table(plan.start, plan.table_clusters)
        for cluster, index in enumerate(plan.blocks, plan.start + plan.table_clusters):
            self.add_block(index, cluster)

    def add_block(self, index: int, cluster: int) -> None:
        """Makes ``cluster`` the block of that index, which had none; all its counters are 0."""
        self._tell("refblock_alloc")
        dtype = refblock.counter_type(self.geometry.refcount_order)
        offset = cluster << self.geometry.cluster_bits
        block = RefBlock(offset, np.zeros(self.block_entries, dtype))
        block.touch(0, self.block_entries)
        block.placed = True
        self._make_room()
        self.blocks[index] = block
        self.table[index] = offset
        self.table_dirty.add(index)
        self._metadata.add(offset, self.geometry.cluster_size)

    def _move_table(self, start: int, clusters: int) -> None:
        self._tell("reftable_grow")
        bits = self.geometry.cluster_bits
        old = self.table_offset >> bits
        old_clusters = len(self.table) >> (bits - 3)
        table = np.zeros(clusters << (bits - 3), np.uint64)
        table[: len(self.table)] = self.table
        self.table = table
        self.table_offset = start << bits
        self.table_moved = True
        self.retired.append(np.arange(old, old + old_clusters, dtype=np.uint64))
        self._metadata.forget()

    def _blocks_of(self, start: int, count: int) -> dict[int, RefBlock]:
        """The blocks that there are for a run of clusters, by index."""
        found = {index: self.block(index) for index, _, _ in self._spans(start, count)}
        return {index: block for index, block in found.items() if block is not None}

    def _spans(self, start: int, count: int) -> Iterator[tuple[int, int, int]]:
        """A run of clusters cut at the borders of blocks: (index, first entry, end entry)."""
        end = start + count
        while start < end:
            index, low = start >> self.geometry.block_bits, start & (self.block_entries - 1)
            high = min(self.block_entries, low + end - start)
            yield index, low, high
            start += high - low

    def last_used(self) -> int:
        """The highest cluster that has a reference."""
        for index in np.flatnonzero(self.table)[::-1].tolist():
            block = self.block(index)
            used = np.flatnonzero(block.counters) if block is not None else np.empty(0, np.intp)
            if len(used):
                return int(index << self.geometry.block_bits) + int(used[-1])
        return 0

    def search_from(self, cluster: int) -> None:
        """The next allocation looks for free clusters from there on."""
        self._single_hint = self._run_hint = cluster

    def replace(self, table: NDArray[np.uint64], offset: int, indexes: list[int]) -> None:
        """Another table is in force, at host ``offset``, with other blocks in ``indexes``."""
        self.table, self.table_offset = table, offset
        for index in indexes:
            self.blocks.pop(index, None)
        self._packing = 0
        self.search_from(0)

    # -- search ------------------------------------------------------------------------------

    def _search(self, count: int, start: int) -> int:
        """The first run of ``count`` free clusters at or after ``start``."""
        position = start
        run = 0  # free clusters just before `position`
        while run < count:
            index, low = position >> self.geometry.block_bits, position & (self.block_entries - 1)
            block = self.block(index)
            if block is None:
                step = self.block_entries - low
                run += step
            else:
                piece = block.counters[low : low + q.PIECE]
                step = len(piece)
                found, run = _free_run(piece, run, count)
                if found is not None:
                    return position + found
            position += step
        return position - run

    # -- release -----------------------------------------------------------------------------

    def release(self, clusters: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Takes one reference from each item of ``clusters``; returns those now free, ascending.

        A reference that was not counted is ignored: the image was wrong before. Where a count
        cannot be read the reference is ``owed``; nothing is raised.
        """
        if not len(clusters):
            return clusters
        self._tell("cluster_free")
        unique, counts = tally(clusters)
        freed = [unique[:0]]
        for index, part, times in self._by_index(unique, counts):
            try:
                block = self.block(index)
            except OSError:
                self.owed.append(np.repeat(part, times))
                continue
            if block is None:
                continue
            at = (part & np.uint64(self.block_entries - 1)).astype(np.intp)
            old = block.counters[at]
            taken = np.minimum(old, times.astype(np.uint64)).astype(old.dtype)
            block.counters[at] = old - taken
            block.touch(int(at[0]), int(at[-1]) + 1)
            freed.append(part[(old == taken) & (old != 0)])
        free = np.concatenate(freed)
        if len(free):
            self.stop_packing(free)
            self._single_hint = min(self._single_hint, int(free[0]))
            self._run_hint = min(self._run_hint, int(free[0]))
        return free

    def would_free(self, clusters: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Those of ``clusters`` that ``release`` would set free, ascending."""
        if not len(clusters):
            return clusters
        unique, counts = tally(clusters)
        freed = [unique[:0]]
        for block, part, taken in self._by_block(unique, counts):
            at = (part & np.uint64(self.block_entries - 1)).astype(np.intp)
            freed.append(part[block.counters[at] == taken])
        return np.concatenate(freed)

    def _by_block(
        self, unique: NDArray[np.uint64], counts: NDArray[np.intp]
    ) -> Iterator[tuple[RefBlock, NDArray[np.uint64], NDArray[np.intp]]]:
        for index, part, times in self._by_index(unique, counts):
            block = self.block(index)
            if block is not None:
                yield block, part, times

    def _by_index(
        self, unique: NDArray[np.uint64], counts: NDArray[np.intp]
    ) -> Iterator[tuple[int, NDArray[np.uint64], NDArray[np.intp]]]:
        """Ascending clusters cut at the borders of blocks."""
        indexes = unique >> np.uint64(self.geometry.block_bits)
        starts = [0, *(np.flatnonzero(indexes[1:] != indexes[:-1]) + 1).tolist()]
        for low, high in zip(starts, [*starts[1:], len(unique)], strict=True):
            yield int(indexes[low]), unique[low:high], counts[low:high]


def _free_run(counters: NDArray[Any], before: int, count: int) -> tuple[int | None, int]:
    """Looks for ``count`` zeroes in a row, ``before`` of which may precede ``counters``.

    Returns where the run starts (negative when it began before), or None and how many zeroes
    end the piece.
    """
    if before + len(counters) >= count and not counters[: count - before].any():
        return -before, 0
    used = np.flatnonzero(counters)
    if not len(used):
        return None, before + len(counters)
    if before + int(used[0]) >= count:
        return -before, 0
    gaps = np.flatnonzero(np.diff(used) > count)
    if len(gaps):
        return int(used[int(gaps[0])]) + 1, 0
    tail = len(counters) - 1 - int(used[-1])
    return (len(counters) - tail, 0) if tail >= count else (None, tail)


def load_table(file: Child, offset: int, entries: int) -> NDArray[np.uint64]:
    """A table of 64-bit big-endian entries as native integers."""
    table = np.empty(entries, np.uint64)
    if entries:
        file.read(bytes_view(table), offset)
        table.byteswap(inplace=True)
    return table
