"""Zeroing and discarding: by table entries wherever whole clusters are concerned."""

from __future__ import annotations

import enum
import os
from errno import ENOTSUP

from monitor.engine.arrays import np
from monitor.engine.drivers.qcow2 import layout as q
from monitor.engine.drivers.qcow2 import mapping, writeback
from monitor.engine.drivers.qcow2.image import Image
from monitor.engine.drivers.qcow2.mapping import Entries
from monitor.engine.drivers.qcow2.writing import write_zero_data


class Rule(enum.Enum):
    """What becomes of clusters."""

    ZERO = "read as zeroes, keep the host clusters"
    UNMAP = "read as zeroes, give the host clusters up"
    DISCARD = "give the host clusters up, read as zeroes where the format can say so"
    FORGET = "unallocated, whatever lies below"


def change(image: Image, first: int, count: int, rule: Rule) -> None:
    """Applies ``rule`` to guest clusters, a table or a piece of one at a time. Raises OSError."""
    end = first + count
    while first < end:
        with image.lock:
            image.check_writable()
            step = _untouched(image, first, rule)
            if not step:
                rest = image.in_table + 1 - (first & image.in_table)
                step = min(q.PIECE, rest, end - first)
                image.claims.wait(first, step)
                image.check_writable()
                _change(image, first, step, rule)
        first += step
        if image.crowded():
            writeback.write_back(image)


def _untouched(image: Image, first: int, rule: Rule) -> int:
    """Clusters from ``first`` on that have no L2 table and need none (lock held)."""
    if rule in (Rule.ZERO, Rule.UNMAP) or (rule is Rule.DISCARD and image.backing is not None):
        return 0
    l2_bits = image.l2_bits
    return max(0, (image.tables.next_used(first >> l2_bits) << l2_bits) - first)


def _change(image: Image, first: int, count: int, rule: Rule) -> None:
    tables = image.tables
    old = tables.gather(first, count)
    any_compressed = int(np.bitwise_or.reduce(old)) & q.COMPRESSED != 0
    new = _new_entries(image, old, rule, any_compressed)
    changed = new != old
    if not changed.any():
        return
    for clusters in tables.prepare(first, count):
        image.drop_clusters(clusters)
    low, high = int(changed.argmax()), count - int(changed[::-1].argmax())
    tables.put(first + low, new[low:high])
    if rule is not Rule.ZERO or any_compressed:
        image.drop(old[(new & q.OFFSET_MASK) == 0])


def _new_entries(image: Image, old: Entries, rule: Rule, any_compressed: bool) -> Entries:
    zero = np.uint64(q.ZERO if image.geometry.version >= 3 else 0)
    if rule is Rule.FORGET:
        return np.zeros_like(old)
    if rule is Rule.UNMAP:
        return np.full_like(old, zero)
    if rule is Rule.ZERO and not any_compressed:
        return old | zero
    compressed = (old & q.COMPRESSED) != 0
    if rule is Rule.ZERO:
        return np.where(compressed, zero, old | zero)
    if image.backing is not None:
        return np.full_like(old, zero)
    allocated = compressed | ((old & q.OFFSET_MASK) != 0)
    return np.where(allocated, zero, old)


def discard(image: Image, offset: int, length: int) -> None:
    """Gives up the whole clusters in the range, which then read as zeroes. Raises OSError.

    Does nothing in a version 2 image on a backing file: what lies below would show.
    """
    if image.geometry.version < 3 and image.backing is not None:
        return
    first, last = _whole_clusters(image, offset, length)
    if first < last:
        if not image.changing:
            image.begin_changes()
        change(image, first, last - first, Rule.DISCARD)


def _whole_clusters(image: Image, offset: int, length: int) -> tuple[int, int]:
    """The clusters that lie wholly in the range, the last of the disk counting as whole."""
    bits = image.bits
    end = offset + length
    last = (end + (1 << bits) - 1) >> bits if end >= image.size else end >> bits
    return (offset + (1 << bits) - 1) >> bits, last


def write_zeroes(
    image: Image, offset: int, length: int, may_unmap: bool, no_fallback: bool
) -> None:
    """Makes the range read as zeroes: see ``Driver.write_zeroes``. Raises OSError."""
    if not length:
        return
    if not image.changing:
        image.begin_changes()
    if image.geometry.version < 3:
        if no_fallback:
            raise OSError(ENOTSUP, os.strerror(ENOTSUP))
        _write_zeroes_v2(image, offset, length, may_unmap)
        return
    for at, size in _edges(image, offset, length):
        if not _zero_all_of(image, at >> image.bits):
            if no_fallback:
                raise OSError(ENOTSUP, os.strerror(ENOTSUP))
            write_zero_data(image, at, size)
    first, last = _whole_clusters(image, offset, length)
    if first < last:
        change(image, first, last - first, Rule.UNMAP if may_unmap else Rule.ZERO)


def _edges(image: Image, offset: int, length: int) -> list[tuple[int, int]]:
    """The parts of the range outside of its whole clusters: none, one or two."""
    bits = image.bits
    first, last = _whole_clusters(image, offset, length)
    if first > last:  # it begins and ends within one cluster
        return [(offset, length)]
    edges = [(offset, (first << bits) - offset), (last << bits, offset + length - (last << bits))]
    return [(at, size) for at, size in edges if size > 0]


def _zero_all_of(image: Image, cluster: int) -> bool:
    """Makes a cluster zero that reads as zeroes already; False where it does not. In one step, as
    somebody else may be about to write to a part of it. Raises OSError."""
    with image.lock:
        image.check_writable()
        image.claims.wait(cluster, 1)
        image.check_writable()
        kind = int(mapping.classify(image.tables.gather(cluster, 1))[0])
        if kind == mapping.UNALLOCATED:
            if image.backing_covers(cluster << image.bits):
                return False
        elif kind != mapping.ZERO:
            return False
        _change(image, cluster, 1, Rule.ZERO)
    if image.crowded():
        writeback.write_back(image)
    return True


def _write_zeroes_v2(image: Image, offset: int, length: int, may_unmap: bool) -> None:
    """Version 2 has no zero clusters: unallocated ones do as well where there is no backing file,
    neither now nor for those who will open the one that the header names."""
    bits = image.bits
    end = offset + length
    hidden = image.backing is None and image.header.backing_file is not None
    if may_unmap and image.backing is None and not hidden:
        first, last = _whole_clusters(image, offset, length)
        if first < last:
            change(image, first, last - first, Rule.FORGET)
    while offset < end:
        first = offset >> bits
        count = min(q.PIECE, ((end - 1) >> bits) - first + 1)
        with image.lock:
            entries = image.tables.gather(first, count)
        for run in mapping.runs(entries, 1 << bits):
            stop = min(end, (first + run.start + run.clusters) << bits)
            if run.kind != mapping.UNALLOCATED or hidden or image.backing_covers(offset):
                write_zero_data(image, offset, stop - offset)
            offset = stop
