"""Putting a job's filter on a node, and taking it away: steps of a graph transaction."""

from __future__ import annotations

from collections.abc import Iterable

from monitor.engine.drivers.base import OpenContext, OpenFlags
from monitor.engine.drivers.copy_on_read import CopyOnReadDriver
from monitor.engine.drivers.job_filters import CommitTopDriver, MirrorTopDriver
from monitor.engine.graph import edit
from monitor.engine.graph.client import Client
from monitor.engine.graph.edge import RootEdge
from monitor.engine.graph.graph import Graph
from monitor.engine.graph.node import Node
from monitor.engine.graph.transaction import Transaction
from monitor.engine.schema.blockdev import BlockdevOptions

JobFilter = MirrorTopDriver | CommitTopDriver | CopyOnReadDriver


def put_on(
    graph: Graph,
    transaction: Transaction,
    below: Node,
    driver: JobFilter,
    name: str | None,
    *,
    writable: bool,
) -> Node:
    """A filter between ``below`` and everybody who uses it but jobs: see ``make_filter``."""
    node = make_filter(graph, transaction, below, driver, name, writable=writable)
    edit.replace(transaction, below, node)
    return node


def make_filter(
    graph: Graph,
    transaction: Transaction,
    below: Node,
    driver: JobFilter,
    name: str | None,
    *,
    writable: bool,
) -> Node:
    """A filter on ``below`` that nobody uses yet. Without a name of the user's it is an implicit
    node. ``refresh`` it afterwards. Raises RequestError for a bad name."""
    # Whether a discard is heeded is for the node below to say, as it was before the job.
    flags = OpenFlags(read_only=not writable, unmap=True)
    node = Node(graph.name_for(name), driver, BlockdevOptions(), flags)
    node.implicit = name is None
    node.is_open = True
    graph.insert(node)
    transaction.add(abort=lambda: graph.forget(node))
    role = driver.child_roles[0]
    edge = edit.attach(transaction, node, role, below)
    driver.open(OpenContext(node.options, flags, node.name, {role: edge}))
    return node


def take_off(transaction: Transaction, filter_node: Node, instead: Node) -> list[Node]:
    """Everybody above the filter but jobs gets ``instead``; the filter leads nowhere any more.
    ``refresh`` the nodes that are returned."""
    driver = filter_node.driver
    if isinstance(driver, (MirrorTopDriver, CommitTopDriver)):
        driver.stopped = True
        transaction.add(abort=lambda: setattr(driver, "stopped", False))
    edit.replace(transaction, filter_node, instead)
    children = list(filter_node.children.values())
    for edge in children:
        edit.detach(transaction, edge)
    return [instead, *(edge.child for edge in children)]


def layers_above(top: Node, base: Node | None) -> list[Node]:
    """The chain from ``top`` down, without ``base`` and what lies below; filters are left out."""
    layers: list[Node] = []
    for node in top.chain():
        if node is base:
            break
        if not node.is_filter:
            layers.append(node)
    return layers


def nodes_between(top: Node, base: Node) -> Iterable[Node]:
    """``top`` and all below it and above ``base``, filters too."""
    for node in top.chain():
        if node is base:
            return
        yield node


def root(
    transaction: Transaction, client: Client, role: str, node: Node, taken: int, shared: int
) -> RootEdge:
    """A new edge of a job or of its helper, with its permissions; ``refresh`` the node."""
    edge = edit.attach(transaction, client, role, node)
    edit.set_permissions(transaction, edge, taken, shared)
    assert isinstance(edge, RootEdge)
    return edge
