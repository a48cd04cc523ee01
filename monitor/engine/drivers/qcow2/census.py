"""Counting all references to host clusters anew: for repairs and for checks.

Whole tables are handled as vectors, in pieces that stay in the processor's cache. What is on the
disk is counted: it must be up to date.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from errno import EIO
from typing import Final

from monitor.engine.arrays import NDArray, np
from monitor.engine.drivers.qcow2 import keeping, mapping
from monitor.engine.drivers.qcow2 import layout as q
from monitor.engine.drivers.qcow2.errors import TooLargeToRepair
from monitor.engine.drivers.qcow2.image import Image
from monitor.engine.drivers.qcow2.mapping import Entries, bytes_view, host_clusters
from monitor.engine.drivers.qcow2.refcount import load_table

MAX_CLUSTERS: Final = 1 << 28
"""Host clusters that are counted: 1 GiB of counters, or 16 TiB of file at 64 KiB."""
_BATCH: Final = 128 << 10
"""Bytes of L2 tables handled together. Vectors of that size come from memory that has been used
before; larger ones are mapped anew each time, and each page of them is a fault."""
_MAX_PROBLEMS: Final = 1000
_MAX_TABLE_BYTES: Final = 512 << 20


@dataclass
class Census:
    """What was found. ``counts`` are the references to each host cluster; ``problems`` are
    sentences in QEMU's words, as many as ``corruptions`` up to a limit."""

    counts: NDArray[np.uint32]
    corruptions: int = 0
    problems: list[str] = field(default_factory=list)
    allocated: int = 0
    compressed: int = 0
    fragmented: int = 0

    def corrupt(self, sentence: str, number: int = 1) -> None:
        self.corruptions += number
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(sentence)

    def add(self, clusters: Entries, times: int = 1) -> None:
        """References to ``clusters``; those past the end of the file are corruptions."""
        if not len(clusters):
            return
        if clusters.max() >= len(self.counts):
            outside = int(np.count_nonzero(clusters >= len(self.counts)))
            first = int(clusters[clusters >= len(self.counts)][0])
            self.corrupt(
                "ERROR: counting reference for region exceeding the end of the file by one cluster "
                f"or more: cluster {first:#x}",
                outside,
            )
            clusters = clusters[clusters < len(self.counts)]
        np.add.at(self.counts, clusters.astype(np.intp), np.uint32(times))


def take(image: Image, *, limit: int = MAX_CLUSTERS) -> Census:
    """Counts everything. Raises TooLargeToRepair beyond ``limit`` clusters, OSError."""
    clusters = max(
        image.geometry.clusters(image.file.length()), image.refcounts.file_end >> image.bits
    )
    if clusters > limit:
        raise TooLargeToRepair
    census = Census(np.zeros(clusters, np.uint32))
    for offset, size in _regions(image, census):
        first, end = offset >> image.bits, (offset + size + image.in_cluster) >> image.bits
        census.add(np.arange(first, end, dtype=np.uint64))
    for part in keeping.all_clusters(image):
        census.add(part)
    _count_trees(image, census)
    return census


def _regions(image: Image, census: Census) -> Iterator[tuple[int, int]]:
    """All metadata but L2 tables and bitmaps: host offset and bytes."""
    header = image.header
    yield 0, image.geometry.cluster_size
    yield image.tables.l1_offset, len(image.tables.l1) * 8
    yield header.snapshots_offset, image.snapshot_bytes
    for snapshot in image.snapshots:
        yield snapshot.l1_table_offset, snapshot.l1_size * 8
    yield image.refcounts.table_offset, len(image.refcounts.table) * 8
    for index in np.flatnonzero(image.refcounts.table).tolist():
        offset = int(image.refcounts.table[index]) & q.REFTABLE_MASK
        if offset & image.in_cluster:
            census.corrupt(
                f"ERROR refcount block {index} is not cluster aligned; refcount table entry "
                "corrupted"
            )
        elif offset >> image.bits >= len(census.counts):
            census.corrupt(f"ERROR refcount block {index} is outside image")
        else:
            yield offset, image.geometry.cluster_size


def _count_trees(image: Image, census: Census) -> None:
    active = _table_offsets(image, image.tables.l1, census)
    roots = [active]
    for snapshot in image.snapshots:
        if snapshot.l1_size * 8 > q.MAX_L1_BYTES:
            raise OSError(EIO, f"L1 table of snapshot '{snapshot.id}' is too large")
        l1 = load_table(image.file, snapshot.l1_table_offset, snapshot.l1_size)
        roots.append(_table_offsets(image, l1, census))
        if sum(map(len, roots)) * 8 > _MAX_TABLE_BYTES:
            raise TooLargeToRepair
    everywhere, owners = mapping.tally(np.concatenate(roots))
    census.add(np.concatenate(roots) >> np.uint64(image.bits))
    own, times = mapping.tally(active)
    shown = np.zeros(len(everywhere), np.intp)
    shown[np.searchsorted(everywhere, own)] = times
    kinds = zip(owners.tolist(), shown.tolist(), strict=True)
    for owner_count, show_count in sorted(set(kinds)):
        of_this_kind = (owners == owner_count) & (shown == show_count)
        for tables in batches(image, everywhere[of_this_kind]):
            _check_entries(image, census, tables)
            census.add(host_clusters(tables.reshape(-1), image.geometry), owner_count)
            if show_count:
                _describe(image, census, tables, show_count)


def _table_offsets(image: Image, l1: Entries, census: Census) -> Entries:
    """Where the L2 tables of an L1 table lie, those that are aligned and inside the file."""
    offsets = (l1 & q.OFFSET_MASK)[(l1 & q.OFFSET_MASK) != 0]
    odd = (offsets & np.uint64(image.in_cluster)) != 0
    if odd.any():
        where = f"l2_offset={int(offsets[odd][0]):x}"
        census.corrupt(
            f"ERROR {where}: Table is not cluster aligned; L1 entry corrupted",
            int(np.count_nonzero(odd)),
        )
    inside = (offsets >> np.uint64(image.bits)) < len(census.counts)
    outside = int(np.count_nonzero(~inside & ~odd))
    if outside:
        census.corrupt("ERROR: an L2 table lies outside of the file", outside)
    sound: Entries = offsets[~odd & inside]
    return sound


def batches(image: Image, offsets: Entries) -> Iterator[Entries]:
    """The L2 tables at ``offsets``, some at a time, one a row, in that order; those that lie behind
    one another are read in one go."""
    size = image.geometry.cluster_size
    most = max(1, _BATCH // size)
    for low in range(0, len(offsets), most):
        part = offsets[low : low + most]
        tables = np.empty((len(part), image.in_table + 1), np.uint64)
        starts = mapping.breaks(part[1:] != part[:-1] + np.uint64(size))
        for start, end in zip(starts, [*starts[1:], len(part)], strict=True):
            image.file.read(bytes_view(tables[start:end].reshape(-1)), int(part[start]))
        tables.byteswap(inplace=True)
        yield tables


def _check_entries(image: Image, census: Census, tables: Entries) -> None:
    odd = (tables & np.uint64(q.OFFSET_MASK & image.in_cluster)) != 0
    if odd.any():
        odd &= (tables & q.COMPRESSED) == 0
    if odd.any():
        first = int(tables[odd][0]) & q.OFFSET_MASK
        census.corrupt(
            f"ERROR offset={first:x}: Cluster is not properly aligned; L2 entry corrupted.",
            int(np.count_nonzero(odd)),
        )


def _describe(image: Image, census: Census, tables: Entries, times: int) -> None:
    """How much of the disk is there, and in how many pieces. The disk shows ``tables`` so often."""
    compressed = (tables & q.COMPRESSED) != 0
    hosts = tables & q.OFFSET_MASK
    plain = hosts != 0
    packed = int(np.count_nonzero(compressed))
    if packed:
        plain &= ~compressed
    whole = int(np.count_nonzero(plain))
    step = np.uint64(image.geometry.cluster_size)
    if whole == plain.size:
        apart = hosts[:, 1:] != hosts[:, :-1] + step
    else:
        rows = np.nonzero(plain)[0]
        found = hosts[plain]
        apart = (rows[1:] == rows[:-1]) & (found[1:] != found[:-1] + step)
    census.compressed += packed * times
    census.allocated += (packed + whole) * times
    census.fragmented += (packed + int(np.count_nonzero(apart))) * times
