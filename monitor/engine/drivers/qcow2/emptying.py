"""An image that gives up all that it holds, and its file with it."""

from __future__ import annotations

import contextlib

from monitor.engine.arrays import np
from monitor.engine.drivers.qcow2 import layout as q
from monitor.engine.drivers.qcow2 import resize, writeback
from monitor.engine.drivers.qcow2.image import Image
from monitor.engine.errors import RequestError


def make_empty(image: Image) -> None:
    """Every guest cluster is unallocated, whatever lies below, and the host gets the room back.
    No request may be under way. Raises OSError."""
    if not image.changing:
        image.begin_changes()
    resize.forget(image, 0, image.geometry.clusters(image.size))
    writeback.drain(image)
    # It is empty: a file that cannot be cut is only longer than it need be.
    with contextlib.suppress(OSError, RequestError):
        _give_up_last_blocks(image)
        resize.cut_tail(image)


def _give_up_last_blocks(image: Image) -> None:
    """Else one for every so many clusters, which counts nothing but the next one, kept the file
    long. The table has to reach the disk before anybody gets their clusters."""
    with image.lock:
        gone = _take_last_blocks(image)
    try:
        writeback.drain(image)
    except OSError:
        with image.lock:
            _put_back(image, gone)
        raise
    with image.lock:
        entries = np.array(sorted(gone.values()), np.uint64) & np.uint64(q.REFTABLE_MASK)
        image.refcounts.release(entries >> np.uint64(image.bits))
    writeback.drain(image)


def _take_last_blocks(image: Image) -> dict[int, np.uint64]:
    """Refcount blocks at the end that count nothing but such blocks go from the table; {index: what
    stood there} (lock held). Raises OSError."""
    refcounts = image.refcounts
    gone: dict[int, np.uint64] = {}
    theirs: set[int] = set()
    for index in np.flatnonzero(refcounts.table)[::-1].tolist():
        block = refcounts.block(index)
        assert block is not None
        theirs.add(block.offset >> image.bits)
        used = np.flatnonzero(block.counters) + (index << image.geometry.block_bits)
        if not theirs.issuperset(used.tolist()):
            break
        gone[index] = refcounts.table[index]
    for index in gone:
        refcounts.table[index] = 0
        refcounts.table_dirty.add(index)
        refcounts.blocks.pop(index, None)
    image.metadata.forget()
    return gone


def _put_back(image: Image, gone: dict[int, np.uint64]) -> None:
    """They are there after all: the disk could not be told, or only of some (lock held)."""
    for index, entry in gone.items():
        image.refcounts.table[index] = entry
        image.refcounts.table_dirty.add(index)
    image.metadata.forget()
