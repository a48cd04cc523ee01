"""Changing the size of the disk, and the header's backing link."""

from __future__ import annotations

import contextlib
import os
from errno import EFBIG, ENOTSUP

from monitor.engine.arrays import np
from monitor.engine.drivers.qcow2 import heading, mapping, writeback, zeroing
from monitor.engine.drivers.qcow2 import layout as q
from monitor.engine.drivers.qcow2.errors import CannotResize
from monitor.engine.drivers.qcow2.image import Image
from monitor.engine.drivers.qcow2.preallocate import FileTooSmall, preallocate
from monitor.engine.drivers.qcow2.writing import write_zero_data
from monitor.engine.errors import HostFailure, RequestError, host_failure


def truncate(image: Image, size: int, preallocation: str = "off") -> None:
    """Sets the disk's size; what is added reads as zeroes, and has host clusters if
    ``preallocation`` says so. Raises RequestError, OSError."""
    if size % q.SECTOR:
        raise CannotResize(f"The new size must be a multiple of {q.SECTOR}")
    if image.geometry.version < 3 and image.snapshots:
        raise CannotResize("Can't resize a v2 image which has snapshots")
    if size < image.size and preallocation != "off":
        raise CannotResize("Preallocation can't be used for shrinking an image")
    if size == image.size:
        return
    if not image.changing:
        image.begin_changes()
    if size > image.size:
        _grow(image, size, preallocation)
    else:
        _shrink(image, size)


def _grow(image: Image, size: int, preallocation: str) -> None:
    """The new part is made to read as zeroes before the header says that it is there."""
    needed = image.geometry.l1_entries(size)
    if needed * 8 > q.MAX_L1_BYTES:
        raise HostFailure("Failed to grow the L1 table", EFBIG)
    try:
        if needed > len(image.tables.l1):
            with image.lock:
                image.tables.grow(needed)
    except OSError as error:
        raise host_failure("Failed to grow the L1 table", error) from error
    try:
        _clear(image, image.size, size)
    except OSError as error:
        raise host_failure("Failed to zero out new clusters", error) from error
    if preallocation != "off":
        _preallocate(image, size, preallocation)
    _write_size(image, size)


def _preallocate(image: Image, size: int, mode: str) -> None:
    first, end = image.geometry.clusters(image.size), image.geometry.clusters(size)
    try:
        preallocate(image, first, end, mode)
    except (OSError, FileTooSmall) as error:
        with contextlib.suppress(
            OSError, RequestError
        ):  # leaked then, until the disk grows over them
            forget(image, image.size, end)
            writeback.drain(image)
            cut_tail(image)
        if isinstance(error, OSError):
            raise host_failure("Failed to preallocate clusters", error) from error
        raise


def _clear(image: Image, start: int, end: int) -> None:
    """Makes [start, end), which lies past the end of the disk, read as zeroes."""
    bits = image.geometry.cluster_bits
    covered = image.backing_covers(start)
    if covered and image.geometry.version < 3:
        raise OSError(ENOTSUP, os.strerror(ENOTSUP))
    first = start >> bits
    if start & ((1 << bits) - 1):
        _clear_rest(image, start, min(end, (first + 1) << bits))
        first += 1
    last = image.geometry.clusters(end)
    if covered:
        below = image.backing.length() if image.backing is not None else 0
        stop = min(last, image.geometry.clusters(below))
        if first < stop:
            zeroing.change(image, first, stop - first, zeroing.Rule.UNMAP)
            first = stop
    # Clusters out there are left over from a disk that was larger once.
    if first < last:
        zeroing.change(image, first, last - first, zeroing.Rule.FORGET)


def _clear_rest(image: Image, start: int, end: int) -> None:
    """The rest of the cluster in which the disk ended."""
    with image.lock:
        entry = image.tables.gather(start >> image.geometry.cluster_bits, 1)
    kind = int(mapping.classify(entry)[0])
    if kind == mapping.ZERO or (kind == mapping.UNALLOCATED and not image.backing_covers(start)):
        return
    write_zero_data(image, start, end - start)


def _shrink(image: Image, size: int) -> None:
    """The header first: a crash leaves clusters past the end, which growing clears again."""
    old = image.geometry.clusters(image.size)
    _write_size(image, size)
    # The disk is smaller already, so nothing is refused any more; the next flush tells of failures.
    with contextlib.suppress(OSError, RequestError):
        image.tell("l1_shrink_free_l2_clusters")
        forget(image, size, old)
        writeback.drain(image)
        cut_tail(image)


def forget(image: Image, size: int, end: int) -> None:
    """Takes away what lies past ``size`` bytes, up to cluster ``end``, and the tables for it."""
    first, tables = image.geometry.clusters(size), image.geometry.l1_entries(size)
    kept = min(end, tables << image.l2_bits)
    if first < kept:
        zeroing.change(image, first, kept - first, zeroing.Rule.FORGET)
    if first < end:
        _drop_tables(image, tables)


def _drop_tables(image: Image, first: int) -> None:
    """Whole L2 tables from L1 index ``first`` on go, with all that they refer to."""
    tables = image.tables
    while (index := tables.next_used(first)) < len(tables.l1):
        with image.lock:
            image.check_writable()
            image.claims.wait(index << image.l2_bits, image.in_table + 1)
            image.drop(tables.gather(index << image.l2_bits, image.in_table + 1))
            image.drop_clusters(np.array([tables.remove(index)], np.uint64))
        if image.crowded():
            writeback.write_back(image)
        first = index + 1


def cut_tail(image: Image) -> None:
    """The file ends with its last cluster in use. All is on the disk, nothing is under way."""
    with image.flush_lock:
        with image.lock:
            end = image.refcounts.last_used() + 1 << image.bits
        if end < image.file.length():
            image.file.truncate(end)
            image.refcounts.file_end = end


def _write_size(image: Image, size: int) -> None:
    try:
        with image.flush_lock:
            writeback.flush_locked(image)
            if size < image.size:
                image.tell("l1_shrink_write_table")
            old = image.header.size
            try:
                with image.lock:
                    image.header.size = size
                    image.write_size()
                image.file.flush()
            except OSError:
                with image.lock, contextlib.suppress(OSError):
                    image.header.size = old
                    image.write_size()  # the other may have reached the disk, or come to it yet
                raise
            image.size = size
    except OSError as error:
        raise host_failure("Failed to update the image size", error) from error


def set_backing(image: Image, filename: str | None, fmt: str | None) -> None:
    """Rewrites the header's backing link between two flushes.

    Raises OSError: EINVAL when a name is too long for the format, ENOSPC when the header is full.
    """
    name = os.fsencode(filename) if filename else None
    with image.lock:
        header = image.header.with_backing(name, os.fsencode(fmt) if fmt else None)
    if not image.changing:
        image.begin_changes()
    with image.flush_lock:
        writeback.flush_locked(image)
        with image.lock:
            header = image.header.with_backing(name, os.fsencode(fmt) if fmt else None)
            heading.replace(image, header)
