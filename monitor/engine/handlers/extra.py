"""Requests that QMP does not have: drives by option string, qemu-io's requests, image creation."""

from __future__ import annotations

import msgspec

from monitor.engine import images, io, permissions
from monitor.engine.drive_options import parse_drive
from monitor.engine.drive_place import Place
from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import DeviceNotFound, RequestError, host_failure
from monitor.engine.graph.blockers import Operation
from monitor.engine.graph.client import Client
from monitor.engine.graph.errors import DeviceNameIsNode, DeviceOrNodeNotFound
from monitor.engine.graph.graph import Drive, Graph
from monitor.engine.graph.opening import Opening
from monitor.engine.handlers import handles
from monitor.engine.schema.drive import INTERFACES
from monitor.engine.schema.extra import (
    CreateImage,
    DriveAdd,
    DriveDel,
    IoRequest,
    IoResult,
)


class CannotHotAdd(RequestError):
    template = "Can't hot-add drive to type {number}"
    number: int


@handles(DriveAdd)
async def drive_add(engine: EmbeddedEngine, request: DriveAdd) -> None:
    graph = engine.graph
    async with graph.turn:
        places = [drive.place for drive in graph.drives.values() if drive.place is not None]
        spec = parse_drive(request.options, graph.drives.keys(), places)
        drive = Drive(spec.id, spec.place)
        drive.media = spec.media
        drive.writeback = spec.writeback
        if spec.empty:
            _refuse_name_of_node(graph, drive.name)
            _refuse_other_bus(spec.place)
            graph.drives[drive.name] = drive
            graph.clients.add(drive)
            return
        async with Opening(graph) as opening:
            node = await opening.open_loose(spec.loose, spec.filename)
            _refuse_name_of_node(graph, drive.name)  # the image's own node may have it
            _refuse_other_bus(spec.place)
            node.detect_zeroes = spec.detect_zeroes
            node.wire()
            graph.add_client(drive, node, permissions.CONSISTENT_READ, permissions.ALL)
            graph.drives[drive.name] = drive


def _refuse_name_of_node(graph: Graph, name: str) -> None:
    if name in graph.nodes:
        raise DeviceNameIsNode(name)


def _refuse_other_bus(place: Place) -> None:
    """QEMU looks last of all whether there is a bus to plug the drive into."""
    if place.interface != "none":
        raise CannotHotAdd(INTERFACES.index(place.interface))


@handles(DriveDel)
async def drive_del(engine: EmbeddedEngine, request: DriveDel) -> None:
    graph = engine.graph
    async with graph.turn:
        drive = graph.drives.get(request.id)
        if drive is None:
            raise DeviceNotFound(request.id)
        if drive.node is not None:
            graph.refuse_if_busy(drive.node, Operation.DRIVE_DEL)
        del graph.drives[request.id]
        await engine.drop_exports_of(drive)
        await graph.remove_client(drive)


@handles(IoRequest)
async def io_request(engine: EmbeddedEngine, request: IoRequest) -> IoResult:
    """Enters the graph through a client of its own, which takes just what the request needs."""
    graph = engine.graph
    if request.device not in graph.drives and request.device not in graph.nodes:
        raise DeviceOrNodeNotFound("", request.device)  # as HMP's qemu-io has it
    node = graph.find(request.device)
    drive = graph.drives.get(request.device)
    if drive is not None and not drive.writeback and request.operation in ("write", "zero"):
        request = msgspec.structs.replace(request, fua=True)
    await graph.make_ready(node, io.permissions_for(request))
    node, drive = graph.find(request.device), graph.drives.get(request.device)
    client = Client(account=drive.account if drive is not None else None)
    root = graph.add_client(client, node, io.permissions_for(request), permissions.ALL)
    try:
        return await graph.in_lane_worker(io.carry_out, client, root, request, engine.clock)
    except OSError as error:
        raise host_failure(f"{request.operation} failed", error) from error
    finally:
        await graph.remove_client(client)


@handles(CreateImage)
async def create_image(engine: EmbeddedEngine, request: CreateImage) -> None:
    graph = engine.graph
    async with graph.turn:
        await images.create(graph, await images.requested(graph, request))
