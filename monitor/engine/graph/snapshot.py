"""Putting an overlay on top of a node."""

from __future__ import annotations

from monitor.engine import permissions
from monitor.engine.errors import RequestError
from monitor.engine.graph import edit
from monitor.engine.graph.graph import Graph
from monitor.engine.graph.node import Node, own_file
from monitor.engine.graph.policy import MAX_CHAIN, ChainTooLong
from monitor.engine.graph.transaction import Transaction


class IoErrorOccurred(RequestError):
    template = "An IO error has occurred"


class OverlayInUse(RequestError):
    template = "The overlay is already in use"
    node: str


class OverlayHasBacking(RequestError):
    template = "The overlay already has a backing image"
    node: str


class OverlayCannotBack(RequestError):
    template = "The overlay does not support backing images"
    node: str


def check_depth(graph: Graph, base: Node) -> None:
    """Whether one more image may lie on top of the chain that ``base`` begins. Layers are counted
    only where there are nodes enough for too many: a chain is made of nodes of the graph."""
    if len(graph.nodes) > MAX_CHAIN and sum(1 for _ in base.chain()) > MAX_CHAIN:
        raise ChainTooLong(own_file(base))


def put_overlay(graph: Graph, edits: Transaction, old: Node, overlay: Node) -> None:
    """Makes ``old`` the backing image of ``overlay`` and gives ``overlay`` to all of its parents:
    edits of a transaction in which both nodes are drained. ``old`` may become read-only once it is
    committed (``modes.make_read_only``).

    Raises RequestError; the transaction undoes what was done.
    """
    check_overlay(overlay)
    check_depth(graph, old)
    driver = overlay.driver
    edits.add(abort=lambda: driver.attach_backing(None))
    edge = edit.attach(edits, overlay, "backing", old)
    edit.replace(edits, old, overlay)
    edit.refresh(edits, [overlay, old])
    driver.attach_backing(edge)
    graph.rewire(edits)


def check_overlay(overlay: Node) -> None:
    """Whether ``overlay`` can take a backing image now."""
    if any(edge.taken & permissions.CONSISTENT_READ for edge in overlay.parents):
        raise OverlayInUse(overlay.name)
    if overlay.backing is not None or overlay.is_filter:
        raise OverlayHasBacking(overlay.name)
    if not overlay.driver.supports_backing:
        raise OverlayCannotBack(overlay.name)


async def flush(graph: Graph, node: Node) -> None:
    """What an overlay is put on must be complete. Raises IoErrorOccurred."""
    if node.read_only:
        return
    try:
        await graph.in_worker(node.flush)
    except OSError as error:
        raise IoErrorOccurred() from error


__all__ = ["check_depth", "check_overlay", "flush", "put_overlay"]
