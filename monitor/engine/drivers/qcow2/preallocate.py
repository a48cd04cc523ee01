"""Host clusters for the whole disk, before any data."""

from __future__ import annotations

import numpy as np

from monitor.engine.drivers.qcow2 import layout as q
from monitor.engine.drivers.qcow2 import writeback
from monitor.engine.drivers.qcow2.image import Image


def preallocate_metadata(image: Image) -> None:
    """Allocates every cluster of an empty image and makes it durable. Raises OSError."""
    image.begin_changes()
    bits = image.geometry.cluster_bits
    total = image.geometry.clusters(image.size)
    for first in range(0, total, q.PIECE):
        count = min(q.PIECE, total - first)
        with image.lock:
            image.tables.prepare(first, count)
            start = image.refcounts.allocate(count)
            hosts = np.arange(start, start + count, dtype=np.uint64) << np.uint64(bits)
            clusters = np.arange(first, first + count, dtype=np.intp)
            image.tables.scatter(clusters, hosts | np.uint64(q.COPIED))
        if image.crowded():
            writeback.write_back(image)
    # The file must reach to the end of the last cluster: what lies past it counts as cut off.
    image.file.truncate(max(image.refcounts.file_end, image.file.length()))
    writeback.drain(image)
