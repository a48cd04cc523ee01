"""Internal snapshots of several disks at once: ``savevm`` and its like, and the snapshot jobs."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence

from monitor.engine import node_snapshots
from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import Refused, RequestError, host_failure
from monitor.engine.graph.blockers import Operation
from monitor.engine.graph.graph import Graph
from monitor.engine.graph.node import Node
from monitor.engine.transaction import undoing

Disk = tuple[Node, Node]
"""A disk, and the node that keeps its snapshots."""


class NobodyKeepsState(RequestError):
    template = "no block device can store vmstate for snapshot"


class CannotSnapshotDisk(RequestError):
    template = "Device '{device}' is writable but does not support snapshots"
    device: str


class BitmapsInTheWay(RequestError):
    """They would not tell what going back changed."""

    template = "Device has active dirty bitmaps"


class SnapshotNotEverywhere(RequestError):
    template = "Snapshot '{name}' does not exist in one or more devices"
    name: str


class NoSuchNode(RequestError):
    template = "No block device node '{name}'"
    name: str


class SnapshotSomewhere(RequestError):
    template = "Snapshot '{name}' already exists in one or more devices"
    name: str


class NoDevices(RequestError):
    template = "At least one device is required for snapshot"


class StateNowhere(RequestError):
    template = "vmstate block device '{name}' does not exist"
    name: str


async def save(
    engine: EmbeddedEngine,
    name: str | None,
    devices: Sequence[str] | None = None,
    vmstate: str | None = None,
    *,
    replace: bool = True,
) -> None:
    """All of the disks (nodes by name; all writable disks for None), or none. Without a name one is
    made from the time. With ``replace``, snapshots of that name that are there already go, once the
    new ones are made. Raises RequestError."""
    graph = engine.graph
    wanted = node_snapshots.cut_name(name or _name_of_now(engine))
    async with undoing(engine) as actions:
        disks = _some(graph, devices, vmstate)
        for disk, held in disks:
            there = node_snapshots.find(held.driver.snapshots(), None, wanted)
            if there is not None and not replace:
                raise SnapshotSomewhere(wanted)
            graph.refuse_if_busy(disk, Operation.INTERNAL_SNAPSHOT)
        await actions.drain(*(held for _, held in disks))
        for disk, held in disks:
            replaced = None
            if name:
                replaced = node_snapshots.find(held.driver.snapshots(), None, wanted)
            try:
                await node_snapshots.create(engine, actions, disk, wanted)
            except OSError as error:
                raise _failure("create", wanted, disk, error) from error
            if replaced is not None:
                actions.add(commit=functools.partial(_forget, graph, disk, held, replaced))


def _name_of_now(engine: EmbeddedEngine) -> str:
    return time.strftime("vm-%Y%m%d%H%M%S", time.localtime(engine.clock.wall()))


async def _forget(graph: Graph, disk: Node, held: Node, number: int) -> None:
    """Takes an older snapshot away, which nobody will miss if it has to stay."""
    try:
        await node_snapshots.delete(graph, held, number)
    except RequestError as error:
        graph.emit("X_BLKMON_NOTE", {"text": _failure("delete", "", disk, error).text})


async def load(
    engine: EmbeddedEngine,
    name: str,
    devices: Sequence[str] | None = None,
    vmstate: str | None = None,
) -> None:
    """What could be known to fail is found before any disk is changed. Raises RequestError."""
    graph = engine.graph
    async with graph.turn:
        disks = _some(graph, devices, vmstate)
        found = [node_snapshots.find(held.driver.snapshots(), None, name) for _, held in disks]
        numbers = [number for number in found if number is not None]
        if len(numbers) < len(disks):
            raise SnapshotNotEverywhere(name)
        async with graph.drained(*(held for _, held in disks)):
            for disk, held in disks:
                for node in (disk, held):
                    graph.refuse_if_busy(node, Operation.INTERNAL_SNAPSHOT)
                if held.read_only:
                    raise CannotSnapshotDisk(disk.user_name())
                if held.bitmaps:
                    raise _failure("load", name, disk, BitmapsInTheWay())
            for (disk, held), number in zip(disks, numbers, strict=True):
                try:
                    await graph.in_worker(held.driver.apply_snapshot, number)
                except (RequestError, OSError) as error:
                    raise _failure("load", name, disk, error) from error


async def delete(engine: EmbeddedEngine, name: str, devices: Sequence[str] | None = None) -> None:
    """From each of the disks that has it. Raises RequestError."""
    graph = engine.graph
    async with graph.turn:
        disks = _able(graph, devices)
        async with graph.drained(*(held for _, held in disks)):
            for disk, held in disks:
                graph.refuse_if_busy(disk, Operation.INTERNAL_SNAPSHOT_DELETE)
                number = node_snapshots.find(held.driver.snapshots(), None, name)
                if number is None:
                    continue
                try:
                    await node_snapshots.delete(graph, held, number)
                except RequestError as error:
                    raise _failure("delete", name, disk, error) from error


def _some(graph: Graph, devices: Sequence[str] | None, vmstate: str | None) -> list[Disk]:
    """The disks, one at least; ``vmstate``, which would keep a machine's state, is one of them."""
    disks = _able(graph, devices)
    if vmstate is not None and vmstate not in {disk.name for disk, _ in disks}:
        raise StateNowhere(vmstate)
    if not disks:
        raise NobodyKeepsState()
    return disks


def _able(graph: Graph, devices: Sequence[str] | None) -> list[Disk]:
    if devices is None:
        nodes = list(node_snapshots.writable_disks(graph))
    elif not devices:
        raise NoDevices()
    else:
        nodes = [_node(graph, name) for name in dict.fromkeys(devices)]
    disks = []
    for disk in nodes:
        held = node_snapshots.keeper(disk)
        if held is None or disk.read_only:
            raise CannotSnapshotDisk(disk.user_name())
        disks.append((disk, held))
    return disks


def _node(graph: Graph, name: str) -> Node:
    node = graph.nodes.get(name)
    if node is None:
        raise NoSuchNode(name)
    return node


def _failure(verb: str, name: str, disk: Node, error: RequestError | OSError) -> RequestError:
    what = f"Could not {verb} snapshot '{name}' on '{disk.user_name()}'"
    if isinstance(error, OSError):
        return host_failure(what, error)
    return Refused(f"{what}: {error.text}")
