"""L2 entries by the run: what each guest cluster is, and where runs of one kind begin and end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from monitor.engine.arrays import NDArray, np
from monitor.engine.drivers.qcow2 import layout as q

Entries = NDArray[np.uint64]

UNALLOCATED: Final = 0
ZERO: Final = 1  # with or without a host cluster behind it
DATA: Final = 2
COMPRESSED: Final = 3


class Run(NamedTuple):
    """``clusters`` of one kind from cluster ``start`` of the piece that was classified.

    ``host`` is the host offset of the first one for DATA, the L2 entry for COMPRESSED, else 0.
    """

    kind: int
    start: int
    clusters: int
    host: int


def classify(entries: Entries) -> NDArray[np.uint8]:
    """The kind of each entry."""
    kinds = np.zeros(len(entries), np.uint8)
    kinds[(entries & q.OFFSET_MASK) != 0] = DATA
    kinds[(entries & q.ZERO) != 0] = ZERO
    kinds[(entries & q.COMPRESSED) != 0] = COMPRESSED
    return kinds


def first_invalid(entries: Entries, geometry: q.Geometry) -> int | None:
    """The index of the first entry that no correct writer makes; None when there is none."""
    plain = (entries & q.COMPRESSED) == 0
    bad = plain & ((entries & (q.OFFSET_MASK & (geometry.cluster_size - 1))) != 0)
    if geometry.version < 3:
        bad |= plain & ((entries & q.ZERO) != 0)
    found = np.flatnonzero(bad)
    return int(found[0]) if len(found) else None


def tally(items: Entries) -> tuple[Entries, NDArray[np.intp]]:
    """The different ones of ``items``, ascending, and how often each is there. (``np.unique`` takes
    longer, and brings numpy.ma along, some 10 ms the first time.)"""
    if (items[1:] > items[:-1]).all():  # as most tables have it
        return items, np.ones(len(items), np.intp)
    ordered = np.sort(items)
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    return ordered[starts], np.diff(starts, append=len(ordered))


def breaks(mask: NDArray[np.bool_]) -> list[int]:
    """Starts of runs, given for each element but the first whether it begins a new one."""
    return [0, *(np.flatnonzero(mask) + 1).tolist()]


def runs(entries: Entries, cluster_size: int, *, join_compressed: bool = False) -> Iterator[Run]:
    """Runs of one kind; data also breaks where the host offset is not the next one.

    Compressed clusters are runs of one, unless ``join_compressed``.
    """
    kinds = classify(entries)
    hosts = entries & q.OFFSET_MASK
    new = kinds[1:] != kinds[:-1]
    new |= (kinds[1:] == DATA) & (hosts[1:] != hosts[:-1] + np.uint64(cluster_size))
    if not join_compressed:
        new |= kinds[1:] == COMPRESSED
    starts = breaks(new)
    for start, end in zip(starts, [*starts[1:], len(entries)], strict=True):
        kind = int(kinds[start])
        host = 0
        if kind == DATA:
            host = int(hosts[start])
        elif kind == COMPRESSED:
            host = int(entries[start])
        yield Run(kind, start, end - start, host)


def host_clusters(entries: Entries, geometry: q.Geometry) -> Entries:
    """The host clusters that ``entries`` refer to, one item a reference.

    A compressed cluster holds a reference to each of the host clusters that its data touches.
    """
    bits = geometry.cluster_bits
    compressed = (entries & q.COMPRESSED) != 0
    some_compressed = compressed.any()
    rest: Entries = entries[~compressed] if some_compressed else entries
    hosts: Entries = rest & np.uint64(q.OFFSET_MASK)
    plain: Entries = (hosts if hosts.all() else hosts[hosts != 0]) >> np.uint64(bits)
    if not some_compressed:
        return plain
    shift = 62 - (bits - 8)
    packed = entries[compressed]
    offsets = packed & np.uint64((1 << shift) - 1)
    sectors = ((packed >> np.uint64(shift)) & np.uint64((1 << (bits - 8)) - 1)) + np.uint64(1)
    last = (offsets & ~np.uint64(q.SECTOR - 1)) + sectors * np.uint64(q.SECTOR) - np.uint64(1)
    first_cluster, last_cluster = offsets >> np.uint64(bits), last >> np.uint64(bits)
    parts = [plain, first_cluster]
    # The size field can say up to twice a cluster, so the data touches at most three.
    for extra in (1, 2):
        following = first_cluster + np.uint64(extra)
        parts.append(following[following <= last_cluster])
    return np.concatenate(parts)


def clusters_at(geometry: q.Geometry, offset: int, size: int) -> NDArray[np.uint64]:
    """The numbers of the host clusters that begin at ``offset`` and hold ``size`` bytes."""
    first = offset >> geometry.cluster_bits
    return np.arange(first, first + geometry.clusters(size), dtype=np.uint64)


def bytes_view(array: NDArray[Any]) -> memoryview:
    """A contiguous array's bytes, writable when the array is."""
    return array.view(np.uint8).data


def c_hex(number: int) -> str:
    """As C's ``%#x`` prints it, hence QEMU's messages: zero has no prefix."""
    return f"{number:#x}" if number else "0"
