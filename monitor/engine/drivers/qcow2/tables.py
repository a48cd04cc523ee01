"""The L1 table and the L2 tables in memory: where each guest cluster lies.

Entries are native integers in memory (a memoryview beside each array answers single look-ups in
about 50 ns) and big-endian on disk. Everything here is called with the image's metadata lock held.
"""

from __future__ import annotations

import sys

from monitor.engine.arrays import NDArray, np
from monitor.engine.drivers.base import Child
from monitor.engine.drivers.qcow2 import layout as q
from monitor.engine.drivers.qcow2 import placing
from monitor.engine.drivers.qcow2.cached import CachedTable
from monitor.engine.drivers.qcow2.mapping import Entries, bytes_view, c_hex, first_invalid
from monitor.engine.drivers.qcow2.overlap import MetadataMap
from monitor.engine.drivers.qcow2.refcount import Corrupt, Refcounts

assert sys.byteorder == "little" or np.dtype(">u8").isnative


class L2Table(CachedTable):
    """One L2 table."""

    __slots__ = ("copied", "entries", "view")

    def __init__(self, offset: int, entries: Entries, copied: bool) -> None:
        super().__init__(offset, len(entries))
        self.entries = entries
        self.view = entries.data
        self.copied = copied  # nobody else refers to it: it may be changed in place

    def take_dirty(self) -> tuple[int, NDArray[np.uint64], int, int]:
        """What the disk lacks: host offset, big-endian entries, their range."""
        low, high = self.begin_writing(q.SECTOR // 8)
        return self.offset + low * 8, self.entries[low:high].byteswap(), low, high


class Tables:
    """The L1 table and a bounded number of L2 tables.

    ``l1_dirty`` holds the indexes of L1 entries that the disk lacks; ``l1_moved`` means that the
    header does not yet name this L1 table, ``retired`` holds the clusters of those it replaced.
    """

    def __init__(
        self,
        file: Child,
        geometry: q.Geometry,
        l1: NDArray[np.uint64],
        l1_offset: int,
        refcounts: Refcounts,
        metadata: MetadataMap,
        corrupt: Corrupt,
        cache_bytes: int,
    ) -> None:
        self.file = file
        self.geometry = geometry
        self.l1 = l1
        self.l1_offset = l1_offset
        self.l1_dirty: set[int] = set()
        self.l1_moved = False
        self.retired: list[NDArray[np.uint64]] = []
        self.cache: dict[int, L2Table] = {}
        self._refcounts = refcounts
        self._metadata = metadata
        self._corrupt = corrupt
        self.limit_cache(cache_bytes)

    def limit_cache(self, cache_bytes: int) -> None:
        """How much is kept from now on; what is too much goes when room is made."""
        table_cost = self.geometry.cluster_size + 512  # the objects around a small table count too
        self.limit = max(4, cache_bytes // table_cost)

    def table(self, index: int) -> L2Table | None:
        """The L2 table of L1 entry ``index``; None where all its clusters are unallocated."""
        found = self.cache.get(index)
        if found is not None:
            found.used = True
            return found
        if index >= len(self.l1):
            return None
        entry = int(self.l1[index])
        offset = entry & q.OFFSET_MASK
        if offset == 0:
            return None
        if offset & (self.geometry.cluster_size - 1):
            self._corrupt(f"L2 table offset {offset:#x} unaligned (L1 index: {c_hex(index)})")
        if offset >= self.file.length():
            message = f"L2 table offset {offset:#x} outside of the file (L1 index: {c_hex(index)})"
            self._corrupt(message, offset, self.geometry.cluster_size)
        entries = np.empty(1 << self.geometry.l2_bits, np.uint64)
        if self.file.event is not None:
            self.file.event("l2_load")
        self.file.read(bytes_view(entries), offset)
        entries.byteswap(inplace=True)
        table = L2Table(offset, entries, bool(entry & q.COPIED))
        self._keep(index, table)
        return table

    def _keep(self, index: int, table: L2Table) -> None:
        if len(self.cache) >= self.limit:
            self._make_room()
        self.cache[index] = table

    def _make_room(self) -> None:
        """Second chance: tables unused since the last look go, a sixteenth at a time."""
        wanted = max(1, self.limit >> 4)
        for index, table in list(self.cache.items()):
            if table.dirty or table.writing:
                continue
            if table.used:
                table.used = False
                continue
            del self.cache[index]
            wanted -= 1
            if not wanted:
                return

    def next_used(self, index: int) -> int:
        """The first L1 index from ``index`` on that has an L2 table; the L1's size if none has."""
        if index in self.cache:
            return index
        step = q.PIECE
        while index < len(self.l1):
            used = np.flatnonzero(self.l1[index : index + step] & q.OFFSET_MASK)
            if len(used):
                return index + int(used[0])
            index += step
        return max(index, len(self.l1))

    def crowded(self) -> bool:
        """Whether tables that cannot be dropped fill more than half of the cache."""
        if len(self.cache) <= self.limit // 2:
            return False
        return sum(t.dirty for t in self.cache.values()) > self.limit // 2

    # -- runs of guest clusters ----------------------------------------------------------------

    def gather(self, first: int, count: int) -> Entries:
        """A copy of the entries of ``count`` guest clusters from ``first``, checked for sense."""
        bits = self.geometry.l2_bits
        index, low = first >> bits, first & ((1 << bits) - 1)
        if low + count <= 1 << bits:
            table = self.table(index)
            if table is None:
                return np.zeros(count, np.uint64)
            entries = table.entries[low : low + count].copy()
        else:
            entries = np.zeros(count, np.uint64)
            for index, low, high, at in self.spans(first, count):
                table = self.table(index)
                if table is not None:
                    entries[at : at + high - low] = table.entries[low:high]
        self._validate(entries, range(first, first + count))
        return entries

    def spans(self, first: int, count: int) -> list[tuple[int, int, int, int]]:
        """The run cut at table borders: (L1 index, first entry, end entry, place in the run)."""
        bits = self.geometry.l2_bits
        size = 1 << bits
        result = []
        done = 0
        while done < count:
            low = (first + done) & (size - 1)
            high = min(size, low + count - done)
            result.append(((first + done) >> bits, low, high, done))
            done += high - low
        return result

    def put(self, first: int, values: Entries) -> None:
        """Sets the entries of a run of guest clusters, within one table that may be changed
        (``prepare``)."""
        bits = self.geometry.l2_bits
        low = first & ((1 << bits) - 1)
        table = self._writable(first >> bits)
        table.entries[low : low + len(values)] = values
        table.touch(low, low + len(values))

    def scatter(self, clusters: NDArray[np.intp], values: Entries) -> None:
        """Sets the entries of the guest clusters ``clusters`` (ascending) to ``values``.

        Their tables exist and may be changed (``prepare``).
        """
        parts = self.by_table(clusters)
        # All are in memory before the first one changes: nothing can fail half way.
        touched = [self._writable(index) for index, _, _ in parts]
        for (index, low, high), table in zip(parts, touched, strict=True):
            self.cache[index] = table  # loading another one may have dropped it
            at = clusters[low:high] & ((1 << self.geometry.l2_bits) - 1)
            first, end = int(at[0]), int(at[-1]) + 1
            if end - first == high - low:  # a whole run is moved eight times as fast
                table.entries[first:end] = values[low:high]
            else:
                table.entries[at] = values[low:high]
            table.touch(first, end)

    def pick(self, clusters: NDArray[np.intp]) -> Entries:
        """A copy of the entries of the guest clusters ``clusters`` (ascending), checked for
        sense."""
        entries = np.zeros(len(clusters), np.uint64)
        for index, low, high in self.by_table(clusters):
            table = self.table(index)
            if table is None:
                continue
            at = clusters[low:high] & ((1 << self.geometry.l2_bits) - 1)
            entries[low:high] = table.entries[at]
            self._validate(entries[low:high], clusters[low:high])
        return entries

    def by_table(self, clusters: NDArray[np.intp]) -> list[tuple[int, int, int]]:
        """Ascending guest clusters cut at table borders: (L1 index, first, end in the array)."""
        bits = self.geometry.l2_bits
        first, last = int(clusters[0]) >> bits, int(clusters[-1]) >> bits
        if first == last:
            return [(first, 0, len(clusters))]
        indexes = clusters >> bits
        starts = [0, *(np.flatnonzero(indexes[1:] != indexes[:-1]) + 1).tolist()]
        ends = [*starts[1:], len(clusters)]
        return [(int(indexes[low]), low, high) for low, high in zip(starts, ends, strict=True)]

    def _writable(self, index: int) -> L2Table:
        table = self.table(index)
        assert table is not None
        assert table.copied
        return table

    def prepare(self, first: int, count: int) -> list[NDArray[np.uint64]]:
        """Makes the tables of a run writable: absent ones are made, shared ones copied.

        Returns the clusters of tables that are no longer referred to from here.
        """
        last = (first + count - 1) >> self.geometry.l2_bits
        needed = []
        for index in range(first >> self.geometry.l2_bits, last + 1):
            table = self.table(index)
            if table is None or not table.copied:
                needed.append((index, table))
            elif not table.placed:
                placing.fill_holes(
                    self.file, table.offset, table.offset + self.geometry.cluster_size
                )
                table.placed = True
        return self._make(needed) if needed else []

    def _make(self, needed: list[tuple[int, L2Table | None]]) -> list[NDArray[np.uint64]]:
        bits = self.geometry.cluster_bits
        if self.file.event is not None:
            self.file.event("l2_alloc_write")
        start = self._refcounts.allocate(len(needed))
        try:
            self._place(start, [shared for _, shared in needed])
        except BaseException:
            self._refcounts.release(np.arange(start, start + len(needed), dtype=np.uint64))
            raise
        old = []
        for cluster, (index, shared) in enumerate(needed, start):
            if shared is None:
                entries = np.zeros(1 << self.geometry.l2_bits, np.uint64)
            else:
                entries = shared.entries
                old.append(shared.offset >> bits)
                self._metadata.remove(shared.offset)
            table = L2Table(cluster << bits, entries, copied=True)
            table.touch(0, len(entries))
            table.placed = True
            self.cache.pop(index, None)
            self._keep(index, table)
            self.l1[index] = table.offset | q.COPIED
            self.l1_dirty.add(index)
            self._metadata.add(table.offset, 1 << bits)
        return [np.array(old, np.uint64)] if old else []

    def _place(self, start: int, tables: list[L2Table | None]) -> None:
        """Writes new tables, copies of ``tables`` or empty ones, from host cluster ``start`` on.

        A write-back writes them again; from now on that needs no further room in the file.
        """
        if all(table is None for table in tables):
            self._refcounts.place(start, len(tables))
            return
        content = np.zeros((len(tables), 1 << self.geometry.l2_bits), np.uint64)
        for row, table in zip(content, tables, strict=True):
            if table is not None:
                row[:] = table.entries
        content.byteswap(inplace=True)
        self.file.write(bytes_view(content.reshape(-1)), start << self.geometry.cluster_bits)

    def remove(self, index: int) -> int:
        """Takes an L2 table out of the L1 table; the host cluster that it lies in."""
        offset = int(self.l1[index]) & q.OFFSET_MASK
        self.cache.pop(index, None)
        self.l1[index] = 0
        self.l1_dirty.add(index)
        self._metadata.remove(offset)
        return offset >> self.geometry.cluster_bits

    def grow(self, entries: int) -> None:
        """Moves the L1 table to new clusters with room for ``entries``."""
        bits = self.geometry.cluster_bits
        if self.file.event is not None:
            self.file.event("l1_grow_alloc_table")
        start = self._refcounts.allocate_placed((entries * 8 + (1 << bits) - 1) >> bits)
        l1 = np.zeros(entries, np.uint64)
        l1[: len(self.l1)] = self.l1
        old, old_bytes = self.l1_offset >> bits, len(self.l1) * 8
        if old_bytes:
            end = old + ((old_bytes + (1 << bits) - 1) >> bits)
            self.retired.append(np.arange(old, end, dtype=np.uint64))
        self.l1, self.l1_offset, self.l1_moved = l1, start << bits, True
        self._metadata.forget()

    def _validate(self, entries: Entries, clusters: range | NDArray[np.intp]) -> None:
        mask = q.OFFSET_MASK & (self.geometry.cluster_size - 1)
        # All of them at once takes a tenth of the time of an answer for each.
        every = int(np.bitwise_or.reduce(entries))
        if self.geometry.version >= 3 and not every & (mask | q.COMPRESSED):
            return
        bad = first_invalid(entries, self.geometry)
        if bad is None:
            return
        cluster = int(clusters[bad])
        bits = self.geometry.l2_bits
        index = cluster & ((1 << bits) - 1)
        table_offset = int(self.l1[cluster >> bits]) & q.OFFSET_MASK
        where = f"(L2 offset: {table_offset:#x}, L2 index: {c_hex(index)})"
        offset = int(entries[bad]) & q.OFFSET_MASK
        if offset & (self.geometry.cluster_size - 1):
            self._corrupt(f"Cluster allocation offset {offset:#x} unaligned {where}")
        self._corrupt(f"Zero cluster entry found in pre-v3 image {where}")
