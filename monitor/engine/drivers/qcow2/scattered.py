"""Writing many ranges at once, for who copies: one plan, one run of host clusters, one linking.

    guest clusters   ..a.....bb.........c.....     far apart
    host clusters    |abbc|                        in one piece, written by one call

The steps and their order are those of ``writing``.
"""

from __future__ import annotations

from itertools import chain

from monitor.engine.arrays import NDArray, np
from monitor.engine.drivers.base import Ranges, one_by_one
from monitor.engine.drivers.qcow2 import layout as q
from monitor.engine.drivers.qcow2 import writeback, writing
from monitor.engine.drivers.qcow2.image import Image


def write_ranges(image: Image, buffer: memoryview, ranges: Ranges) -> None:
    """See ``Driver.write_ranges``; ranges that are not of whole clusters are written one by one.
    Raises OSError."""
    if not all(_is_whole(image, offset, length) for offset, length in ranges):
        one_by_one(lambda part, offset: writing.write(image, part, offset), buffer, ranges)
        return
    if not image.changing:
        image.begin_changes()
    bits = image.bits
    numbers = (range(at >> bits, (at + size + image.in_cluster) >> bits) for at, size in ranges)
    clusters = np.fromiter(chain.from_iterable(numbers), np.intp)
    for low in range(0, len(clusters), q.PIECE):
        piece = clusters[low : low + q.PIECE]
        part = buffer[low << bits : (low + len(piece)) << bits]
        with image.lock:
            planned = _plan(image, piece)
        writing.carry_out(
            image,
            planned,
            part,
            int(piece[0]) << bits,
            lambda data, host: image.file.write_ranges(data, ((host, len(data)),)),
        )
    if image.crowded():
        writeback.write_back(image)


def _is_whole(image: Image, offset: int, length: int) -> bool:
    """Whether a range is of whole clusters, the last of the disk as much as there is of it."""
    end = offset + length
    return (
        length > 0
        and not offset & image.in_cluster
        and (not end & image.in_cluster or end == image.size)
    )


def _plan(image: Image, clusters: NDArray[np.intp]) -> writing.Plan:
    """As ``writing.plan``. What lies between the clusters is claimed too: that is one claim instead
    of many, and nobody waits for long (lock held)."""
    first = int(clusters[0])
    image.wait_for_claims(first, int(clusters[-1]) + 1 - first)
    image.check_writable()
    tables = image.tables
    for _, low, high in tables.by_table(clusters):
        start = int(clusters[low])
        for dropped in tables.prepare(start, int(clusters[high - 1]) + 1 - start):
            image.drop_clusters(dropped)
    return writing.allocate(image, clusters, tables.pick(clusters))
