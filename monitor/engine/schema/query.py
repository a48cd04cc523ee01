"""Questions about the graph, and their answers in QMP's shape (some members have underscores)."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, UnsetType

from monitor.engine.schema.base import Request, Result
from monitor.engine.schema.blockdev import DetectZeroes
from monitor.engine.schema.image import BlockDirtyInfo, ImageInfoSpecificQcow2, SnapshotInfo
from monitor.engine.schema.job import IoStatus


class ImageInfo(Result, kw_only=True):
    """What ``qemu-img info`` prints; sizes in bytes."""

    filename: str
    format: str
    dirty_flag: bool | UnsetType = UNSET
    actual_size: int | UnsetType = UNSET
    virtual_size: int
    cluster_size: int | UnsetType = UNSET
    encrypted: bool | UnsetType = UNSET
    compressed: bool | UnsetType = UNSET
    backing_filename: str | UnsetType = UNSET
    full_backing_filename: str | UnsetType = UNSET
    backing_filename_format: str | UnsetType = UNSET
    snapshots: list[SnapshotInfo] | UnsetType = UNSET
    backing_image: ImageInfo | UnsetType = UNSET
    format_specific: ImageInfoSpecificQcow2 | UnsetType = UNSET


class CacheInfo(Result, kw_only=True):
    writeback: bool
    direct: bool
    no_flush: bool


class BlockDeviceInfo(msgspec.Struct, kw_only=True, gc=False):
    """One node. ``backing_file_depth`` counts the layers below, and is 0 in a flat answer."""

    file: str
    node_name: str | UnsetType = msgspec.field(default=UNSET, name="node-name")
    ro: bool
    drv: str
    backing_file: str | UnsetType = UNSET
    backing_file_depth: int
    encrypted: bool = False
    detect_zeroes: DetectZeroes
    bps: int = 0
    bps_rd: int = 0
    bps_wr: int = 0
    iops: int = 0
    iops_rd: int = 0
    iops_wr: int = 0
    image: ImageInfo
    bps_max: int | UnsetType = UNSET
    bps_rd_max: int | UnsetType = UNSET
    bps_wr_max: int | UnsetType = UNSET
    iops_max: int | UnsetType = UNSET
    iops_rd_max: int | UnsetType = UNSET
    iops_wr_max: int | UnsetType = UNSET
    bps_max_length: int | UnsetType = UNSET
    bps_rd_max_length: int | UnsetType = UNSET
    bps_wr_max_length: int | UnsetType = UNSET
    iops_max_length: int | UnsetType = UNSET
    iops_rd_max_length: int | UnsetType = UNSET
    iops_wr_max_length: int | UnsetType = UNSET
    iops_size: int | UnsetType = UNSET
    group: str | UnsetType = UNSET
    cache: CacheInfo
    write_threshold: int = 0
    dirty_bitmaps: list[BlockDirtyInfo] | UnsetType = msgspec.field(
        default=UNSET, name="dirty-bitmaps"
    )


class BlockInfo(msgspec.Struct, kw_only=True):
    """One drive; ``inserted`` is absent for an empty one."""

    device: str
    qdev: str | UnsetType = UNSET
    type: str
    removable: bool
    locked: bool
    inserted: BlockDeviceInfo | UnsetType = UNSET
    tray_open: bool | UnsetType = UNSET
    io_status: IoStatus | UnsetType = msgspec.field(default=UNSET, name="io-status")


GraphNodeType = Literal["block-backend", "block-job", "block-driver"]
Permission = Literal["consistent-read", "write", "write-unchanged", "resize"]


class GraphNode(Result, kw_only=True):
    id: int
    type: GraphNodeType
    name: str


class GraphEdge(Result, kw_only=True):
    parent: int
    child: int
    name: str
    perm: list[Permission]
    shared_perm: list[Permission]


class BlockGraph(Result, kw_only=True):
    nodes: list[GraphNode]
    edges: list[GraphEdge]


class QueryBlock(Request, kw_only=True, tag="query-block"):
    """Every drive, with the node it shows."""

    returns = list[BlockInfo]


class QueryNamedBlockNodes(Request, kw_only=True, tag="query-named-block-nodes"):
    """Every node."""

    flat: Annotated[bool, "leave out the images below"] | UnsetType = UNSET

    returns = list[BlockDeviceInfo]


class QueryBlockGraph(Request, kw_only=True, tag="x-debug-query-block-graph"):
    """Nodes, drives, jobs and the edges between them, with permissions."""

    features = ("unstable",)
    returns = BlockGraph
