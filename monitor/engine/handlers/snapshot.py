"""Internal snapshots: of one disk, and of all that can be written."""

from __future__ import annotations

import functools
import time
from errno import EPERM

import msgspec
from msgspec import UNSET

from monitor.engine import internal
from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import HostFailure, Refused, RequestError, host_failure
from monitor.engine.graph.blockers import Operation
from monitor.engine.graph.graph import Graph
from monitor.engine.graph.node import Node
from monitor.engine.handlers import handles
from monitor.engine.schema.image import SnapshotInfo
from monitor.engine.schema.snapshot import (
    BlockdevSnapshotDeleteInternalSync,
    BlockdevSnapshotInternalSync,
    DeleteDisks,
    DiskSnapshots,
    LoadDisks,
    QueryDiskSnapshots,
    SaveDisks,
)
from monitor.engine.transaction import Actions, acts, undoing

MAX_NAME = 255
"""Bytes of a name that are kept, as in QEMU."""


class DeviceReadOnly(RequestError):
    template = "Device '{device}' is read only"
    device: str


class NoInternalSnapshots(RequestError):
    template = (
        "Block format '{format}' used by device '{device}' does not support internal snapshots"
    )
    format: str
    device: str


class NameEmpty(RequestError):
    template = "Name is empty"


class SnapshotExists(RequestError):
    template = "Snapshot with name '{name}' already exists on device '{device}'"
    name: str
    device: str


class NameOrIdMissing(RequestError):
    template = "Name or id must be provided"


class NoSuchSnapshot(RequestError):
    template = "Snapshot with id '{id}' and name '{name}' does not exist on device '{device}'"
    id: str
    name: str
    device: str


class NoSnapshotList(RequestError):
    template = "Failed to get a snapshot list: Operation not supported"
    device: str


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


@acts(BlockdevSnapshotInternalSync)
async def snapshot_internal(
    engine: EmbeddedEngine, request: BlockdevSnapshotInternalSync, actions: Actions
) -> None:
    device, name = request.device, _cut(request.name)
    node = internal.root_node(engine.graph, device)
    engine.graph.refuse_if_busy(node, Operation.INTERNAL_SNAPSHOT)
    if node.read_only:
        raise DeviceReadOnly(device)
    held = internal.keeper(node)
    if held is None:
        raise NoInternalSnapshots(node.driver.name, device)
    if not name:
        raise NameEmpty()
    if internal.find(held.driver.snapshots(), None, name) is not None:
        raise SnapshotExists(name, device)
    await actions.drain(node)
    try:
        await internal.create(engine, actions, node, name)
    except OSError as error:
        what = f"Failed to create snapshot '{name}' on device '{device}'"
        raise host_failure(what, error) from error


def _cut(name: str) -> str:
    return name.encode("utf-8", "surrogateescape")[:MAX_NAME].decode("utf-8", "ignore")


@handles(BlockdevSnapshotDeleteInternalSync)
async def delete_internal(
    engine: EmbeddedEngine, request: BlockdevSnapshotDeleteInternalSync
) -> SnapshotInfo:
    graph, device = engine.graph, request.device
    identity = None if request.id is UNSET else str(request.id)
    name = None if request.name is UNSET else str(request.name)
    async with graph.turn:
        node = internal.root_node(graph, device)
        if identity is None and name is None:
            raise NameOrIdMissing()
        graph.refuse_if_busy(node, Operation.INTERNAL_SNAPSHOT_DELETE)
        held = internal.keeper(node)
        if held is None:
            raise NoSnapshotList(device)
        async with graph.drained(node):
            number = internal.find(held.driver.snapshots(), identity, name)
            if number is None:
                raise NoSuchSnapshot(identity or "null", name or "null", device)
            if held.read_only:
                raise HostFailure("Failed to remove snapshot from snapshot list", EPERM)
            info = await internal.delete(graph, held, number)
    return msgspec.convert(info, SnapshotInfo)


# -- all disks at once ---------------------------------------------------------------------------


@handles(SaveDisks)
async def save_disks(engine: EmbeddedEngine, request: SaveDisks) -> None:
    """Snapshots of the same name that are there already go, once the new ones are made."""
    graph = engine.graph
    name = time.strftime("vm-%Y%m%d%H%M%S", time.localtime(engine.clock.wall()))
    if request.name is not UNSET:
        name = _cut(request.name)
    async with undoing(engine) as actions:
        disks = _disks(graph)
        for disk, _ in disks:
            graph.refuse_if_busy(disk, Operation.INTERNAL_SNAPSHOT)
        await actions.drain(*(disk for disk, _ in disks))
        for disk, held in disks:
            replaced = None
            if request.name is not UNSET:
                replaced = internal.find(held.driver.snapshots(), None, name)
            try:
                await internal.create(engine, actions, disk, name)
            except OSError as error:
                raise _failure("create", name, disk, error) from error
            if replaced is not None:
                actions.add(commit=functools.partial(_forget, graph, disk, held, replaced))


async def _forget(graph: Graph, disk: Node, held: Node, number: int) -> None:
    """Takes an older snapshot away, which nobody will miss if it has to stay."""
    try:
        await internal.delete(graph, held, number)
    except RequestError as error:
        graph.emit("X_BLKMON_NOTE", {"text": _failure("delete", "", disk, error).text})


@handles(LoadDisks)
async def load_disks(engine: EmbeddedEngine, request: LoadDisks) -> None:
    """What could be known to fail is found before any disk is changed."""
    graph = engine.graph
    async with graph.turn:
        disks = _disks(graph)
        found = [internal.find(held.driver.snapshots(), None, request.name) for _, held in disks]
        numbers = [number for number in found if number is not None]
        if len(numbers) < len(disks):
            raise SnapshotNotEverywhere(request.name)
        async with graph.drained(*(disk for disk, _ in disks)):
            for disk, held in disks:
                graph.refuse_if_busy(disk, Operation.INTERNAL_SNAPSHOT)
                if held.bitmaps:
                    raise _failure("load", request.name, disk, BitmapsInTheWay())
            for (disk, held), number in zip(disks, numbers, strict=True):
                try:
                    await graph.in_worker(held.driver.apply_snapshot, number)
                except (RequestError, OSError) as error:
                    raise _failure("load", request.name, disk, error) from error


@handles(DeleteDisks)
async def delete_disks(engine: EmbeddedEngine, request: DeleteDisks) -> None:
    graph = engine.graph
    async with graph.turn:
        disks = _able_disks(graph)
        async with graph.drained(*(disk for disk, _ in disks)):
            for disk, held in disks:
                graph.refuse_if_busy(disk, Operation.INTERNAL_SNAPSHOT_DELETE)
                number = internal.find(held.driver.snapshots(), None, request.name)
                if number is None:
                    continue
                try:
                    await internal.delete(graph, held, number)
                except RequestError as error:
                    raise _failure("delete", request.name, disk, error) from error


@handles(QueryDiskSnapshots)
async def query_disk_snapshots(
    engine: EmbeddedEngine, request: QueryDiskSnapshots
) -> list[DiskSnapshots]:
    answer = []
    for disk in internal.writable_disks(engine.graph):
        held = internal.keeper(disk)
        infos = held.driver.snapshots() if held is not None else []
        answer.append(
            DiskSnapshots(
                device=disk.user_name(),
                able=held is not None,
                snapshots=msgspec.convert(infos, list[SnapshotInfo]),
            )
        )
    return answer


def _disks(graph: Graph) -> list[tuple[Node, Node]]:
    """All writable disks, one at least, each with the node that keeps its snapshots."""
    disks = _able_disks(graph)
    if not disks:
        raise NobodyKeepsState()
    return disks


def _able_disks(graph: Graph) -> list[tuple[Node, Node]]:
    disks = []
    for disk in internal.writable_disks(graph):
        held = internal.keeper(disk)
        if held is None:
            raise CannotSnapshotDisk(disk.user_name())
        disks.append((disk, held))
    return disks


def _failure(verb: str, name: str, disk: Node, error: RequestError | OSError) -> RequestError:
    what = f"Could not {verb} snapshot '{name}' on '{disk.user_name()}'"
    if isinstance(error, OSError):
        return host_failure(what, error)
    return Refused(f"{what}: {error.text}")
