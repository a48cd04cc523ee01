"""On which iothread the requests to a part of the graph are made.

What is connected, by edges of whatever kind, is in one place, as in QEMU (there an AioContext): a
node is moved with all of it, or not at all. Here the place says whose threads do the long requests
of exports that name none themselves; jobs have threads of their own wherever they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitor.engine.errors import RequestError
from monitor.engine.graph.node import Node

if TYPE_CHECKING:
    from monitor.engine.graph.client import Client
    from monitor.engine.objects.iothread import Iothread


class CannotMove(RequestError):
    template = "Cannot change iothread of active block backend"


def place_of(node: Node) -> Iothread | None:
    """Where the node is; None for the process's own threads. What came to stand on it, as the
    overlay of a snapshot does, is where it is."""
    seen, todo = {node}, [node]
    while todo:
        found = todo.pop()
        if found.iothread is not None:
            return found.iothread
        below = {edge.child for edge in found.children.values()} - seen
        seen |= below
        todo.extend(below)
    return None


def move(node: Node, iothread: Iothread | None) -> None:
    """Moves a node and all that is connected with it. Raises CannotMove, and nothing is moved then.
    The caller has the turn."""
    nodes, clients = _connected(node)
    if place_of(node) is not iothread and any(client.stays_in_place for client in clients):
        raise CannotMove()
    for each in nodes:
        each.iothread = iothread
    for client in clients:
        client.moved(iothread)


def _connected(node: Node) -> tuple[set[Node], set[Client]]:
    nodes: set[Node] = {node}
    clients: set[Client] = set()
    todo: list[Node] = [node]
    while todo:
        found = todo.pop()
        reached = {edge.child for edge in found.children.values()}
        for edge in found.parents:
            if isinstance(edge.parent, Node):
                reached.add(edge.parent)
            elif edge.parent not in clients:
                clients.add(edge.parent)
                reached |= {root.child for root in edge.parent.roots}
        todo.extend(reached - nodes)
        nodes |= reached
    return nodes, clients
