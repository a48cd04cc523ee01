"""query-blockstats: what has been read and written, how often, and how long it took."""

from __future__ import annotations

from typing import Annotated, ClassVar, get_args

import msgspec
from msgspec import UNSET, UnsetType

from monitor.engine.schema.base import Request, Result
from monitor.engine.schema.blockdev import BlockdevDriver


class LatencyHistogram(Result, kw_only=True):
    boundaries: list[int]
    bins: list[int]


class TimedStats(msgspec.Struct, kw_only=True):
    """Figures of one interval (``interval_length`` in seconds, latencies in nanoseconds)."""

    interval_length: int
    min_rd_latency_ns: int
    max_rd_latency_ns: int
    avg_rd_latency_ns: int
    min_wr_latency_ns: int
    max_wr_latency_ns: int
    avg_wr_latency_ns: int
    min_flush_latency_ns: int
    max_flush_latency_ns: int
    avg_flush_latency_ns: int
    avg_rd_queue_depth: float
    avg_wr_queue_depth: float


class BlockDeviceStats(msgspec.Struct, kw_only=True):
    """Sums since the drive is there. ``wr_highest_offset`` is the node's, from its opening on;
    a request counts in bytes, operations and time when it succeeded."""

    rd_bytes: int = 0
    wr_bytes: int = 0
    unmap_bytes: int = 0
    rd_operations: int = 0
    wr_operations: int = 0
    flush_operations: int = 0
    unmap_operations: int = 0
    rd_total_time_ns: int = 0
    wr_total_time_ns: int = 0
    flush_total_time_ns: int = 0
    unmap_total_time_ns: int = 0
    wr_highest_offset: int = 0
    rd_merged: int = 0
    wr_merged: int = 0
    unmap_merged: int = 0
    idle_time_ns: int | UnsetType = UNSET
    failed_rd_operations: int = 0
    failed_wr_operations: int = 0
    failed_flush_operations: int = 0
    failed_unmap_operations: int = 0
    invalid_rd_operations: int = 0
    invalid_wr_operations: int = 0
    invalid_flush_operations: int = 0
    invalid_unmap_operations: int = 0
    account_invalid: bool = False
    account_failed: bool = False
    timed_stats: list[TimedStats] = msgspec.field(default_factory=list)
    rd_latency_histogram: LatencyHistogram | UnsetType = UNSET
    wr_latency_histogram: LatencyHistogram | UnsetType = UNSET
    flush_latency_histogram: LatencyHistogram | UnsetType = UNSET


class BlockStatsSpecific(Result, kw_only=True, tag_field="driver"):
    """What only some drivers count."""

    bare_cases: ClassVar[tuple[str, ...]] = tuple(
        d for d in get_args(BlockdevDriver) if d != "nvme"
    )
    """Drivers that QMP has here with nothing that they alone count."""


class BlockStatsSpecificFile(BlockStatsSpecific, kw_only=True, tag="file"):
    discard_nb_ok: int
    discard_nb_failed: int
    discard_bytes_ok: int


class BlockStatsSpecificHostDevice(BlockStatsSpecific, kw_only=True, tag="host_device"):
    discard_nb_ok: int
    discard_nb_failed: int
    discard_bytes_ok: int


AnyBlockStatsSpecific = BlockStatsSpecificFile | BlockStatsSpecificHostDevice


class BlockStats(Result, kw_only=True):
    """A drive or a node; ``parent`` is, of all names, the node that holds its bytes."""

    device: str | UnsetType = UNSET
    qdev: str | UnsetType = UNSET
    node_name: str | UnsetType = UNSET
    stats: BlockDeviceStats
    driver_specific: AnyBlockStatsSpecific | UnsetType = UNSET
    parent: BlockStats | UnsetType = UNSET
    backing: BlockStats | UnsetType = UNSET


class QueryBlockstats(Request, kw_only=True, tag="query-blockstats"):
    """What has gone through the drives, or as far as nodes count it through each node."""

    query_nodes: Annotated[bool, "all nodes instead of the drives"] | UnsetType = UNSET

    returns = list[BlockStats]

    example = "query-blockstats query-nodes=true"
