"""block-stream: names to nodes, checks in QEMU's order, and off goes the job."""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import RequestError, host_failure
from monitor.engine.graph.backing import find_backing_image
from monitor.engine.graph.blockers import Operation
from monitor.engine.graph.graph import Graph
from monitor.engine.graph.node import Node, skip_filters
from monitor.engine.handlers import handles
from monitor.engine.jobs.block import JobSettings
from monitor.engine.jobs.stream import StreamJob, StreamPlan
from monitor.engine.schema.base import given
from monitor.engine.schema.stream import BlockStream


class BothSpecified(RequestError):
    template = "'{one}' and '{other}' cannot be specified at the same time"
    one: str
    other: str


class NotABackingImage(RequestError):
    template = "Node '{base}' is not a backing image of '{device}'"
    base: str
    device: str


class BottomIsFilter(RequestError):
    template = "Node '{bottom}' is a filter, use a non-filter node as 'bottom'"
    bottom: str


class BottomNotInChain(RequestError):
    template = "Node '{bottom}' is not in a chain starting from '{device}'"
    bottom: str
    device: str


class NoBackingFileLeft(RequestError):
    template = "backing file specified, but streaming the entire chain"


@handles(BlockStream)
async def block_stream(engine: EmbeddedEngine, request: BlockStream) -> None:
    async with engine.graph.turn:
        plan = await _plan(engine.graph, request)
        settings = JobSettings.of(
            request, plan.top, on_source_error=request.on_error, on_target_error="report"
        )
        try:
            await StreamJob.begin(engine.job_table, settings, plan)
        except OSError as error:
            raise host_failure("Could not reopen file", error) from error


async def _plan(graph: Graph, request: BlockStream) -> StreamPlan:
    """What to stream, or the first mistake that QEMU would find."""
    _exclude("base", request.base, "base-node", request.base_node)
    _exclude("base", request.base, "bottom", request.bottom)
    _exclude("bottom", request.bottom, "base-node", request.base_node)
    top = graph.find(request.device)
    base = bottom = None
    if request.base is not UNSET:
        base = await find_backing_image(graph, top, request.base)
    if request.base_node is not UNSET:
        base = graph.find_either(None, request.base_node)
        if base not in _layers_below(top):
            raise NotABackingImage(request.base_node, request.device)
    if request.bottom is not UNSET:
        bottom = graph.find_either(None, request.bottom)
        if bottom.is_filter:
            raise BottomIsFilter(request.bottom)
        if bottom not in top.chain():
            raise BottomNotInChain(request.bottom, request.device)
    for node in top.chain():
        if node is base:
            break
        graph.refuse_if_busy(node, Operation.STREAM)
        if node is bottom:
            break
    if base is None and request.backing_file is not UNSET:
        raise NoBackingFileLeft()
    target = skip_filters(top)
    assert target is not None  # a filter always shows something
    above_base = bottom or _above(target, base)
    return StreamPlan(
        top, target, above_base, given(request.backing_file), given(request.filter_node_name)
    )


def _layers_below(top: Node) -> list[Node]:
    """The chain below the image that ``top`` shows."""
    target = skip_filters(top)
    return [] if target is None else list(target.chain())[1:]


def _exclude(one: str, first: str | UnsetType, other: str, second: str | UnsetType) -> None:
    if first is not UNSET and second is not UNSET:
        raise BothSpecified(one, other)


def _above(target: Node, base: Node | None) -> Node:
    """The node of the chain whose next layer is ``base``; the last of all for None."""
    above = target
    for node in target.chain():
        if node is base:
            break
        above = node
    return above
