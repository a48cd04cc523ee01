"""Dirty bitmaps by the names that requests give them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitor.engine.errors import RequestError, as_word
from monitor.engine.graph.errors import UnknownNode

if TYPE_CHECKING:
    from monitor.engine.bitmap import DirtyBitmap
    from monitor.engine.graph.graph import Graph
    from monitor.engine.graph.node import Node


class BitmapNotFound(RequestError):
    template = "Dirty bitmap '{name}' not found"
    name: str
    node: str


def find_bitmap(graph: Graph, node_name: str, name: str) -> tuple[Node, DirtyBitmap]:
    """A bitmap and its node, by a device's or a node's name. Raises UnknownNode,
    BitmapNotFound; whether it may be used is for ``check``."""
    try:
        node = graph.find(node_name)
    except RequestError as error:
        raise UnknownNode(node_name) from error
    return node, bitmap_of(node, name)


def bitmap_of(node: Node, name: str) -> DirtyBitmap:
    bitmap = node.bitmaps.get(name)
    if bitmap is None:
        raise BitmapNotFound(name, node.name)
    return bitmap


def check(node: Node, bitmap: DirtyBitmap, *, readonly: bool = False, broken: bool = False) -> None:
    """``DirtyBitmap.check``, with the line that mends what can be mended."""
    from monitor.engine.bitmap import BitmapInconsistent

    try:
        bitmap.check(readonly=readonly, broken=broken)
    except BitmapInconsistent as error:
        line = f"block-dirty-bitmap-remove node={as_word(node.name)} name={as_word(error.name)}"
        raise error.with_own_hint(f"it can only be removed: {line}") from None
