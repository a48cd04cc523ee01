"""Dirty bitmaps: what their requests do, alone and in a transaction."""

from __future__ import annotations

from msgspec import UNSET

from monitor.engine import bitmapwords
from monitor.engine.bitmap import (
    MAX_NAME,
    MIN_GRANULARITY,
    BitmapsDiffer,
    DirtyBitmap,
    default_granularity,
)
from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import RequestError, host_failure
from monitor.engine.graph import edit
from monitor.engine.graph.bitmaps import bitmap_of, check, find_bitmap
from monitor.engine.graph.graph import Graph
from monitor.engine.graph.node import Node
from monitor.engine.graph.transaction import Transaction as Edits
from monitor.engine.handlers import handles
from monitor.engine.schema.bitmap import (
    BlockDirtyBitmapAdd,
    BlockDirtyBitmapClear,
    BlockDirtyBitmapDisable,
    BlockDirtyBitmapEnable,
    BlockDirtyBitmapMerge,
    BlockDirtyBitmapRemove,
    BlockDirtyBitmapSha256,
    XDebugBlockDirtyBitmapSha256,
)
from monitor.engine.transaction import Actions, acts


class BitmapNameEmpty(RequestError):
    template = "Bitmap name cannot be empty"


class BitmapNameTooLong(RequestError):
    template = "Bitmap name too long: {name}"
    name: str


class BitmapExists(RequestError):
    template = "Bitmap already exists: {name}"
    name: str


class WrongGranularity(RequestError):
    template = "Granularity must be power of 2 and at least 512"
    granularity: int


class CannotStoreBitmaps(RequestError):
    template = "Can't store persistent bitmaps to {node}: Operation not supported"
    node: str


class CannotStoreBitmap(RequestError):
    template = "Can't make bitmap '{name}' persistent in '{node}': {reason}"
    name: str
    node: str
    reason: str


@acts(BlockDirtyBitmapAdd)
async def add(engine: EmbeddedEngine, request: BlockDirtyBitmapAdd, actions: Actions) -> None:
    name = request.name
    if not name:
        raise BitmapNameEmpty()
    node = engine.graph.find(request.node)
    granularity = request.granularity
    if granularity is UNSET:
        granularity = default_granularity(node.cluster_size())
    elif granularity < MIN_GRANULARITY or granularity & (granularity - 1):
        raise WrongGranularity(granularity)
    if name in node.bitmaps:
        raise BitmapExists(name)
    persistent = request.persistent is True
    if persistent:
        _check_storable(node, name, granularity)
    if len(name.encode()) > MAX_NAME:
        raise BitmapNameTooLong(name)
    bitmap = DirtyBitmap(node.length(), granularity, name)
    bitmap.persistent = persistent
    bitmap.enabled = request.disabled is not True
    edits = actions.edits()
    edit.attach_bitmap(edits, node, bitmap)
    engine.graph.rewire(edits)
    actions.says(f"node '{node.name}' gets the bitmap '{name}'")


def _check_storable(node: Node, name: str, granularity: int) -> None:
    if not node.driver.stores_bitmaps:
        raise CannotStoreBitmaps(node.user_name())
    others = [bitmap.name for bitmap in node.bitmaps if bitmap.persistent and bitmap.name]
    try:
        node.driver.check_new_bitmap(name, granularity, others)
    except RequestError as error:
        raise CannotStoreBitmap(name, node.user_name(), error.text) from error


@acts(BlockDirtyBitmapRemove)
async def remove(engine: EmbeddedEngine, request: BlockDirtyBitmapRemove, actions: Actions) -> None:
    """Until the transaction ends the bitmap is there, but busy. Its image forgets it at once, as in
    QEMU; where the transaction fails, the image gets it again when it is closed."""
    graph = engine.graph
    node, bitmap = find_bitmap(graph, request.node, request.name)
    check(node, bitmap, broken=True)
    if bitmap.persistent and not actions.dry_run:
        await _forget(engine.graph, node, request.name)
    bitmap.busy = True

    def spare() -> None:
        bitmap.busy = False

    actions.add(abort=spare)

    def release() -> None:
        with Edits() as edits:
            edit.detach_bitmap(edits, node, bitmap)
            graph.commit(edits)

    actions.add(commit=release)
    actions.says(f"the bitmap '{bitmap.name}' of node '{node.name}' goes")


async def _forget(graph: Graph, node: Node, name: str) -> None:
    try:
        await graph.in_worker(node.driver.remove_bitmap, name)
    except OSError as error:
        raise host_failure("Failed to update bitmap extension", error) from error


async def _begin_change(graph: Graph, node: Node, bitmap: DirtyBitmap) -> None:
    """The bitmap that the image keeps is about to be out of date."""
    if bitmap.persistent and not bitmap.readonly and node.driver.bitmaps_unmarked:
        try:
            await graph.in_worker(node.driver.mark_bitmaps)
        except OSError as error:
            raise host_failure("Cannot update bitmap directory", error) from error


@acts(BlockDirtyBitmapClear)
async def clear(engine: EmbeddedEngine, request: BlockDirtyBitmapClear, actions: Actions) -> None:
    node, bitmap = find_bitmap(engine.graph, request.node, request.name)
    check(node, bitmap)
    await _begin_change(engine.graph, node, bitmap)
    saved = bitmap.save()
    bitmap.clear()
    actions.add(abort=lambda: bitmap.restore(saved))
    actions.says(f"the bitmap '{bitmap.name}' is cleared")


@acts(BlockDirtyBitmapEnable)
async def enable(engine: EmbeddedEngine, request: BlockDirtyBitmapEnable, actions: Actions) -> None:
    node, bitmap = find_bitmap(engine.graph, request.node, request.name)
    check(node, bitmap, readonly=True)
    await _begin_change(engine.graph, node, bitmap)
    _switch(bitmap, True, actions)


@acts(BlockDirtyBitmapDisable)
async def disable(
    engine: EmbeddedEngine, request: BlockDirtyBitmapDisable, actions: Actions
) -> None:
    node, bitmap = find_bitmap(engine.graph, request.node, request.name)
    check(node, bitmap, readonly=True)
    await _begin_change(engine.graph, node, bitmap)
    _switch(bitmap, False, actions)


def _switch(bitmap: DirtyBitmap, enabled: bool, actions: Actions) -> None:
    before = bitmap.enabled
    bitmap.enabled = enabled

    def switch_back() -> None:
        bitmap.enabled = before

    actions.add(abort=switch_back)
    actions.says(f"the bitmap '{bitmap.name}' {'records' if enabled else 'records no'} writes")


@acts(BlockDirtyBitmapMerge)
async def merge(engine: EmbeddedEngine, request: BlockDirtyBitmapMerge, actions: Actions) -> None:
    """Everything is checked first, in QEMU's order, so that merging then cannot fail."""
    graph = engine.graph
    node, target = find_bitmap(graph, request.node, request.target)
    sources = []
    for named in request.bitmaps:
        if isinstance(named, str):
            where, source = node, bitmap_of(node, named)
        else:
            where, source = find_bitmap(graph, named.node, named.name)
        check(node, target)
        check(where, source, readonly=True)
        if source.size != target.size:
            raise BitmapsDiffer(target.size, source.size)
        sources.append(source)
    check(node, target)
    await _begin_change(graph, node, target)
    saved = target.save()
    actions.add(abort=lambda: target.restore(saved))
    for source in sources:
        if source.granularity == target.granularity:
            target.merge(source)
        else:  # may take long
            await graph.in_worker(target.merge, source)
    actions.says(f"{len(sources)} bitmaps are merged into '{target.name}'")


@handles(XDebugBlockDirtyBitmapSha256)
async def sha256(
    engine: EmbeddedEngine, request: XDebugBlockDirtyBitmapSha256
) -> BlockDirtyBitmapSha256:
    _, bitmap = find_bitmap(engine.graph, request.node, request.name)
    return BlockDirtyBitmapSha256(sha256=await engine.graph.in_worker(bitmapwords.sha256, bitmap))
