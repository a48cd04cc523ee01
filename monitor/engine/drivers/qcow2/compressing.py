"""Writing compressed clusters, several of them packed into one host cluster.

    host clusters   |aaaaaaaabbbbbbcc|ccccdddddddd....|
                     each stream begins at any byte and may go on in the next cluster; a cluster
                     has a reference from each stream that touches it

The steps are those of ``writing``: plan (claim, allocate), write, link.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from errno import EINVAL

from monitor.engine.arrays import np
from monitor.engine.drivers.buffers import zero
from monitor.engine.drivers.qcow2 import lazy, writeback, writing
from monitor.engine.drivers.qcow2.compress import compress
from monitor.engine.drivers.qcow2.image import Image
from monitor.engine.drivers.qcow2.mapping import Entries, host_clusters

_BATCH = 1 << 20
"""Bytes of guest data that are compressed, then written and linked together."""


def write_compressed(image: Image, buffer: memoryview, offset: int) -> None:
    """Stores whole clusters compressed, those that do not shrink plainly. Raises OSError: EINVAL
    where the range is not of whole clusters."""
    size = image.geometry.cluster_size
    end = offset + len(buffer)
    if offset & image.in_cluster or (end & image.in_cluster and end != image.size):
        raise OSError(EINVAL, os.strerror(EINVAL))
    if not image.changing:
        image.begin_changes()
    step = max(size, _BATCH)
    for start in range(0, len(buffer), step):
        _write_batch(image, buffer[start : start + step], offset + start)
        if image.crowded():
            writeback.write_back(image)


def _write_batch(image: Image, buffer: memoryview, offset: int) -> None:
    """Runs of clusters that shrink, and of those that do not, in turn."""
    size = image.geometry.cluster_size
    kind = image.header.compression_type
    parts = [buffer[at : at + size] for at in range(0, len(buffer), size)]
    packed = [compress(kind, _whole(part, size)) for part in parts]
    low = 0
    while low < len(parts):
        high = low + 1
        while high < len(parts) and (packed[high] is None) == (packed[low] is None):
            high += 1
        at = offset + low * size
        if packed[low] is None:
            writing.write(image, buffer[low * size : high * size], at)
        else:
            _store(image, at >> image.bits, [p for p in packed[low:high] if p is not None])
        low = high


def _whole(part: memoryview, size: int) -> memoryview:
    """A cluster's bytes; zeroes behind the end of the disk."""
    if len(part) == size:
        return part
    whole = memoryview(bytearray(size))
    whole[: len(part)] = part
    zero(whole[len(part) :])
    return whole


def _store(image: Image, first: int, streams: Sequence[bytes]) -> None:
    """Writes the compressed clusters from guest cluster ``first`` on."""
    geometry = image.geometry
    entries = np.zeros(len(streams), np.uint64)
    with image.lock:
        image.claims.wait(first, len(streams))
        image.check_writable()
        for dropped in image.tables.prepare(first, len(streams)):
            image.drop_clusters(dropped)
        old = image.tables.gather(first, len(streams))
        done = 0
        try:
            for done, stream in enumerate(streams):
                host = image.refcounts.allocate_bytes(len(stream))
                entries[done] = geometry.compressed_entry(host, len(stream))
        except BaseException:
            image.refcounts.release(host_clusters(entries[:done], geometry))
            raise
        claim = image.claims.take(first, len(streams))
        epoch = image.enter()
    linked = False
    try:
        for host, data in _joined(image, entries, streams):
            image.file.write(memoryview(data), host)
        lazy.before_linking(image)
        with image.lock:
            image.tables.scatter(np.arange(first, first + len(streams)), entries)
            linked = True
            image.drop(old)
            image.data_pending = True
    finally:
        image.leave(epoch)
        with image.lock:
            image.claims.give_up(claim)
            if not linked:
                image.refcounts.release(host_clusters(entries, geometry))


def _joined(image: Image, entries: Entries, streams: Sequence[bytes]) -> list[tuple[int, bytes]]:
    """What to write where: streams that lie behind one another as one."""
    result: list[tuple[int, list[bytes]]] = []
    end = -1
    for entry, stream in zip(entries.tolist(), streams, strict=True):
        host, _ = image.geometry.compressed_extent(entry)
        if host != end:
            result.append((host, []))
        result[-1][1].append(stream)
        end = host + len(stream)
    return [(host, b"".join(parts)) for host, parts in result]
