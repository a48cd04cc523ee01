"""query-blockstats: the drives' accounts, and what nodes know of themselves."""

from __future__ import annotations

import msgspec
from msgspec import UNSET

from monitor.engine.accounting import FLUSH, READ, UNMAP, WRITE
from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.graph.drive import Drive
from monitor.engine.graph.node import Node
from monitor.engine.handlers import handles
from monitor.engine.schema.stats import (
    AnyBlockStatsSpecific,
    BlockDeviceStats,
    BlockStats,
    QueryBlockstats,
    TimedStats,
)


@handles(QueryBlockstats)
async def query_blockstats(engine: EmbeddedEngine, request: QueryBlockstats) -> list[BlockStats]:
    if request.query_nodes is True:
        return [_with_file(node) for node in engine.graph.nodes.values()]
    now = engine.clock.monotonic()
    return [_drive(drive, now) for drive in engine.graph.drives.values()]


def _drive(drive: Drive, now: float) -> BlockStats:
    answer = BlockStats(stats=BlockDeviceStats()) if drive.shown is None else _chain(drive.shown)
    answer.device = drive.name
    answer.stats = _accounted(drive, answer.stats.wr_highest_offset, now)
    return answer


def _accounted(drive: Drive, highest: int, now: float) -> BlockDeviceStats:
    total = drive.account.total()
    stats = BlockDeviceStats(
        wr_highest_offset=highest,
        account_invalid=drive.account.account_invalid,
        account_failed=drive.account.account_failed,
        timed_stats=[
            msgspec.convert(interval.figures(now), TimedStats)
            for interval in drive.account.intervals
        ],
    )
    for kind, name in _NAMES.items():
        setattr(stats, f"{name}_operations", total.operations[kind])
        setattr(stats, f"{name}_total_time_ns", total.nanoseconds[kind])
        setattr(stats, f"failed_{name}_operations", total.failed[kind])
        if kind is not FLUSH:
            setattr(stats, f"{name}_bytes", total.bytes[kind])
    if total.last:
        stats.idle_time_ns = round((now - total.last) * 1e9)
    return stats


_NAMES = {READ: "rd", WRITE: "wr", FLUSH: "flush", UNMAP: "unmap"}


def _chain(top: Node) -> BlockStats:
    """A node and all the images below it. From the bottom up: chains are long."""
    answer: BlockStats | None = None
    for node in reversed([node for node in top.chain() if not node.implicit]):
        below, answer = answer, _with_file(node)
        if below is not None:
            answer.backing = below
    assert answer is not None
    return answer


def _with_file(node: Node) -> BlockStats:
    """A node and the nodes that hold its bytes, one in the other."""
    answer = _node(node)
    inner, child = answer, node.data_child
    while child is not None:
        inner.parent = _node(child)
        inner, child = inner.parent, child.data_child
    return answer


def _node(node: Node) -> BlockStats:
    """Requests are counted where they enter, so a node knows how far writes have come, and what
    its driver counts."""
    answer = BlockStats(
        node_name=node.name,
        stats=BlockDeviceStats(wr_highest_offset=node.highest_write.offset),
    )
    figures = node.driver.specific_stats()
    answer.driver_specific = (
        UNSET
        if figures is None
        else msgspec.convert({**figures, "driver": node.driver.name}, AnyBlockStatsSpecific)
    )
    return answer
