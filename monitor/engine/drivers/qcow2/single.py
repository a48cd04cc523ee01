"""Writes within one cluster, the bulk of what a guest does: plain integers instead of arrays.

The steps and their order are those of ``writing``.
"""

from __future__ import annotations

from monitor.engine.arrays import np
from monitor.engine.drivers.qcow2 import layout as q
from monitor.engine.drivers.qcow2 import lazy
from monitor.engine.drivers.qcow2.cow import old_data
from monitor.engine.drivers.qcow2.image import Image
from monitor.engine.drivers.qcow2.tables import L2Table


def write_in_place(image: Image, buffer: memoryview, offset: int) -> bool:
    """Writes where the cluster's table is in memory and its data may be overwritten.

    Returns False, having done nothing, where it is not that simple.
    """
    cluster = offset >> image.bits
    in_cluster = image.in_cluster
    with image.lock:
        table = image.tables.cache.get(cluster >> image.l2_bits)
        if table is None or not table.copied or image.broken or image.read_only:
            return False
        table.used = True
        entry = table.view[cluster & image.in_table]
        if entry & (q.COPIED | q.COMPRESSED | q.ZERO) != q.COPIED:
            return False
        host = entry & q.OFFSET_MASK
        if not host or host & in_cluster:
            return False
        host += offset & in_cluster
        if image.metadata.hits(host, len(buffer)):
            return False
        epoch = image.enter()
    try:
        if image.file.event is not None:
            image.file.event("write_aio")
        image.file.write(buffer, host)
    finally:
        image.leave(epoch)
    return True


def write_allocating(image: Image, buffer: memoryview, offset: int) -> bool:
    """Writes to a cluster without storage of its own. Returns False where it has some."""
    cluster = offset >> image.bits
    with image.lock:
        image.claims.wait(cluster, 1)
        image.check_writable()
        for dropped in image.tables.prepare(cluster, 1):
            image.drop_clusters(dropped)
        entry = int(image.tables.gather(cluster, 1)[0])
        if entry & (q.COPIED | q.COMPRESSED) == q.COPIED and entry & q.OFFSET_MASK:
            return False  # written in place, or a preallocated zero cluster
        before = image.refcounts.file_end
        allocated = image.refcounts.allocate(1)
        claim = image.claims.take(cluster, 1)
        epoch = image.enter()
    host = allocated << image.bits
    linked = False
    try:
        data, at = _completed(image, entry, buffer, offset, fresh=host >= before)
        image.tell("write_aio")
        image.file.write(data, host + at)
        lazy.before_linking(image)
        with image.lock:
            table = image.tables.table(cluster >> image.l2_bits)
            assert table is not None
            _set(table, cluster & image.in_table, host | q.COPIED)
            linked = True
            if entry & (q.OFFSET_MASK | q.COMPRESSED):
                image.drop(np.array([entry], np.uint64))
            image.data_pending = True
    finally:
        image.leave(epoch)
        with image.lock:
            image.claims.give_up(claim)
            if not linked:
                image.refcounts.release(np.array([allocated], np.uint64))
    return True


def _set(table: L2Table, at: int, entry: int) -> None:
    table.view[at] = entry
    table.touch(at, at + 1)


def _completed(
    image: Image, entry: int, buffer: memoryview, offset: int, *, fresh: bool
) -> tuple[memoryview, int]:
    """What to write, and where in the cluster: the buffer with what is kept around it."""
    at = offset & image.in_cluster
    end = at + len(buffer)
    start = offset - at
    rest = image.in_cluster + 1 - end
    head = old_data(image, entry, start, at, fresh=fresh) if at else None
    tail = old_data(image, entry, start + end, rest, fresh=fresh) if rest else None
    if head is None and tail is None:
        return buffer, at
    parts = [part for part in (head, buffer, tail) if part is not None]
    return memoryview(b"".join(parts)), 0 if head is not None else at
