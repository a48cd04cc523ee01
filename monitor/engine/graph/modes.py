"""Nodes that become read-only, or read-write, with what they opened for their bytes."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import msgspec

from monitor.engine import permissions
from monitor.engine.drivers.base import OpenFlags, Reopen
from monitor.engine.errors import RequestError
from monitor.engine.graph import edit
from monitor.engine.graph.errors import CannotReopen, CopiesOnRead
from monitor.engine.graph.graph import Graph
from monitor.engine.graph.node import Node
from monitor.engine.graph.transaction import Transaction


async def reopen(graph: Graph, edits: Transaction, node: Node, *, read_only: bool) -> None:
    """Has the node, and the file below it, as QEMU does for children that the node opened itself,
    open the other way: edits of a transaction in which the node is drained. Raises RequestError
    and OSError; the transaction undoes what was done."""
    layers: list[tuple[Node, OpenFlags]] = []
    below: Node | None = node
    while below is not None:
        flags = msgspec.structs.replace(below.flags, read_only=read_only)
        if flags == below.flags:
            break
        if not below.driver.reopens:
            raise CannotReopen(below.driver.name, below.name)
        if read_only and below.copy_on_read is not None:
            raise CopiesOnRead(below.user_name())
        layers.append((below, flags))
        parent, below = below, below.data_child
        if below is not None and below.inherits_from is not parent:
            below = None
    if read_only:
        await _prepare(graph, edits, layers)
    else:
        await _prepare_upwards(graph, edits, layers)
    edit.refresh(edits, [node])


async def _prepare_upwards(
    graph: Graph, edits: Transaction, layers: Sequence[tuple[Node, OpenFlags]]
) -> None:
    """A node finds what is below it ready to be written to."""
    for layer, flags in reversed(layers):
        await _prepare(graph, edits, [(layer, flags)])
        if (child := layer.data_child) is not None:
            role = layer.driver.child_roles[0]
            taken, _ = layer.driver.child_permissions(role, 0, permissions.ALL, True)
            await graph.make_ready(child, taken)


async def _prepare(
    graph: Graph, edits: Transaction, layers: Sequence[tuple[Node, OpenFlags]]
) -> None:
    prepared = await graph.in_worker(_prepare_reopens, layers)
    for (node, flags), change in zip(layers, prepared, strict=True):
        edit.set_flags(edits, node, flags, change)


def _prepare_reopens(layers: Sequence[tuple[Node, OpenFlags]]) -> list[Reopen | None]:
    """In a worker: the drivers' part of new flags, all of it or none."""
    prepared: list[Reopen | None] = []
    try:
        for node, flags in layers:
            prepared.append(node.driver.prepare_reopen(flags))
    except BaseException:
        for change in reversed(prepared):
            if change is not None:
                change.abort()
        raise
    return prepared


async def switch(graph: Graph, node: Node, *, read_only: bool) -> None:
    """Has the node, and what it opened for its bytes, open the other way. Raises RequestError and
    OSError, and changes nothing then."""
    if node.read_only == read_only:
        return
    async with graph.drained(node):
        with Transaction() as transaction:
            await reopen(graph, transaction, node, read_only=read_only)
            graph.commit(transaction)


async def make_read_only(graph: Graph, node: Node) -> None:
    """Best effort: a base that nobody writes to needs no write lock on its file."""
    with contextlib.suppress(RequestError, OSError):
        await switch(graph, node, read_only=True)
