"""Many ranges at once, for who copies: one look at the tables, and a call for each run of host
clusters; what is written is given one run, and linked in one step.

    guest clusters   ..a.....bb.........c.....     far apart
    host clusters    |abbc|                        in one piece, read or written by one call

The steps and their order are those of ``reading`` and ``writing``.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from monitor.engine.arrays import NDArray, np
from monitor.engine.drivers.base import Ranges, one_by_one
from monitor.engine.drivers.qcow2 import layout as q
from monitor.engine.drivers.qcow2 import mapping, reading, writeback, writing
from monitor.engine.drivers.qcow2.image import Image


def write_ranges(image: Image, buffer: memoryview, ranges: Ranges) -> None:
    """See ``Driver.write_ranges``; ranges that are not of whole clusters are written one by one.
    Raises OSError."""
    if not _are_whole(image, ranges):
        one_by_one(lambda part, offset: writing.write(image, part, offset), buffer, ranges)
        return
    if not image.changing:
        image.begin_changes()
    for clusters, part in _pieces(image, buffer, ranges):
        with image.lock:
            planned = _plan(image, clusters)
        writing.carry_out(
            image,
            planned,
            part,
            int(clusters[0]) << image.bits,
            lambda data, host: image.file.write_ranges(data, ((host, len(data)),)),
        )
    if image.crowded():
        writeback.write_back(image)


def read_ranges(image: Image, buffer: memoryview, ranges: Ranges) -> None:
    """See ``Driver.read_ranges``; ranges that are not of whole clusters are read one by one.
    Raises OSError."""
    if not _are_whole(image, ranges):
        one_by_one(lambda part, offset: reading.read(image, part, offset), buffer, ranges)
        return
    for clusters, part in _pieces(image, buffer, ranges):
        with image.lock:
            entries = image.tables.pick(clusters)
            epoch = image.enter()
        try:
            _read_entries(image, part, entries, clusters)
        finally:
            image.leave(epoch)


def _read_entries(
    image: Image, buffer: memoryview, entries: mapping.Entries, clusters: NDArray[np.intp]
) -> None:
    bits = image.bits
    for kind, start, count, host in mapping.runs(entries, 1 << bits):
        step = 1 if kind == mapping.UNALLOCATED else count  # below, they lie as the guest sees them
        for first in range(start, start + count, step):
            part = buffer[first << bits : (first + step) << bits]
            reading.read_run(image, part, int(clusters[first]) << bits, kind, host)


def _pieces(
    image: Image, buffer: memoryview, ranges: Ranges
) -> Iterator[tuple[NDArray[np.intp], memoryview]]:
    """The numbers of the ranges' clusters, ascending, not too many at a time; and their data."""
    bits = image.bits
    numbers = (range(at >> bits, (at + size + image.in_cluster) >> bits) for at, size in ranges)
    clusters = np.fromiter(chain.from_iterable(numbers), np.intp)
    for low in range(0, len(clusters), q.PIECE):
        piece = clusters[low : low + q.PIECE]
        yield piece, buffer[low << bits : (low + len(piece)) << bits]


def _are_whole(image: Image, ranges: Ranges) -> bool:
    """Whether the ranges are of whole clusters, the last of the disk as much as there is of it, and
    ascending as they should be."""
    last = 0
    for offset, length in ranges:
        end = offset + length
        begins = offset >= last and not offset & image.in_cluster
        if length <= 0 or not begins or (end & image.in_cluster and end != image.size):
            return False
        last = end
    return True


def _plan(image: Image, clusters: NDArray[np.intp]) -> writing.Plan:
    """As ``writing.plan`` (lock held)."""
    image.claims.wait(*writing.extent(clusters))
    image.check_writable()
    tables = image.tables
    for _, low, high in tables.by_table(clusters):
        start = int(clusters[low])
        for dropped in tables.prepare(start, int(clusters[high - 1]) + 1 - start):
            image.drop_clusters(dropped)
    return writing.allocate(image, clusters, tables.pick(clusters))
