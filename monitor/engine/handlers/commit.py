"""block-commit, and HMP's commit: names to nodes, checks in QEMU's order, and off it goes."""

from __future__ import annotations

import os
from collections.abc import Coroutine
from typing import Any

from msgspec import UNSET

from monitor.engine import permissions
from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import DeviceNotFound, RequestError, host_failure
from monitor.engine.graph.backing import NotInBackingChain, find_backing_image
from monitor.engine.graph.blockers import Operation
from monitor.engine.graph.errors import DeviceHasNoMedium, DeviceOrNodeNotFound
from monitor.engine.graph.graph import Graph
from monitor.engine.graph.node import Node, skip_filters
from monitor.engine.handlers import handles
from monitor.engine.jobs.block import JobSettings
from monitor.engine.jobs.commit import CommitJob, CommitPlan
from monitor.engine.jobs.mirror import ActiveCommitJob
from monitor.engine.jobs.mirror_plan import MirrorPlan
from monitor.engine.jobs.synchronous import CommitRefused, commit_all, commit_one
from monitor.engine.schema.base import given
from monitor.engine.schema.commit import BlockCommit, CommitDrive


class MutuallyExclusive(RequestError):
    template = "'{node}' and '{file}' are mutually exclusive"
    node: str
    file: str


class NotInThisChain(RequestError):
    template = "'{node}' is not in this backing file chain"
    node: str


class TopNotFound(RequestError):
    template = "Top image file {file} not found"
    file: str


class CommitIntoItself(RequestError):
    template = "cannot commit an image into itself"


class NoLinkToWrite(RequestError):
    template = "'backing-file' specified, but 'top' {reason}"
    reason: str


class CommitFailed(RequestError):
    """``note`` is a line that says more, or ''."""

    template = "{note}'commit' error for '{device}': {reason}"
    note: str
    device: str
    reason: str


@handles(BlockCommit)
async def block_commit(engine: EmbeddedEngine, request: BlockCommit) -> None:
    graph = engine.graph
    async with graph.turn:
        device = _device(graph, request.device)
        top, base = await _top_and_base(graph, device, request)
        is_active = skip_filters(top) is skip_filters(device)
        settings = JobSettings.of(
            request, device, on_source_error=request.on_error, on_target_error=request.on_error
        )
        name = given(request.filter_node_name)
        try:
            if is_active or top.wanted()[0] & permissions.WRITE:
                if request.backing_file is not UNSET:
                    raise NoLinkToWrite(
                        "is the active layer" if is_active else "has a writer on it"
                    )
                mirror = MirrorPlan(top, base, base, commits=True, filter_name=name)
                await ActiveCommitJob.begin(engine.job_table, settings, mirror)
            else:
                overlay = _overlay_of(device, top)
                graph.refuse_if_busy(overlay, Operation.COMMIT_TARGET)
                plan = CommitPlan(device, top, base, given(request.backing_file), name)
                await CommitJob.begin(engine.job_table, settings, plan)
        except OSError as error:
            raise host_failure("Could not reopen file", error) from error


def _device(graph: Graph, name: str) -> Node:
    """The top of the chain. Where there is none it is DeviceNotFound, which clients ask for."""
    try:
        return graph.find_root(name)
    except (DeviceOrNodeNotFound, DeviceHasNoMedium):
        raise DeviceNotFound(name) from None


async def _top_and_base(graph: Graph, device: Node, request: BlockCommit) -> tuple[Node, Node]:
    """What is committed into what, or the first mistake that QEMU would find."""
    graph.refuse_if_busy(device, Operation.COMMIT_SOURCE)
    top = await _top(graph, device, request)
    base = await _base(graph, top, request)
    for node in top.chain():
        graph.refuse_if_busy(node, Operation.COMMIT_TARGET)
        if node is base:
            break
    if top is base:
        raise CommitIntoItself()
    return top, base


async def _top(graph: Graph, device: Node, request: BlockCommit) -> Node:
    if request.top_node is not UNSET and request.top is not UNSET:
        raise MutuallyExclusive("top-node", "top")
    if request.top_node is not UNSET:
        return _in_chain(graph, device, str(request.top_node))
    if request.top is UNSET or request.top == device.filename:
        return device
    try:
        return await find_backing_image(graph, device, request.top)
    except NotInBackingChain as error:
        raise TopNotFound(request.top).with_own_hint(error.hint) from None


async def _base(graph: Graph, top: Node, request: BlockCommit) -> Node:
    if request.base_node is not UNSET and request.base is not UNSET:
        raise MutuallyExclusive("base-node", "base")
    if request.base_node is not UNSET:
        return _in_chain(graph, top, str(request.base_node))
    if request.base is not UNSET:
        return await find_backing_image(graph, top, request.base)
    *_, lowest = top.chain()
    return lowest


def _in_chain(graph: Graph, top: Node, name: str) -> Node:
    node = graph.nodes.get(name)
    if node is None:
        raise DeviceOrNodeNotFound("", name)
    if node not in top.chain():
        raise NotInThisChain(name)
    return node


def _overlay_of(device: Node, top: Node) -> Node:
    """The image above ``top`` and its filters."""
    found = device
    for node in device.chain():
        if skip_filters(node) is skip_filters(top):
            break
        if not node.is_filter:
            found = node
    return found


@handles(CommitDrive)
async def commit_drive(engine: EmbeddedEngine, request: CommitDrive) -> None:
    graph = engine.graph
    async with graph.turn:
        if request.device == "all":
            await _told(commit_all(graph), "all")
            return
        drive = graph.drives.get(request.device)
        if drive is None:
            raise DeviceNotFound(request.device)
        if drive.node is None:
            raise DeviceHasNoMedium(request.device)
        await _told(commit_one(graph, drive.node.skip_implicit()), request.device)


async def _told(work: Coroutine[Any, Any, None], device: str) -> None:
    try:
        await work
    except OSError as error:
        note = f"{error.note}\n" if isinstance(error, CommitRefused) else ""
        raise CommitFailed(note, device, os.strerror(error.errno or 0)) from error
