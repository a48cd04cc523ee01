"""Host clusters for guest clusters before there is any data."""

from __future__ import annotations

import os
from errno import EIO

from monitor.engine.arrays import np
from monitor.engine.drivers.qcow2 import layout as q
from monitor.engine.drivers.qcow2 import lazy, writeback
from monitor.engine.drivers.qcow2.image import Image
from monitor.engine.errors import RequestError


class FileTooSmall(RequestError):
    """The file could not be made as long as the clusters need it; its own sentence behind ours."""

    template = "Failed to resize underlying file: {reason}"
    reason: str


def preallocate(image: Image, first: int, end: int, mode: str) -> None:
    """Gives the guest clusters from ``first`` to ``end`` host clusters that read as zeroes.

    They are unallocated, and nobody asks for them yet: they lie past the end of the disk, or the
    image is new. ``mode`` is how the file grows: "metadata" leaves holes in it. Raises OSError,
    FileTooSmall; a part may have been done then.
    """
    while first < end:
        count = min(q.PIECE, end - first)
        with image.lock:
            image.check_writable()
            for clusters in image.tables.prepare(first, count):
                image.drop_clusters(clusters)
            start = image.refcounts.allocate(count)
        try:
            _make_zero(image, start << image.bits, (start + count) << image.bits, mode)
            lazy.before_linking(image)
            with image.lock:
                hosts = np.arange(start, start + count, dtype=np.uint64) << np.uint64(image.bits)
                at = np.arange(first, first + count, dtype=np.intp)
                image.tables.scatter(at, hosts | np.uint64(q.COPIED))
                image.data_pending = True
        except BaseException:
            with image.lock:
                image.refcounts.release(np.arange(start, start + count, dtype=np.uint64))
            raise
        first += count
        if image.crowded():
            writeback.write_back(image)


def _make_zero(image: Image, start: int, end: int, mode: str) -> None:
    """The run as zeroes, where it lies in the file and where the file does not reach yet."""
    length = image.file.length()
    inside = min(end, length)
    if start < inside:
        image.file.write_zeroes(start, inside - start, mode == "metadata", False)
    if end > length:
        try:
            image.file.grow(end, "off" if mode == "metadata" else mode)
        except RequestError as error:
            raise FileTooSmall(error.text) from error
        except OSError as error:
            raise FileTooSmall(os.strerror(error.errno or EIO)) from error
