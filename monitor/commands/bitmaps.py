"""Dirty bitmaps for people: how full they are, and what is wrong with one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from monitor.commands.registry import Answer, Session, command
from monitor.commands.render import size_text
from monitor.engine.errors import Refused, as_word
from monitor.engine.schema.image import BlockDirtyInfo, ImageInfoSpecificQcow2
from monitor.engine.schema.query import (
    BlockDeviceInfo,
    BlockGraph,
    QueryBlock,
    QueryBlockGraph,
    QueryNamedBlockNodes,
)

BAR = 20
"""Columns of a bar."""


async def _nodes(session: Session, device: str | None) -> list[BlockDeviceInfo]:
    """The node that ``device`` names, or all. Raises Refused."""
    nodes: list[BlockDeviceInfo] = await session.engine.execute(QueryNamedBlockNodes(flat=True))
    if device is None:
        return nodes
    name: Any = device
    if all(node.node_name != name for node in nodes):
        for drive in await session.engine.execute(QueryBlock()):
            if drive.device == device and isinstance(drive.inserted, BlockDeviceInfo):
                name = drive.inserted.node_name
    found = [node for node in nodes if node.node_name == name]
    if not found:
        raise Refused(f"Cannot find device='{device}' nor node-name='{device}'")
    return found


def _bitmaps(node: BlockDeviceInfo) -> list[BlockDirtyInfo]:
    """Oldest first; QMP lists the newest first."""
    return list(reversed(node.dirty_bitmaps)) if isinstance(node.dirty_bitmaps, list) else []


# -- info bitmaps --------------------------------------------------------------------------------


@command(
    "info bitmaps",
    "device:B?",
    help="show the dirty bitmaps of one node or of all nodes",
    hmp=False,
    details="For each bitmap: how much one bit stands for, the share of the disk that is dirty\n"
    "(drawn, and in bytes), and what it does. One without a name belongs to a job.",
    example="info bitmaps n0",
    arguments_help={"device": "the drive or node; without one, all that have bitmaps"},
)
async def info_bitmaps(session: Session, device: str | None) -> Answer:
    nodes = [node for node in await _nodes(session, device) if _bitmaps(node)]
    data = [
        {"node-name": node.node_name, **msgspec.to_builtins(bitmap)}
        for node in nodes
        for bitmap in _bitmaps(node)
    ]
    drives = {
        drive.inserted.node_name: drive.device
        for drive in await session.engine.execute(QueryBlock())
        if isinstance(drive.inserted, BlockDeviceInfo)
    }
    return Answer(data, lambda: "\n".join(_listing(nodes, drives)) or "No dirty bitmaps")


def _listing(nodes: Sequence[BlockDeviceInfo], drives: Mapping[Any, str]) -> Iterator[str]:
    for node in sorted(nodes, key=lambda node: str(node.node_name)):
        size = node.image.virtual_size
        drive = drives.get(node.node_name)
        title = f"{drive} ({node.node_name})" if drive else f"{node.node_name}"
        yield f"{title}: {node.drv}, {size_text(size)}"
        names = [_name(bitmap) for bitmap in _bitmaps(node)]
        width = max(map(len, names))
        for name, bitmap in zip(names, _bitmaps(node), strict=True):
            dirty = min(bitmap.count, size)
            yield (
                f"  {name:{width}}  {size_text(bitmap.granularity):>8}  {bar(dirty, size)} "
                f"{percent(dirty, size):>6}  {size_text(bitmap.count):>8}  {state(node, bitmap)}"
            )


def _name(bitmap: BlockDirtyInfo) -> str:
    return as_word(bitmap.name) if isinstance(bitmap.name, str) else "(a job's)"


def bar(part: int, whole: int) -> str:
    """A share of the disk, drawn: any dirt shows, and only all of it fills the bar."""
    filled = part * BAR // whole if whole else 0
    filled = max(filled, 1) if part else 0
    return f"[{'#' * filled}{'.' * (BAR - filled)}]"


def percent(part: int, whole: int) -> str:
    share = 100 * part / whole if whole else 0.0
    if 0 < share < 0.1:
        return "<0.1%"
    return f"{min(share, 99.9) if part < whole else share:.1f}%"


def state(node: BlockDeviceInfo, bitmap: BlockDirtyInfo) -> str:
    """What a bitmap does, in words."""
    if bitmap.inconsistent is True:
        return "inconsistent: it may miss writes (see bitmap doctor)"
    words = ["recording" if bitmap.recording else "not recording"]
    if bitmap.busy:
        words.append("in use by a job")
    if bitmap.persistent:
        words.append("kept by the image" + ", which is read-only" * node.ro)
    return ", ".join(words)


# -- bitmap doctor -------------------------------------------------------------------------------


@command(
    "bitmap doctor",
    "device:B",
    help="tell why a node's dirty bitmaps cannot be used, and the line that mends it",
    hmp=False,
    details="Each bitmap of the node with what is wrong and, below it, one line to type. Nothing\n"
    "is changed. After a new bitmap was begun the next backup has to be a full one.",
    example="bitmap doctor n0",
    arguments_help={"device": "the drive or node"},
)
async def bitmap_doctor(session: Session, device: str) -> Answer:
    (node,) = await _nodes(session, device)
    graph: BlockGraph = await session.engine.execute(QueryBlockGraph())
    found = [*_findings(node, _jobs_of(node, graph)), *_not_loaded(node)]
    return Answer(found, lambda: "\n".join(_report(node, found)))


class Finding(msgspec.Struct, rename="kebab"):
    """``wrong`` is empty for a healthy bitmap; ``line`` mends it, where one line can."""

    bitmap: str
    wrong: str = ""
    line: str = ""


def _findings(node: BlockDeviceInfo, jobs: list[str]) -> Iterator[Finding]:
    place = f"node={as_word(str(node.node_name))}"
    for bitmap in _bitmaps(node):
        if not isinstance(bitmap.name, str):
            continue
        named = f"{place} name={as_word(bitmap.name)}"
        if bitmap.inconsistent is True:
            begin = f"block-dirty-bitmap-add {named} granularity={bitmap.granularity} persistent=on"
            wrong = "the image was not closed, so writes may be missing; it can only be removed"
            if node.ro:
                wrong += ", once the image is open for writing"
            yield Finding(bitmap.name, wrong, f"block-dirty-bitmap-remove {named} ; {begin}")
        elif bitmap.busy:
            wrong = "a job or an export uses it"
            yield Finding(bitmap.name, wrong, f"wait {' '.join(map(as_word, jobs))}" * bool(jobs))
        elif bitmap.persistent and node.ro:
            wrong = "the image is read-only, so it can be read and not changed"
            yield Finding(bitmap.name, wrong, _reopen_line(node))
        elif not bitmap.recording:
            wrong = "it does not record, so writes are missing from now on"
            yield Finding(bitmap.name, wrong, f"block-dirty-bitmap-enable {named}")
        else:
            yield Finding(bitmap.name)


def _reopen_line(node: BlockDeviceInfo) -> str:
    """Where the node lies in a file of its own: the options that are known."""
    if node.drv != "qcow2" or node.file.startswith("json:") or node.backing_file:
        return ""
    file = f"options.0.file.driver=file options.0.file.filename={as_word(node.file)}"
    name = as_word(str(node.node_name))
    return f"blockdev-reopen options.0.driver=qcow2 options.0.node-name={name} {file}"


def _not_loaded(node: BlockDeviceInfo) -> Iterator[Finding]:
    """Those that the image keeps and nobody can use."""
    known = {bitmap.name for bitmap in _bitmaps(node)}
    specific = node.image.format_specific
    if isinstance(specific, ImageInfoSpecificQcow2) and isinstance(specific.data.bitmaps, list):
        for kept in specific.data.bitmaps:
            if kept.name not in known:
                yield Finding(kept.name, "it has data that this program does not know; it is kept")


def _jobs_of(node: BlockDeviceInfo, graph: BlockGraph) -> list[str]:
    """The jobs that have an edge to the node."""
    here = {one.id for one in graph.nodes if one.name == node.node_name}
    users = {edge.parent for edge in graph.edges if edge.child in here}
    return sorted(n.name for n in graph.nodes if n.type == "block-job" and n.id in users)


def _report(node: BlockDeviceInfo, found: Sequence[Finding]) -> Iterator[str]:
    if not found:
        yield f"{node.node_name} has no dirty bitmaps"
    for finding in found:
        yield f"{as_word(finding.bitmap)}: {finding.wrong or 'nothing is wrong'}"
        if finding.line:
            yield f"    {finding.line}"
