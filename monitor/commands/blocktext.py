"""The text of ``info block``: drives, nodes, and their images as ``qemu-img info`` shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from monitor.commands.render import size_text
from monitor.commands.snapshottext import table
from monitor.engine.schema.image import ImageInfoSpecific
from monitor.engine.schema.query import BlockDeviceInfo, BlockInfo, ImageInfo
from monitor.wire.qmpjson import member_order

T = TypeVar("T")


def paragraphs(
    every: Sequence[T], shown: Sequence[T], lines: Callable[[T, bool], Iterator[str]], verbose: bool
) -> str:
    """One paragraph for each of ``shown``, with an empty line before all but the first.

    "The first" is the first of ``every``: asked for one device that is not the first of all, HMP
    begins with an empty line.
    """
    text = []
    for item in shown:
        if item is not every[0]:
            text.append("")
        text += lines(item, verbose)
    return "\n".join(text)


def drive_lines(drive: BlockInfo, verbose: bool) -> Iterator[str]:
    inserted = drive.inserted if isinstance(drive.inserted, BlockDeviceInfo) else None
    node = inserted.node_name if inserted is not None else None
    name = drive.device or node or drive.qdev or "<anonymous>"
    if drive.device and node:
        name += f" ({node})"
    yield f"{name}: {_inserted(inserted)}"
    if drive.qdev:
        yield f"    Attached to:      {drive.qdev}"
    if drive.io_status and drive.io_status != "ok":
        yield f"    I/O status:       {drive.io_status}"
    if drive.removable:
        locked = "locked" if drive.locked else "not locked"
        tray = "open" if drive.tray_open else "closed"
        yield f"    Removable device: {locked}, tray {tray}"
    if inserted is not None:
        yield from _details(inserted, verbose)


def node_lines(node: BlockDeviceInfo, verbose: bool) -> Iterator[str]:
    yield f"{node.node_name or '<anonymous>'}: {_inserted(node)}"
    yield from _details(node, verbose)


def _inserted(node: BlockDeviceInfo | None) -> str:
    if node is None:
        return "[not inserted]"
    marks = ", read-only" * node.ro + ", encrypted" * node.encrypted
    return f"{node.file} ({node.drv}{marks})"


def _details(node: BlockDeviceInfo, verbose: bool) -> Iterator[str]:
    cache = "writeback" if node.cache.writeback else "writethrough"
    cache += ", direct" * node.cache.direct + ", ignore flushes" * node.cache.no_flush
    yield f"    Cache mode:       {cache}"
    if node.backing_file:
        depth = node.backing_file_depth
        yield f"    Backing file:     {node.backing_file} (chain depth: {depth})"
    if node.detect_zeroes != "off":
        yield f"    Detect zeroes:    {node.detect_zeroes}"
    if any(getattr(node, key) for key in _RATES):
        limits = (f"{key}={getattr(node, key) or 0}" for key in _LIMITS)
        yield f"    I/O throttling:   {' '.join(limits)} group={node.group or ''}"
    if verbose:
        yield from ("", "Images:")
        image: Any = node.image
        while isinstance(image, ImageInfo):
            yield from image_lines(image)
            image = image.backing_image


_RATES = ("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr")
_LIMITS = (
    *_RATES[:3], "bps_max", "bps_rd_max", "bps_wr_max",
    *_RATES[3:], "iops_max", "iops_rd_max", "iops_wr_max", "iops_size",
)  # fmt: skip


def image_lines(image: ImageInfo) -> Iterator[str]:
    """``qemu-img info``'s text of one image."""
    disk = size_text(image.actual_size) if isinstance(image.actual_size, int) else "unavailable"
    yield f"image: {image.filename}"
    yield f"file format: {image.format}"
    yield f"virtual size: {size_text(image.virtual_size)} ({image.virtual_size} bytes)"
    yield f"disk size: {disk}"
    if image.encrypted:
        yield "encrypted: yes"
    if image.cluster_size:
        yield f"cluster_size: {image.cluster_size}"
    if image.dirty_flag:
        yield "cleanly shut down: no"
    if image.backing_filename:
        yield f"backing file: {image.backing_filename}{_actual_path(image)}"
        if image.backing_filename_format:
            yield f"backing file format: {image.backing_filename_format}"
    if image.snapshots:
        yield "Snapshot list:"
        yield from table(image.snapshots)
    if isinstance(image.format_specific, ImageInfoSpecific):
        yield "Format specific information:"
        yield from _nested(msgspec.to_builtins(image.format_specific)["data"], 1)


def _actual_path(image: ImageInfo) -> str:
    if not image.full_backing_filename:
        return " (cannot determine actual path)"
    if image.full_backing_filename == image.backing_filename:
        return ""
    return f" (actual path: {image.full_backing_filename})"


def _nested(value: Any, level: int) -> Iterator[str]:
    """A dictionary or a list, one member a line, in the order of QEMU's dictionaries."""
    if isinstance(value, dict):
        entries = [(f"{key.replace('-', ' ')}:", value[key]) for key in member_order(value)]
    else:
        entries = [(f"[{index}]:", item) for index, item in enumerate(value)]
    for label, item in entries:
        if isinstance(item, dict | list):
            yield f"{'    ' * level}{label}"
            yield from _nested(item, level + 1)
        else:
            yield f"{'    ' * level}{label} {_scalar(item)}"


def _scalar(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
