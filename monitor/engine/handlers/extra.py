"""Requests that QMP does not have: drives by option string, qemu-io's requests, image creation."""

from __future__ import annotations

from functools import partial

import msgspec
from msgspec import UNSET, UnsetType

from monitor.engine import images, io, permissions
from monitor.engine.drive_options import parse_drive, parse_node
from monitor.engine.drive_place import Place
from monitor.engine.drive_statistics import Statistics
from monitor.engine.drivers.base import CheckReport, Fix
from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import DeviceNotFound, RequestError, host_failure
from monitor.engine.graph.blockers import Operation
from monitor.engine.graph.client import Client
from monitor.engine.graph.drive import Drive
from monitor.engine.graph.edge import RootEdge
from monitor.engine.graph.errors import DeviceNameIsNode, DeviceOrNodeNotFound
from monitor.engine.graph.graph import Graph
from monitor.engine.graph.jsonnames import open_given
from monitor.engine.graph.mapping import Mapped, map_chain
from monitor.engine.graph.node import Node, skip_filters
from monitor.engine.graph.opening import Opening
from monitor.engine.handlers import handles
from monitor.engine.handlers.graph import resize
from monitor.engine.schema.base import given
from monitor.engine.schema.drive import INTERFACES
from monitor.engine.schema.extra import (
    CheckImage,
    CreateImage,
    DriveAdd,
    DriveDel,
    ImageCheck,
    IoRequest,
    IoResult,
    MapEntry,
    MapImage,
    ResizeImage,
)


class CannotHotAdd(RequestError):
    template = "Can't hot-add drive to type {number}"
    number: int


_MAP_STEP = 1 << 40
"""Bytes of a disk that are mapped in one lane."""


@handles(DriveAdd)
async def drive_add(engine: EmbeddedEngine, request: DriveAdd) -> None:
    graph = engine.graph

    def tell(text: str) -> None:
        engine.emit("X_BLKMON_NOTE", {"text": text})

    if request.node:
        tree = parse_node(request.options, tell)
        async with graph.turn, Opening(graph) as opening:
            (await opening.open_loose(tree, None)).monitor_owned = True
        return
    async with graph.turn:
        places = [drive.place for drive in graph.drives.values() if drive.place is not None]
        spec = parse_drive(request.options, graph.drives.keys(), places, tell)
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
            node = await open_given(opening, spec.loose, spec.filename)
            if spec.snapshot:
                from monitor.engine import throwaway

                node = await throwaway.on_top_of(opening, node, read_only=spec.read_only)
            _account(engine, drive, spec.statistics)
            _refuse_name_of_node(graph, drive.name)  # the image's own node may have it
            _refuse_other_bus(spec.place)
            node.detect_zeroes = spec.detect_zeroes
            node.wire()
            if spec.copy_on_read:
                from monitor.engine.graph.copy_on_read import CopyOnRead, begin

                await begin(graph, node, CopyOnRead())
            graph.add_client(drive, node, permissions.CONSISTENT_READ, permissions.ALL)
            graph.drives[drive.name] = drive
            if spec.limits is not None:
                from monitor.engine.handlers.throttle import set_limits

                set_limits(engine, drive, spec.limits, spec.group)


def _account(engine: EmbeddedEngine, drive: Drive, asked: Statistics) -> None:
    """What is asked of the statistics of a drive with an image. Raises RequestError."""
    account, lengths = drive.account, asked.intervals()
    account.account_invalid = asked.account_invalid
    account.account_failed = asked.account_failed
    if lengths:
        from monitor.engine.latency import Interval

        now = engine.clock.monotonic()
        account.intervals = tuple(Interval(seconds, now) for seconds in lengths)


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
        if drive.throttle is not None:
            from monitor.engine.handlers.throttle import leave

            leave(engine, drive)
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
    await graph.after_change(node)
    node, drive = graph.find(request.device), graph.drives.get(request.device)
    client = Client(account=drive.account if drive is not None else None)
    root = graph.add_client(client, node, io.permissions_for(request), permissions.ALL)
    began = engine.clock.monotonic()
    try:
        if drive is not None and drive.throttle is not None and request.operation in io.LIMITED:
            writes, length = io.LIMITED[request.operation], given(request.length, 0)
            await engine.throttles.admit(drive.throttle, drive, length, writes=writes)
        return await graph.in_lane_worker(io.carry_out, client, root, request, engine.clock, began)
    except OSError as error:
        raise host_failure(f"{request.operation} failed", error) from error
    finally:
        await graph.remove_client(client)


@handles(CreateImage)
async def create_image(engine: EmbeddedEngine, request: CreateImage) -> None:
    graph = engine.graph
    async with graph.turn:
        await images.create(graph, await images.requested(graph, request))


@handles(CheckImage)
async def check_image(engine: EmbeddedEngine, request: CheckImage) -> ImageCheck:
    graph = engine.graph
    fix: Fix = "none" if isinstance(request.fix, UnsetType) else request.fix
    async with graph.turn:
        found = graph.find(request.device)
        node = skip_filters(found) or found  # a job's filter may lie above the image
        taken = permissions.WRITE | permissions.RESIZE if fix != "none" else 0
        await graph.make_ready(node, taken)
        client = Client()
        graph.add_client(client, node, taken, permissions.ALL)
        try:
            async with graph.drained(node):
                report = await graph.in_worker(node.driver.check, fix)
        except OSError as error:
            raise host_failure("Check failed", error) from error
        finally:
            await graph.remove_client(client)
    return _image_check(node, report)


def _image_check(node: Node, report: CheckReport) -> ImageCheck:
    """As qemu-img has it, numbers that are zero are left out."""
    numbers = {
        name: value
        for name in report.__struct_fields__
        if name not in ("problems", "check_errors") and (value := getattr(report, name))
    }
    return ImageCheck(
        filename=node.filename,
        format=node.driver.name,
        check_errors=report.check_errors,
        problems=report.problems,
        **numbers,
    )


class ShrinkNotMeant(RequestError):
    template = "Use the --shrink option to perform a shrink operation."


class OnlyForGrowing(RequestError):
    template = "Preallocation can only be used for growing images"


@handles(ResizeImage)
async def resize_image(engine: EmbeddedEngine, request: ResizeImage) -> None:
    graph, size = engine.graph, request.size
    mode = given(request.preallocation, "off")
    async with graph.turn:
        node = graph.find(request.device)
        now = node.length()
        if size <= now and mode != "off":
            raise OnlyForGrowing
        if size < now and request.shrink is not True:
            raise ShrinkNotMeant
        change = partial(RootEdge.truncate, size=size)
        if size > now:
            change = partial(RootEdge.grow, size=size, preallocation=mode)
        await resize(graph, node, request.device, change)


@handles(MapImage)
async def map_image(engine: EmbeddedEngine, request: MapImage) -> list[MapEntry]:
    graph = engine.graph
    await graph.after_change(graph.find(request.device))
    node = graph.find(request.device)
    client = Client()
    graph.add_client(client, node, 0, permissions.ALL)
    try:
        return await graph.in_lane_worker(_map, client, node)
    except OSError as error:
        raise host_failure("Failed to read image metadata", error) from error
    finally:
        await graph.remove_client(client)


def _map(client: Client, node: Node) -> list[MapEntry]:
    """A part of the disk at a time, so that a drained section does not wait for all of it."""
    found: list[Mapped] = []
    lane = client.lane()
    try:
        start = 0
        while start < (length := node.length()):
            with lane:
                layers = [layer for layer in node.chain() if not layer.is_filter]
                end = min(length, start + _MAP_STEP)
                for run in map_chain(layers, start, end):
                    if found and run.continues(found[-1]):
                        found[-1] = found[-1]._replace(length=found[-1].length + run.length)
                    else:
                        found.append(run)
            start = end
    finally:
        client.drop_lane(lane)
    return [
        MapEntry(
            start=run.start,
            length=run.length,
            depth=run.depth,
            present=run.present,
            zero=run.zero,
            data=run.data,
            offset=run.offset if run.offset >= 0 else UNSET,
            filename=run.filename or UNSET,
        )
        for run in found
    ]
