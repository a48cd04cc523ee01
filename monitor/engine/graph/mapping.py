"""Where a disk's data lies in its chain of images: what ``map`` prints.

All of it blocks; it is called in a lane.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from monitor.engine.drivers.base import Extent, ExtentKind
from monitor.engine.graph.node import Node


class Mapped(NamedTuple):
    """``length`` bytes at ``start`` of the disk. ``offset`` is -1 where the run lies plainly in no
    file."""

    start: int
    length: int
    depth: int
    present: bool
    zero: bool
    data: bool
    offset: int
    filename: str

    def continues(self, other: Mapped) -> bool:
        """Whether this run and ``other`` before it are one."""
        return (
            other[2:6] == self[2:6]
            and other.filename == self.filename
            and (self.offset < 0) == (other.offset < 0)
            and (self.offset < 0 or other.offset + other.length == self.offset)
        )


def map_chain(layers: Sequence[Node], start: int, end: int, depth: int = 0) -> Iterator[Mapped]:
    """The runs from ``start`` to ``end``, seen from layer ``depth`` (filters left out)."""
    node = layers[depth]
    while start < end:
        for extent in node.map(start, end - start):
            yield from _one(layers, start, extent, depth)
            start += extent.length


def _one(layers: Sequence[Node], start: int, extent: Extent, depth: int) -> Iterator[Mapped]:
    if extent.kind is not ExtentKind.UNALLOCATED:
        zero = extent.kind is ExtentKind.ZERO
        offset = extent.host_offset if extent.host >= 0 else -1
        name = _file_of(layers[depth]) if offset >= 0 else ""
        yield Mapped(start, extent.length, depth, True, zero, not zero, offset, name)
        return
    end = start + extent.length
    inside = min(end, layers[depth + 1].length()) if depth + 1 < len(layers) else start
    if start < inside:
        yield from map_chain(layers, start, inside, depth + 1)
        start = inside
    if start < end:  # nothing is below: zeroes of this layer
        yield Mapped(start, end - start, depth, False, True, False, -1, "")


def _file_of(node: Node) -> str:
    while (child := node.data_child) is not None:
        node = child
    return node.filename
