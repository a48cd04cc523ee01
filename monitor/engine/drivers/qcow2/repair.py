"""Images that were not closed: the dirty bit says that refcounts may be wrong."""

from __future__ import annotations

from monitor.engine.drivers.qcow2 import layout as q
from monitor.engine.drivers.qcow2.errors import TooLargeToRepair
from monitor.engine.drivers.qcow2.image import Image


def repair_if_dirty(image: Image) -> None:
    """Refuses an image whose refcounts cannot be trusted."""
    if image.header.incompatible & q.INCOMPAT_DIRTY:
        raise TooLargeToRepair
