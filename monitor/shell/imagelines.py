"""The images of a session that is recorded, as fixtures for its replay.

An image is described by how it was made and, where that is short enough, by what it holds: runs of
one byte, as tests write them. What has no such pattern is not kept, and the recording says so.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from typing import Final

from monitor.engine.api import Engine
from monitor.engine.errors import MonitorError
from monitor.engine.schema.base import UNSET, given
from monitor.engine.schema.extra import IoRequest, IoResult
from monitor.engine.schema.query import BlockDeviceInfo, ImageInfo, QueryNamedBlockNodes

_MOST_RUNS: Final = 64
_MOST_DATA: Final = 64 << 20
"""Bytes of an image that are looked at."""
_PIECE: Final = 1 << 20
_GRAIN: Final = 512
"""Runs begin and end at multiples of it."""


class _NoPattern(Exception):
    """The contents are too much to be told."""


async def image_lines(engine: Engine) -> list[str]:
    """Lines of a transcript's head that make the images which are open now, those below first."""
    nodes = await engine.execute(QueryNamedBlockNodes(flat=True))
    images: dict[str, BlockDeviceInfo] = {}
    for node in sorted(nodes, key=lambda node: node.drv == "file"):  # formats first
        name = node.image.filename
        if node.drv in ("file", "raw", "qcow2") and not name.startswith("json:"):
            images.setdefault(name, node)
    lines: list[str] = []
    for node in _below_first(images):
        name = inside(node.image.filename)
        if name is None:
            lines.append(f"# {node.image.filename} lies elsewhere, and is not kept.")
            continue
        lines.append(_image_line(node, name))
        try:
            lines += [f"    {command}" for command in await _contents(engine, node)]
        except (_NoPattern, MonitorError):
            lines.append(f"# What {node.image.filename} holds is not kept: it is too much to tell.")
    return lines


def inside(path: str) -> str | None:
    """A path as seen from the current folder; None for one that leads out of it."""
    relative = os.path.relpath(path)
    return None if relative.startswith("..") else relative


def _below_first(images: dict[str, BlockDeviceInfo]) -> Iterator[BlockDeviceInfo]:
    left = dict(images)
    while left:
        names = [name for name, node in left.items() if _backing(node.image) not in left]
        for name in names or list(left):
            yield left.pop(name)


def _backing(image: ImageInfo) -> str:
    full = image.full_backing_filename
    return given(full, "")


def _image_line(node: BlockDeviceInfo, name: str) -> str:
    image = node.image
    format = "raw" if node.drv == "file" else node.drv
    words = ["image", name, format, str(image.virtual_size)]
    if image.backing_filename is not UNSET:
        words.append(f"backing={image.backing_filename}")
    if image.backing_filename_format is not UNSET:
        words.append(f"backing-format={image.backing_filename_format}")
    if image.format_specific is not UNSET:
        data = image.format_specific.data
        options = {
            "compat": ("1.1", data.compat),
            "cluster_size": (65536, image.cluster_size),
            "refcount_bits": (16, data.refcount_bits),
            "compression_type": ("zlib", data.compression_type),
        }
        words += [f"{key}={now}" for key, (usual, now) in options.items() if now != usual]
    return shlex.join(words)


async def _contents(engine: Engine, node: BlockDeviceInfo) -> list[str]:
    """Commands for qemu-io. Raises _NoPattern, MonitorError."""
    device = str(node.node_name)
    covers = node.image.backing_filename is not UNSET
    found: IoResult = await engine.execute(IoRequest(device=device, operation="map"))
    assert found.extents is not UNSET
    runs: list[tuple[int, int, int]] = []  # offset, length, byte
    looked_at = 0
    for extent in found.extents:
        if not extent.allocated:
            continue
        looked_at += extent.length
        if looked_at > _MOST_DATA:
            raise _NoPattern
        for offset in range(extent.offset, extent.offset + extent.length, _PIECE):
            length = min(_PIECE, extent.offset + extent.length - offset)
            request = IoRequest(
                device=device, operation="read", offset=offset, length=length, want_data=True
            )
            _add_runs(runs, (await engine.execute(request)).data, offset)
    return [
        f"write -z {offset} {length}" if not byte else f"write -P {byte:#04x} {offset} {length}"
        for offset, length, byte in runs
        if byte or covers
    ]


def _add_runs(runs: list[tuple[int, int, int]], data: bytes, offset: int) -> None:
    """Adds what ``data`` is made of; a run that goes on is made longer. Raises _NoPattern."""
    for at in range(0, len(data), _GRAIN):
        grain = data[at : at + _GRAIN]
        if grain.count(grain[0]) != len(grain):
            raise _NoPattern
        if runs and runs[-1][2] == grain[0] and sum(runs[-1][:2]) == offset + at:
            runs[-1] = (runs[-1][0], runs[-1][1] + len(grain), grain[0])
        elif len(runs) == _MOST_RUNS:
            raise _NoPattern
        else:
            runs.append((offset + at, len(grain), grain[0]))
