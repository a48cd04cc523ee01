"""Nodes: opened, deleted, resized, and given overlays."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from msgspec import UNSET

from monitor.engine import images, permissions
from monitor.engine.drivers.base import MAX_LENGTH
from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import RequestError, host_failure
from monitor.engine.graph.blockers import Operation
from monitor.engine.graph.client import Client
from monitor.engine.graph.edge import RootEdge
from monitor.engine.graph.errors import (
    DeviceHasNoMedium,
    DeviceOrNodeNotFound,
    NodeInUse,
    NotMonitorOwned,
    UnknownNode,
)
from monitor.engine.graph.graph import Graph
from monitor.engine.graph.iothreads import move
from monitor.engine.graph.jsonnames import open_given
from monitor.engine.graph.modes import make_read_only
from monitor.engine.graph.node import Node
from monitor.engine.graph.opening import Opening
from monitor.engine.graph.snapshot import check_depth, flush, put_overlay
from monitor.engine.handlers import handles
from monitor.engine.schema.base import given
from monitor.engine.schema.graph import (
    BlockdevAdd,
    BlockdevChange,
    BlockdevDel,
    BlockdevReopen,
    BlockdevSetIothread,
    BlockdevSnapshot,
    BlockdevSnapshotSync,
    BlockResize,
)
from monitor.engine.transaction import Actions, acts
from monitor.engine.units import whole_sectors


class NodeNameMissing(RequestError):
    template = "'node-name' must be specified for the root node"


class BlockDeviceInUse(RequestError):
    template = "Block device {name} is in use"
    name: str


class DeviceInUse(RequestError):
    template = "Device '{device}' is in use"
    device: str
    job: str | None = None


class ImageIsReadOnly(RequestError):
    template = "Image is read-only"
    node: str


class SizeNotPositive(RequestError):
    template = "Parameter 'size' expects a >0 size"


class BeyondMaximum(RequestError):
    template = "offset({size}) exceeds maximum({maximum})"
    size: int
    maximum: int


class OverlayNameMissing(RequestError):
    template = "New overlay node-name missing"


class OverlayNameTaken(RequestError):
    template = "New overlay node-name already in use"
    name: str


class ChildAndNode(RequestError):
    template = "The parameters child and node are in conflict"


class NeitherChildNorNode(RequestError):
    template = "Either child or node must be specified"


class NoSuchChild(RequestError):
    template = "Node '{node}' does not have child '{child}'"
    node: str
    child: str


class AddsNoChild(RequestError):
    template = "The node {node} does not support adding a child"
    node: str


class RemovesNoChild(RequestError):
    template = "The node {node} does not support removing a child"
    node: str


class PerhapsInUse(RequestError):
    template = (
        "Node {node} is associated with a BlockBackend and could be in use "
        "(use force=true to override this check)"
    )
    node: str


class NoSuchIothread(RequestError):
    template = "Cannot find iothread {id}"
    id: str


@handles(BlockdevAdd)
async def blockdev_add(engine: EmbeddedEngine, request: BlockdevAdd) -> None:
    if request.options.node_name is UNSET:
        raise NodeNameMissing()
    graph = engine.graph
    async with graph.turn, Opening(graph) as opening:
        node = await opening.open(request.options)
        node.monitor_owned = True


def _is_backend(parent: Node | Client) -> bool:
    """Whether it is a user of the node; a job is not one, it blocks the node instead."""
    return isinstance(parent, Client) and not parent.stays_at_node


@handles(BlockdevDel)
async def blockdev_del(engine: EmbeddedEngine, request: BlockdevDel) -> None:
    graph = engine.graph
    async with graph.turn:
        node = graph.find_node(request.node_name)
        if any(_is_backend(edge.parent) for edge in node.parents):
            blocker = node.blocker(Operation.DRIVE_DEL)
            raise NodeInUse(node.name, blocker.job if blocker is not None else None)
        graph.refuse_if_busy(node, Operation.DRIVE_DEL)
        if not node.monitor_owned:
            raise NotMonitorOwned(node.name)
        if node.parents or node.pins:
            raise BlockDeviceInUse(node.user_name())
        node.monitor_owned = False
        await graph.close_unused([node])


@handles(BlockdevReopen)
async def blockdev_reopen(engine: EmbeddedEngine, request: BlockdevReopen) -> None:
    from monitor.engine.graph.reopen import Reopening

    async with engine.graph.turn:
        await Reopening(engine.graph, request.options).carry_out()


@handles(BlockdevChange)
async def blockdev_change(engine: EmbeddedEngine, request: BlockdevChange) -> None:
    """No driver here holds any number of children, so each request that makes sense is refused."""
    graph = engine.graph
    child, node_name = given(request.child), given(request.node)
    async with graph.turn:
        parent = graph.find(request.parent)
        if child is not None and node_name is not None:
            raise ChildAndNode()
        if child is not None:
            if child not in parent.children:
                raise NoSuchChild(parent.name, child)
            raise RemovesNoChild(parent.user_name())
        if node_name is None:
            raise NeitherChildNorNode()
        if node_name not in graph.nodes:
            raise UnknownNode(node_name)
        raise AddsNoChild(parent.user_name())


@handles(BlockdevSetIothread)
async def blockdev_set_iothread(engine: EmbeddedEngine, request: BlockdevSetIothread) -> None:
    from monitor.engine.objects.iothread import iothread_of

    graph, wanted = engine.graph, request.iothread
    async with graph.turn:
        node = graph.find_node(request.node_name)
        backends = (edge.parent for edge in node.parents if not isinstance(edge.parent, Node))
        used = any(client.graph_type == "block-backend" for client in backends)
        if used and request.force is not True:
            raise PerhapsInUse(node.name)
        found = None if wanted is None else iothread_of(graph.objects, wanted)
        if wanted is not None and found is None:
            raise NoSuchIothread(wanted)
        move(node, found)


@handles(BlockResize)
async def block_resize(engine: EmbeddedEngine, request: BlockResize) -> None:
    graph = engine.graph
    device = given(request.device)
    async with graph.turn:
        node = graph.find_either(device, given(request.node_name))
        if request.size < 0:
            raise SizeNotPositive()
        if request.size > MAX_LENGTH:
            raise BeyondMaximum(request.size, MAX_LENGTH)
        await resize(graph, node, device, lambda root: root.truncate(request.size))


async def resize(
    graph: Graph, node: Node, device: str | None, change: Callable[[RootEdge], None]
) -> None:
    """Has ``change`` set the size of a node, in a worker, with nobody at it. The caller has the
    turn. Raises RequestError."""
    blocker = node.blocker(Operation.RESIZE)
    if blocker is not None:
        raise DeviceInUse(device or "(null)", blocker.job)
    client = Client()
    await graph.make_ready(node, permissions.RESIZE)
    root = graph.add_client(client, node, permissions.RESIZE, permissions.ALL)
    try:
        if node.read_only:
            raise ImageIsReadOnly(node.name)
        async with graph.drained(node):
            await graph.in_worker(change, root)
    except OSError as error:
        if error.errno == errno.EROFS:  # a node below may be read-only
            raise ImageIsReadOnly(node.name) from error
        raise host_failure("Failed to resize", error) from error
    finally:
        await graph.remove_client(client)


@acts(BlockdevSnapshot)
async def blockdev_snapshot(
    engine: EmbeddedEngine, request: BlockdevSnapshot, actions: Actions
) -> None:
    graph = engine.graph
    old = graph.find(request.node)
    graph.refuse_if_busy(old, Operation.EXTERNAL_SNAPSHOT)
    await flush(graph, old)
    overlay = graph.find(request.overlay)
    overlay.pins += 1

    async def let_go() -> None:
        overlay.pins -= 1
        await graph.close_unused([overlay])

    actions.add(clean=let_go)
    await _append(engine, actions, old, overlay, overlay.name)


@acts(BlockdevSnapshotSync)
async def blockdev_snapshot_sync(
    engine: EmbeddedEngine, request: BlockdevSnapshotSync, actions: Actions
) -> None:
    """A file that was created stays when the transaction fails, as QEMU leaves it."""
    graph = engine.graph
    node_name, overlay_name = given(request.node_name), given(request.snapshot_node_name)
    fmt = given(request.format) or "qcow2"
    old = graph.find_either(given(request.device), node_name)
    graph.refuse_if_busy(old, Operation.EXTERNAL_SNAPSHOT)
    await flush(graph, old)
    if node_name is not None and overlay_name is None:
        raise OverlayNameMissing()
    if overlay_name is not None and _is_taken(engine, overlay_name):
        raise OverlayNameTaken(overlay_name)
    check_depth(graph, old)  # before a file is created
    filename: str | None = request.snapshot_file
    loose: dict[str, Any] = {"driver": fmt}
    if request.mode is UNSET or request.mode == "absolute-paths":
        filename = actions.new_file(request.snapshot_file)
        size = whole_sectors(old.length())
        image = images.NewImage(filename, fmt, size, old.filename, old.driver.name)
        await images.create(graph, image)
        if fmt != "file":  # it lies in one, as is known by now
            filename, loose["file"] = None, {"driver": "file", "filename": image.path}
    if overlay_name is not None:
        loose["node-name"] = overlay_name
    opening = Opening(graph)
    actions.add(clean=opening.close)
    overlay = await open_given(opening, loose, filename, inherit=old.flags, follow_backing=False)

    def tell_when_unused() -> None:
        if not overlay.parents:
            engine.emit("X_BLKMON_NODE_DROPPED", {"node-name": overlay.name})

    await _append(engine, actions, old, overlay, overlay_name or request.snapshot_file)
    actions.add(commit=tell_when_unused)


async def _append(
    engine: EmbeddedEngine, actions: Actions, old: Node, overlay: Node, called: str
) -> None:
    graph = engine.graph
    await actions.drain(old, overlay)
    put_overlay(graph, actions.edits(), old, overlay)
    actions.add(commit=lambda: make_read_only(graph, old))
    actions.says(f"'{called}' on top of '{old.name}'")


def _is_taken(engine: EmbeddedEngine, name: str) -> bool:
    try:
        engine.graph.find(name)
    except (DeviceOrNodeNotFound, DeviceHasNoMedium):
        return False
    return True
