"""Lazy refcounts: counts that may be wrong on the disk while the image is being written to.

Where an image asks for them (a compatible feature bit, or the option ``lazy-refcounts``), the dirty
bit is set, durably, before the first new cluster is linked. From then on a write-back carries L2
tables without the refcounts that they rest on, hence with a barrier less. Closing writes all
refcounts and then takes the bit away; after a crash it is still there, and whoever opens the image
for writing counts anew (``repair``).
"""

from __future__ import annotations

from monitor.engine.drivers.qcow2 import layout as q
from monitor.engine.drivers.qcow2.image import Image

_LIMIT = 8 << 20
"""Bytes of refcount blocks that may wait in memory; beyond them a write-back takes all along."""


def before_linking(image: Image) -> None:
    """A new cluster is about to be linked (no lock held). Raises OSError."""
    if image.lazy and not image.is_dirty:
        with image.flush_lock:
            if not image.is_dirty:
                image.write_features(put=q.INCOMPAT_DIRTY)


def postponed(image: Image) -> bool:
    """Whether a write-back may leave refcounts out (flush lock held)."""
    return image.lazy and image.is_dirty and image.refcounts.dirty_bytes() <= _LIMIT


def mark_clean(image: Image) -> None:
    """All refcounts are on the disk and no request is under way (flush lock held). Raises
    OSError."""
    if image.is_dirty and not image.broken:
        image.write_features(take=q.INCOMPAT_DIRTY)
