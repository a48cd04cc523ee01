"""Internal snapshots: made, gone back to, deleted. No request may be under way.

A snapshot takes over the disk's L1 table, and the disk gets a new one; see ``switch`` for how.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EFBIG

from monitor.engine.arrays import np
from monitor.engine.drivers.base import NewSnapshot
from monitor.engine.drivers.qcow2 import layout as q
from monitor.engine.drivers.qcow2 import writeback
from monitor.engine.drivers.qcow2.image import Image
from monitor.engine.drivers.qcow2.mapping import Entries
from monitor.engine.drivers.qcow2.snapshots import Snapshot, pack_snapshots
from monitor.engine.drivers.qcow2.switch import Change, switch
from monitor.engine.drivers.qcow2.trees import Tree, snapshot_l1


def create(image: Image, wanted: NewSnapshot) -> str:
    """Makes a snapshot of the disk as it is; its id. Raises OSError: EFBIG when there are too many,
    EINVAL when a refcount cannot hold another reference."""
    with _settled(image):
        if len(image.snapshots) >= q.MAX_SNAPSHOTS:
            raise OSError(EFBIG, os.strerror(EFBIG))
        identity = _next_id(image.snapshots)
        snapshot = Snapshot(
            raw_id=identity.encode(),
            raw_name=os.fsencode(wanted.name),
            l1_table_offset=image.tables.l1_offset,
            l1_size=len(image.tables.l1),
            date_sec=wanted.date_sec,
            date_nsec=wanted.date_nsec,
            vm_clock_nsec=0,  # there is no machine: its clock never ran
            vm_state_size=0,
            disk_size=image.size,
            icount=None,
        )
        snapshots = [*image.snapshots, snapshot]
        if len(pack_snapshots(snapshots, image.size)) > q.MAX_SNAPSHOT_TABLE_BYTES:
            raise OSError(EFBIG, os.strerror(EFBIG))
        active = Tree(image, image.tables.l1)
        switch(image, Change(active, image.header.size, snapshots, gained=[active]))
        return identity


def apply(image: Image, snapshot: Snapshot) -> None:
    """Makes the disk what it was when the snapshot was made, its size too. Raises BadImage,
    OSError."""
    with _settled(image):
        size = image.header.size if snapshot.disk_size is None else snapshot.disk_size
        l1 = snapshot_l1(image, snapshot)
        entries = max(len(l1), image.geometry.l1_entries(size))
        if entries * 8 > q.MAX_L1_BYTES:
            raise OSError(EFBIG, os.strerror(EFBIG))
        active = Tree(image, _longer(l1, entries))
        old = Tree(image, image.tables.l1)
        extent = image.tables.l1_offset, len(old.l1) * 8
        change = Change(active, size, image.snapshots, gained=[active], lost=[old], freed=[extent])
        switch(image, change)


def delete(image: Image, snapshot: Snapshot) -> None:
    """Raises BadImage, OSError."""
    with _settled(image):
        left = [other for other in image.snapshots if other is not snapshot]
        lost = Tree(image, snapshot_l1(image, snapshot))
        active = Tree(image, image.tables.l1)
        freed = [
            (snapshot.l1_table_offset, snapshot.l1_size * 8),
            (image.tables.l1_offset, len(active.l1) * 8),
        ]
        switch(image, Change(active, image.header.size, left, lost=[lost], freed=freed))


@contextmanager
def _settled(image: Image) -> Iterator[None]:
    """All that the image has in memory is on the disk."""
    if not image.changing:
        image.begin_changes()
    with image.flush_lock:
        image.check_writable()
        writeback.drain_locked(image)
        yield


def _longer(l1: Entries, entries: int) -> Entries:
    padded = np.zeros(entries, np.uint64)
    padded[: len(l1)] = l1
    return padded


def _next_id(snapshots: list[Snapshot]) -> str:
    """One more than the largest number that any id begins with."""
    numbers = [re.match(rb"\d*", snapshot.raw_id) for snapshot in snapshots]
    largest = max((int(number[0] or 0) for number in numbers if number), default=0)
    return str((largest + 1) % (1 << 64))
