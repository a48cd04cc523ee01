"""What a new cluster keeps of the one it replaces."""

from __future__ import annotations

from monitor.engine.drivers.qcow2 import layout as q
from monitor.engine.drivers.qcow2.image import Image


def old_data(image: Image, entry: int, offset: int, size: int, *, fresh: bool) -> memoryview | None:
    """What the guest sees in [offset, offset + size), part of the cluster that ``entry`` describes.

    None when that is zeroes and its new cluster, being ``fresh``, holds zeroes already.
    """
    in_cluster = offset & image.in_cluster
    if entry & q.COMPRESSED:
        return memoryview(image.read_compressed(entry))[in_cluster : in_cluster + size]
    host = entry & q.OFFSET_MASK
    buffer = memoryview(bytearray(size))
    if entry & q.ZERO or not (host or image.backing_covers(offset)):
        return None if fresh and not host else buffer
    image.tell("cow_read")
    if host:
        image.file.read(buffer, host + in_cluster)
    else:
        image.read_backing(buffer, offset)
    return buffer
