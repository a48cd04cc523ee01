"""Internal snapshots: of one disk, and of all that can be written."""

from __future__ import annotations

import functools
from errno import EPERM

import msgspec

from monitor.engine import disk_snapshots, node_snapshots
from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import HostFailure, RequestError, host_failure
from monitor.engine.graph.blockers import Operation
from monitor.engine.handlers import handles
from monitor.engine.jobs.snapshot import DeleteJob, LoadJob, SaveJob, SnapshotJob, Work
from monitor.engine.schema.base import given
from monitor.engine.schema.image import SnapshotInfo
from monitor.engine.schema.snapshot import (
    BlockdevSnapshotDeleteInternalSync,
    BlockdevSnapshotInternalSync,
    DeleteDisks,
    DiskSnapshots,
    LoadDisks,
    QueryDiskSnapshots,
    SaveDisks,
    SnapshotDelete,
    SnapshotLoad,
    SnapshotSave,
)
from monitor.engine.transaction import Actions, acts


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


@acts(BlockdevSnapshotInternalSync)
async def snapshot_internal(
    engine: EmbeddedEngine, request: BlockdevSnapshotInternalSync, actions: Actions
) -> None:
    device, name = request.device, node_snapshots.cut_name(request.name)
    node = engine.graph.find_root(device)
    engine.graph.refuse_if_busy(node, Operation.INTERNAL_SNAPSHOT)
    if node.read_only:
        raise DeviceReadOnly(device)
    held = node_snapshots.keeper(node)
    if held is None:
        raise NoInternalSnapshots(node.driver.name, device)
    if not name:
        raise NameEmpty()
    if node_snapshots.find(held.driver.snapshots(), None, name) is not None:
        raise SnapshotExists(name, device)
    await actions.drain(held)
    try:
        await node_snapshots.create(engine, actions, node, name)
    except OSError as error:
        what = f"Failed to create snapshot '{name}' on device '{device}'"
        raise host_failure(what, error) from error


@handles(BlockdevSnapshotDeleteInternalSync)
async def delete_internal(
    engine: EmbeddedEngine, request: BlockdevSnapshotDeleteInternalSync
) -> SnapshotInfo:
    graph, device = engine.graph, request.device
    identity = given(request.id)
    name = given(request.name)
    async with graph.turn:
        node = graph.find_root(device)
        if identity is None and name is None:
            raise NameOrIdMissing()
        graph.refuse_if_busy(node, Operation.INTERNAL_SNAPSHOT_DELETE)
        held = node_snapshots.keeper(node)
        if held is None:
            raise NoSnapshotList(device)
        async with graph.drained(held):
            number = node_snapshots.find(held.driver.snapshots(), identity, name)
            if number is None:
                raise NoSuchSnapshot(identity or "null", name or "null", device)
            if held.read_only:
                raise HostFailure("Failed to remove snapshot from snapshot list", EPERM)
            info = await node_snapshots.delete(graph, held, number)
    return msgspec.convert(info, SnapshotInfo)


# -- all disks at once ---------------------------------------------------------------------------


@handles(SaveDisks)
async def save_disks(engine: EmbeddedEngine, request: SaveDisks) -> None:
    await disk_snapshots.save(engine, given(request.name))


@handles(LoadDisks)
async def load_disks(engine: EmbeddedEngine, request: LoadDisks) -> None:
    await disk_snapshots.load(engine, request.name)


@handles(DeleteDisks)
async def delete_disks(engine: EmbeddedEngine, request: DeleteDisks) -> None:
    await disk_snapshots.delete(engine, request.name)


@handles(QueryDiskSnapshots)
async def query_disk_snapshots(
    engine: EmbeddedEngine, request: QueryDiskSnapshots
) -> list[DiskSnapshots]:
    answer = []
    for disk in node_snapshots.writable_disks(engine.graph):
        held = node_snapshots.keeper(disk)
        infos = held.driver.snapshots() if held is not None else []
        answer.append(
            DiskSnapshots(
                device=disk.user_name(),
                able=held is not None,
                snapshots=msgspec.convert(infos, list[SnapshotInfo]),
            )
        )
    return answer


# -- the same as jobs ----------------------------------------------------------------------------


@handles(SnapshotSave)
async def snapshot_save(engine: EmbeddedEngine, request: SnapshotSave) -> None:
    tag, devices, vmstate = request.tag, request.devices, request.vmstate
    work = functools.partial(disk_snapshots.save, engine, tag, devices, vmstate, replace=False)
    _begin(engine, SaveJob, request.job_id, work)


@handles(SnapshotLoad)
async def snapshot_load(engine: EmbeddedEngine, request: SnapshotLoad) -> None:
    tag, devices, vmstate = request.tag, request.devices, request.vmstate
    work = functools.partial(disk_snapshots.load, engine, tag, devices, vmstate)
    _begin(engine, LoadJob, request.job_id, work)


@handles(SnapshotDelete)
async def snapshot_delete(engine: EmbeddedEngine, request: SnapshotDelete) -> None:
    work = functools.partial(disk_snapshots.delete, engine, request.tag, request.devices)
    _begin(engine, DeleteJob, request.job_id, work)


def _begin(engine: EmbeddedEngine, kind: type[SnapshotJob], job_id: str, work: Work) -> None:
    engine.job_table.check_id(job_id)
    engine.job_table.add(kind(job_id, engine.clock, engine.graph.emit, work)).start()
