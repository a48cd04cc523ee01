"""Answers of an engine, with what a test does not care about filled in."""

from __future__ import annotations

from typing import Any

from monitor.engine.schema.job import BlockJobInfo
from monitor.engine.schema.query import (
    BlockDeviceInfo,
    BlockGraph,
    BlockInfo,
    CacheInfo,
    GraphEdge,
    GraphNode,
    ImageInfo,
)

MIB = 1 << 20


def image(filename: str, **more: Any) -> ImageInfo:
    return ImageInfo(filename=filename, format="qcow2", virtual_size=64 * MIB, **more)


def device(file: str = "a.qcow2", node: str = "n0", **changes: Any) -> BlockDeviceInfo:
    facts: dict[str, Any] = {
        "file": file,
        "node_name": node,
        "ro": False,
        "drv": "qcow2",
        "backing_file_depth": 0,
        "detect_zeroes": "off",
        "image": image(file),
        "cache": CacheInfo(writeback=True, direct=False, no_flush=False),
    }
    return BlockDeviceInfo(**facts | changes)


def drive(name: str, **changes: Any) -> BlockInfo:
    facts: dict[str, Any] = {"device": name, "type": "unknown", "removable": True, "locked": False}
    return BlockInfo(**facts | changes)


def block_job(**changes: Any) -> BlockJobInfo:
    facts: dict[str, Any] = {
        "type": "stream",
        "device": "d0",
        "len": 67108864,
        "offset": 524288,
        "busy": True,
        "paused": False,
        "speed": 1048576,
        "io_status": "ok",
        "ready": False,
        "status": "running",
        "auto_finalize": True,
        "auto_dismiss": True,
    }
    return BlockJobInfo(**facts | changes)


DRIVE, JOB, NODE = "block-backend", "block-job", "block-driver"
Nodes = list[tuple[str, str]]
Edges = list[tuple[int, int, str]]


def block_graph(nodes: Nodes, edges: Edges) -> BlockGraph:
    """Of (type, name) and of (parent, child, role), whose numbers count from 0."""
    return BlockGraph(
        nodes=[GraphNode(id=i + 1, type=kind, name=name) for i, (kind, name) in enumerate(nodes)],
        edges=[
            GraphEdge(parent=parent + 1, child=child + 1, name=role, perm=[], shared_perm=[])
            for parent, child, role in edges
        ],
    )
