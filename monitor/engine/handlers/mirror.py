"""drive-mirror and blockdev-mirror: targets, checks in QEMU's order, and off goes the job."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from monitor.engine import images
from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import RequestError, host_failure
from monitor.engine.graph.blockers import Operation
from monitor.engine.graph.errors import NodeNotFound
from monitor.engine.graph.graph import Graph
from monitor.engine.graph.jsonnames import open_given
from monitor.engine.graph.node import Node, skip_filters
from monitor.engine.graph.opening import Opening
from monitor.engine.handlers import handles
from monitor.engine.jobs.block import JobSettings, unfinished
from monitor.engine.jobs.mirror import MirrorJob
from monitor.engine.jobs.mirror_plan import MirrorPlan, shows_the_same
from monitor.engine.schema.base import given
from monitor.engine.schema.decode import WrongParameterValue
from monitor.engine.schema.mirror import BlockdevMirror, DriveMirror
from monitor.engine.units import whole_sectors

_MOST: int = 64 << 20


class NodeNameNeeded(RequestError):
    template = "a node-name must be provided when replacing a named node of the graph"


class SizeOfReplacedDiffers(RequestError):
    template = "cannot replace image with a mirror image of different size"


class CannotReplace(RequestError):
    template = (
        "Cannot replace '{node}' by a node mirrored from '{source}', because it cannot be "
        "guaranteed that doing so would not lead to an abrupt change of visible data"
    )
    node: str
    source: str


class SyncNotSupported(RequestError):
    template = "Sync mode '{sync}' not supported"
    sync: str


@handles(BlockdevMirror)
async def blockdev_mirror(engine: EmbeddedEngine, request: BlockdevMirror) -> None:
    graph = engine.graph
    async with graph.turn:
        source = graph.find_root(request.device)
        target = graph.find(request.target)
        filter_name = given(request.filter_node_name)
        # A disk without a backing image is copied whole, also by the sync mode "top".
        zero_target = request.sync == "full" or (
            request.sync == "top" and _backing_of(source) is None
        )
        plan = MirrorPlan(source, target, filter_name=filter_name, zero_target=zero_target)
        await _begin(engine, request, plan, request.sync)


@handles(DriveMirror)
async def drive_mirror(engine: EmbeddedEngine, request: DriveMirror) -> None:
    graph = engine.graph
    async with graph.turn:
        source = graph.find_root(request.device)
        graph.refuse_if_busy(source, Operation.MIRROR_SOURCE)
        below = _backing_of(source)
        sync = "full" if below is None and request.sync == "top" else str(request.sync)
        if sync == "none":
            below = source
        if request.replaces is not UNSET and request.node_name is UNSET:
            raise NodeNameNeeded()
        existing = request.mode == "existing"
        fmt, mark = given(request.format), None
        if not existing:
            if fmt is None:
                image = skip_filters(source)
                assert image is not None
                fmt = image.driver.name
            mark = unfinished("mirror", given(request.job_id, source.device_name()), source)
            await _create(graph, request, source, fmt, below if sync != "full" else None, mark)
        async with Opening(graph, own_mark=mark) as opening:
            loose: dict[str, Any] = {} if fmt is None else {"driver": fmt}
            if request.node_name is not UNSET:
                loose["node-name"] = request.node_name
            flags = msgspec.structs.replace(source.flags, read_only=False)
            target = await open_given(
                opening, loose, request.target, inherit=flags, follow_backing=False
            )
            plan = MirrorPlan(
                source,
                target,
                zero_target=sync == "full" and existing,
                backing="open" if existing else "source",
                unmap=request.unmap is not False,
            )
            await _begin(engine, request, plan, sync)


async def _create(
    graph: Graph, request: DriveMirror, source: Node, fmt: str, below: Node | None, mark: str
) -> None:
    name = driver = None
    if below is not None:
        image = skip_filters(below)
        assert image is not None
        name, driver = image.filename, image.driver.name
    size = whole_sectors(source.length())
    made = images.NewImage(request.target, fmt, size, name, driver, unfinished=mark)
    await images.create(graph, made)


async def _begin(
    engine: EmbeddedEngine, request: DriveMirror | BlockdevMirror, plan: MirrorPlan, sync: str
) -> None:
    """What both have in common: checks, then the job. The caller has the turn."""
    graph, source = engine.graph, plan.source
    granularity = _granularity(request.granularity)
    graph.refuse_if_busy(source, Operation.MIRROR_SOURCE)
    graph.refuse_if_busy(plan.target, Operation.MIRROR_TARGET)
    if _backing_of(source) is None and sync == "top":
        sync = "full"
    plan = replace(
        plan,
        replaces=_replaces(graph, source, given(request.replaces)),
        granularity=granularity,
        buffer=given(request.buf_size, 0),
        base=_backing_of(source) if sync == "top" else None,
        only_new_writes=sync == "none",
        write_blocking=request.copy_mode == "write-blocking",
    )
    if sync in ("incremental", "bitmap"):
        raise SyncNotSupported(sync)
    settings = JobSettings.of(
        request,
        source,
        on_source_error=request.on_source_error,
        on_target_error=request.on_target_error,
    )
    try:
        await MirrorJob.begin(engine.job_table, settings, plan)
    except OSError as error:
        raise host_failure("Could not start mirroring", error) from error


def _granularity(value: int | UnsetType) -> int:
    granularity = given(value, 0)
    if granularity and not 512 <= granularity <= _MOST:
        raise WrongParameterValue("granularity", expected="a value in range [512B, 64MB]")
    if granularity & (granularity - 1):
        raise WrongParameterValue("granularity", expected="a power of 2")
    return granularity


def _replaces(graph: Graph, source: Node, name: str | None) -> str | None:
    """The node that the target is to replace; None for the source itself. Filters that jobs have
    put on it unasked stay where they are."""
    if name is None:
        below = source.skip_implicit()
        name = below.name if below is not source else None
    if name is None:
        return None
    node = graph.nodes.get(name)
    if node is None:
        raise NodeNotFound(name)
    graph.refuse_if_busy(node, Operation.REPLACE)
    if not shows_the_same(source, node):
        raise CannotReplace(name, source.name)
    if node.length() != source.length():
        raise SizeOfReplacedDiffers()
    return name


def _backing_of(node: Node) -> Node | None:
    image = skip_filters(node)
    return skip_filters(image.backing) if image is not None else None
