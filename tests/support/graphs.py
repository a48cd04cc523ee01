"""Small live graphs for tests of the graph itself."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from monitor.engine import permissions
from monitor.engine.drivers.base import Driver, OpenContext, OpenFlags
from monitor.engine.drivers.memory import MemoryDriver
from monitor.engine.graph import edit
from monitor.engine.graph.client import Client
from monitor.engine.graph.graph import Graph
from monitor.engine.graph.node import Node
from monitor.engine.graph.transaction import Transaction
from monitor.engine.schema.blockdev import BlockdevOptionsNullCo

T = TypeVar("T")

OPTIONS = BlockdevOptionsNullCo()  # nobody looks at the options of a node made by hand


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs a test's coroutine; a test that hangs fails after a while instead."""

    async def bounded() -> T:
        return await asyncio.wait_for(main, 20)

    return asyncio.run(bounded())


class Events(list[tuple[str, dict[str, Any]]]):
    def __call__(self, name: str, data: dict[str, Any]) -> None:
        self.append((name, data))


class LayerDriver(MemoryDriver):
    """A format in memory that may have a backing image: enough to hold chains together."""

    name = "layer"
    supports_backing = True

    def child_permissions(
        self, role: str, taken: int, shared: int, writable: bool
    ) -> tuple[int, int]:
        return permissions.for_backing(taken, shared)


def add(graph: Graph, name: str, driver: Driver | None = None, *, read_only: bool = False) -> Node:
    """An open node on a driver of memory (1 MiB unless given)."""
    driver = driver or LayerDriver(1 << 20)
    flags = OpenFlags(read_only=read_only, unmap=True)
    driver.open(OpenContext(OPTIONS, flags, name, {}))
    node = Node(name, driver, OPTIONS, flags)
    node.is_open = True
    node.wire()
    node.monitor_owned = True
    graph.insert(node)
    return node


def put_above(graph: Graph, overlay: Node, base: Node) -> None:
    with Transaction() as transaction:
        edge = edit.attach(transaction, overlay, "backing", base)
        edit.refresh(transaction, [overlay, base])
        graph.commit(transaction)
    overlay.driver.attach_backing(edge)


def reader(graph: Graph, node: Node, *, shared: int = permissions.ALL) -> Client:
    client = Client("reader")
    graph.add_client(client, node, permissions.CONSISTENT_READ, shared)
    return client


def shape(graph: Graph) -> list[tuple[str, str, str, int, int]]:
    """Every edge with its permissions: what a failed change must leave as it was."""
    return sorted(
        (edge.describe_parent(), edge.role, node.name, edge.taken, edge.shared)
        for node in graph.nodes.values()
        for edge in node.parents
    )
