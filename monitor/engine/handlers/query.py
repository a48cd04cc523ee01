"""Questions about the graph. They wait for nobody's turn; facts of the host come from a worker."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from monitor.engine import permissions
from monitor.engine.drivers.registry import has_protocol
from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.graph.allocation import allocated_by
from monitor.engine.graph.client import Client
from monitor.engine.graph.drive import Drive
from monitor.engine.graph.graph import Graph
from monitor.engine.graph.node import Node, own_file
from monitor.engine.handlers import handles
from monitor.engine.schema.base import optional
from monitor.engine.schema.image import BlockDirtyInfo, ImageInfoSpecificQcow2, SnapshotInfo
from monitor.engine.schema.query import (
    BlockDeviceInfo,
    BlockGraph,
    BlockInfo,
    CacheInfo,
    GraphEdge,
    GraphNode,
    ImageInfo,
    QueryBlock,
    QueryBlockGraph,
    QueryNamedBlockNodes,
)
from monitor.engine.units import whole_sectors

if TYPE_CHECKING:
    from monitor.engine.throttle import ThrottleGroup

AllocatedBytes = dict[Node, int | None]


@handles(QueryNamedBlockNodes)
async def query_named_block_nodes(
    engine: EmbeddedEngine, request: QueryNamedBlockNodes
) -> list[BlockDeviceInfo]:
    flat = request.flat is True
    graph = engine.graph
    sizes = await _allocated_bytes(graph, lambda: list(graph.nodes.values()))
    images: dict[Node, ImageInfo] = {}
    # QEMU lists the newest node first.
    return [_device_info(node, sizes, images, flat) for node in reversed(graph.nodes.values())]


@handles(QueryBlock)
async def query_block(engine: EmbeddedEngine, request: QueryBlock) -> list[BlockInfo]:
    drives = engine.graph.drives

    def shown() -> list[Node]:
        nodes = (drive.node for drive in drives.values())
        return [layer for node in nodes if node for layer in node.chain()]

    sizes = await _allocated_bytes(engine.graph, shown)
    images: dict[Node, ImageInfo] = {}
    return [_block_info(drive, sizes, images) for drive in drives.values()]


@handles(QueryBlockGraph)
async def query_block_graph(engine: EmbeddedEngine, request: QueryBlockGraph) -> BlockGraph:
    from monitor.engine.jobs.block import BlockJob  # no other question is about jobs

    graph = engine.graph
    numbers: dict[int, int] = {}

    def number(thing: object) -> int:
        return numbers.setdefault(id(thing), len(numbers) + 1)

    clients: list[Client] = [*graph.drives.values()]
    clients += [c for c in graph.clients if c not in clients]
    jobs = [job for job in engine.job_table.visible() if isinstance(job, BlockJob)]
    clients += [job for job in jobs if job not in clients]  # those whose nodes are given back
    nodes = [GraphNode(id=number(c), type=c.graph_type, name=c.name) for c in clients]
    nodes += [
        GraphNode(id=number(n), type="block-driver", name=n.name)
        for n in reversed(graph.nodes.values())
    ]
    edges = [
        GraphEdge(
            parent=number(edge.parent),
            child=number(node),
            name=edge.role,
            perm=permissions.qmp_list(edge.taken),
            shared_perm=permissions.qmp_list(edge.shared),
        )
        for node in graph.nodes.values()
        for edge in node.parents
        if id(edge.parent) in numbers  # and not a node that is being opened or closed
    ]
    return BlockGraph(nodes=nodes, edges=edges)


async def _allocated_bytes(graph: Graph, shown: Callable[[], list[Node]]) -> AllocatedBytes:
    """The sizes of all that ``shown`` gives in the end: while a worker looks at the host, nodes
    come and go, and only those that are there afterwards can be asked for more."""
    sizes: AllocatedBytes = {}
    while missing := [node for node in shown() if node not in sizes]:
        sizes |= await graph.in_worker(_allocated, missing)
    return sizes


def _allocated(nodes: list[Node]) -> AllocatedBytes:
    """Host bytes in use by each node; None for one that cannot say. A file is asked once, whatever
    stands on it."""
    sizes: AllocatedBytes = {}
    for node in nodes:
        try:
            sizes[node] = allocated_by(node, sizes)
        except OSError:
            sizes[node] = None
    return sizes


def _device_info(
    node: Node, sizes: AllocatedBytes, images: dict[Node, ImageInfo], flat: bool
) -> BlockDeviceInfo:
    backing = node.below()
    return BlockDeviceInfo(
        file=node.filename,
        node_name=node.name,
        ro=node.read_only,
        drv=node.driver.name,
        backing_file=backing.filename if backing and not node.is_filter else UNSET,
        backing_file_depth=0 if flat else sum(1 for _ in node.chain()) - 1,
        encrypted=False,
        detect_zeroes=node.detect_zeroes,
        image=_image_info(node, sizes, images, flat),
        cache=CacheInfo(writeback=True, direct=node.flags.direct, no_flush=node.flags.no_flush),
        write_threshold=_signed(node.threshold.offset) if node.threshold else 0,
        dirty_bitmaps=_dirty_bitmaps(node) if node.bitmaps else UNSET,
    )


def _dirty_bitmaps(node: Node) -> list[BlockDirtyInfo]:
    """QEMU lists the newest first, and those without a name too: a job's, and successors."""
    newest_first = reversed([*node.bitmaps])
    return [
        BlockDirtyInfo(
            name=optional(bitmap.name),
            count=bitmap.count,
            granularity=bitmap.granularity,
            recording=bitmap.recording,
            busy=bitmap.busy,
            persistent=bitmap.persistent,
            inconsistent=True if bitmap.inconsistent else UNSET,
        )
        for one in newest_first
        for bitmap in (one.successor, one)
        if bitmap is not None
    ]


def _signed(offset: int) -> int:
    """QEMU takes any unsigned number for a threshold and shows it as a signed one."""
    return offset - (1 << 64) if offset >> 63 else offset


def _image_info(
    node: Node, sizes: AllocatedBytes, images: dict[Node, ImageInfo], flat: bool
) -> ImageInfo:
    """The image, and unless ``flat`` those below it. Each layer is made once, bottom up: chains
    share their lower layers, and a recursion would be as deep as the chain."""
    if flat:
        return _one_image(node, sizes)
    for layer in reversed(list(node.chain())):
        if layer not in images:
            images[layer] = info = _one_image(layer, sizes)
            below = layer.below()
            if below is not None:
                info.backing_image = images[below]
    return images[node]


def _one_image(node: Node, sizes: AllocatedBytes) -> ImageInfo:
    driver = node.driver
    size = sizes.get(node)
    facts: dict[str, Any] = {_attribute(name): value for name, value in node.image_facts().items()}
    if "snapshots" in facts:
        facts["snapshots"] = msgspec.convert(facts["snapshots"], list[SnapshotInfo])
    info = ImageInfo(
        filename=node.filename,
        format=driver.name,
        virtual_size=whole_sectors(node.length()),
        actual_size=optional(size),
        **facts,
    )
    cluster_size = node.cluster_size()
    if cluster_size:
        info.cluster_size = cluster_size
    name = driver.backing_filename
    if name:
        info.backing_filename = name
        info.full_backing_filename = _full_backing_name(node, name)
        if fmt := driver.backing_format:
            info.backing_filename_format = fmt
    specific = driver.specific_info()
    if specific is not None:
        info.format_specific = msgspec.convert(specific, ImageInfoSpecificQcow2)
    return info


@functools.cache
def _attribute(member: str) -> str:
    return member.replace("-", "_")


def _full_backing_name(node: Node, name: str) -> str:
    if os.path.isabs(name) or has_protocol(name):
        return name
    return os.path.join(os.path.dirname(own_file(node)), name)


def _block_info(drive: Drive, sizes: AllocatedBytes, images: dict[Node, ImageInfo]) -> BlockInfo:
    info = BlockInfo(device=drive.name, type="unknown", removable=True, locked=False)
    if drive.shown is not None:
        info.inserted = _device_info(drive.shown, sizes, images, flat=False)
        info.inserted.cache.writeback = drive.writeback
        if drive.throttle is not None:
            _tell_limits(info.inserted, drive.throttle)
    return info


def _tell_limits(info: BlockDeviceInfo, group: ThrottleGroup) -> None:
    """A burst and its length are told where there is one."""
    info.group = group.name
    for name, limit in group.limits.by_name.items():
        setattr(info, name, limit.rate)
        if limit.burst:
            setattr(info, f"{name}_max", limit.burst)
            setattr(info, f"{name}_max_length", limit.length)
    if group.limits.op_size:
        info.iops_size = group.limits.op_size
