"""Permissions on a node: what a parent takes of a child and what it lets others take.

Plain integers, because a graph of thousands of nodes recomputes them often. The bit numbers are
also the byte offsets of QEMU's image locks (100 + bit for a permission taken, 200 + bit for one
that is not shared), so they are on disk, as it were, and never change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from monitor.engine.schema.query import Permission

CONSISTENT_READ: Final = 1 << 0
"""Reads give data that makes sense: not the middle of a chain that is being rewritten."""
WRITE: Final = 1 << 1
WRITE_UNCHANGED: Final = 1 << 2
"""Writes that leave the visible contents as they are (a stream filling an overlay)."""
RESIZE: Final = 1 << 3
WRITERS: Final = WRITE | WRITE_UNCHANGED | RESIZE
"""What needs an image to be open read-write."""
ALL: Final = CONSISTENT_READ | WRITE | WRITE_UNCHANGED | RESIZE

NAMES: Final = {
    CONSISTENT_READ: "consistent read",
    WRITE: "write",
    WRITE_UNCHANGED: "write unchanged",
    RESIZE: "resize",
}

QMP_NAMES: Final[dict[int, Permission]] = {
    CONSISTENT_READ: "consistent-read",
    WRITE: "write",
    WRITE_UNCHANGED: "write-unchanged",
    RESIZE: "resize",
}


def describe(permissions: int) -> str:
    """``permissions`` in QEMU's words, comma separated."""
    return ", ".join(text for bit, text in NAMES.items() if permissions & bit)


def qmp_list(permissions: int) -> list[Permission]:
    return [text for bit, text in QMP_NAMES.items() if permissions & bit]


# What a parent takes of its child and shares, from what the parent's own parents take of it and
# share. These are the rules of QEMU's block layer, by what the child is to its parent.


def through_filter(taken: int, shared: int) -> tuple[int, int]:
    """A child with the same bytes: hand on exactly what the parents want."""
    return taken & ALL, shared & ALL


def for_image(taken: int, shared: int, *, writable: bool) -> tuple[int, int]:
    """A file that holds a format's metadata and data: nobody else may write or resize it."""
    if writable:
        taken |= WRITE | RESIZE
    return taken | CONSISTENT_READ, shared & ~(WRITE | RESIZE)


def for_data(taken: int, shared: int) -> tuple[int, int]:
    """A file that holds data only: writing may grow it, and nobody else may resize it."""
    if taken & WRITE:
        taken |= RESIZE
    return taken, shared & ~RESIZE


def for_backing(taken: int, shared: int) -> tuple[int, int]:
    """A backing image: read only, and stable unless the parent's users bear a moving base."""
    moving = WRITE | RESIZE if shared & WRITE else 0
    return taken & CONSISTENT_READ, moving | CONSISTENT_READ | WRITE_UNCHANGED
