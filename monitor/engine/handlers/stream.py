"""block-stream: names to nodes, checks in QEMU's order, and off goes the job."""

from __future__ import annotations

import os

from msgspec import UNSET, UnsetType

from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import RequestError, host_failure
from monitor.engine.graph.blockers import Operation
from monitor.engine.graph.graph import Graph
from monitor.engine.graph.node import Node
from monitor.engine.handlers import handles
from monitor.engine.jobs.filters import skip_filters
from monitor.engine.jobs.stream import StreamJob, StreamPlan
from monitor.engine.schema.stream import BlockStream


class BothSpecified(RequestError):
    template = "'{one}' and '{other}' cannot be specified at the same time"
    one: str
    other: str


class NotInBackingChain(RequestError):
    template = "Can't find '{file}' in the backing chain"
    file: str


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


class FilterNotCreated(RequestError):
    template = "Could not create node: {reason}"
    reason: str


@handles(BlockStream)
async def block_stream(engine: EmbeddedEngine, request: BlockStream) -> None:
    async with engine.graph.turn:
        plan = _plan(engine.graph, request)
        if request.filter_node_name is not UNSET:
            # The job needs no filter node: a name for one is checked, and nothing gets it.
            try:
                engine.graph.name_for(request.filter_node_name)
            except RequestError as error:
                raise FilterNotCreated(error.text) from error
        job_id = plan.top.device_name() if request.job_id is UNSET else str(request.job_id)
        try:
            await StreamJob.begin(
                engine.job_table,
                job_id,
                plan,
                speed=0 if request.speed is UNSET else int(request.speed),
                on_source_error="report" if request.on_error is UNSET else str(request.on_error),
                auto_finalize=request.auto_finalize is not False,
                auto_dismiss=request.auto_dismiss is not False,
            )
        except OSError as error:
            raise host_failure("Could not reopen file", error) from error


def _plan(graph: Graph, request: BlockStream) -> StreamPlan:
    """What to stream, or the first mistake that QEMU would find."""
    _exclude("base", request.base, "base-node", request.base_node)
    _exclude("base", request.base, "bottom", request.bottom)
    _exclude("bottom", request.bottom, "base-node", request.base_node)
    top = graph.find(request.device)
    base = bottom = None
    if request.base is not UNSET:
        base = find_backing_image(top, request.base)
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
    backing_file = None if request.backing_file is UNSET else str(request.backing_file)
    return StreamPlan(top, target, bottom or _above(target, base), backing_file)


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


def find_backing_image(top: Node, name: str) -> Node:
    """The layer below ``top`` that an image file calls ``name``: by the name in the overlay's
    header, or by the same path on the host (relative to the overlay)."""
    overlay = skip_filters(top)
    while overlay is not None:
        layer = skip_filters(overlay.backing)
        if layer is not None and _is_called(layer, name, overlay):
            return layer
        overlay = layer
    raise NotInBackingChain(name)


def _is_called(layer: Node, name: str, overlay: Node) -> bool:
    if name in (layer.filename, overlay.driver.backing_filename):
        return True
    folder = os.path.dirname(overlay.filename)
    if not layer.filename:
        return False
    wanted = os.path.realpath(os.path.join(folder, name))
    return wanted == os.path.realpath(layer.filename)
