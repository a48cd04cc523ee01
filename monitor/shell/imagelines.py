"""The images of a session that is recorded, as fixtures for its replay.

An image is described by how it was made and, where that is short enough, by what it holds: runs of
one byte, as tests write them. What has no such pattern is not kept, and the recording says so.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from monitor.engine.api import Engine
from monitor.engine.errors import MonitorError
from monitor.engine.schema.base import UNSET, given
from monitor.engine.schema.extra import IoRequest, IoResult
from monitor.engine.schema.query import BlockDeviceInfo, ImageInfo, QueryNamedBlockNodes
from monitor.shell.disks import add_disks
from monitor.shell.losses import new_files

if TYPE_CHECKING:
    from monitor.language.parser import Invocation

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
    lines: list[str] = []
    for node in _below_first(await open_images(engine)):
        lines += await _lines_of(engine, node)
    return lines


class Fixtures:
    """The images that a recorded session opens and did not make: what a replay finds there."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    async def know(self, engine: Engine) -> None:
        """What is open now is in the head already, or cannot be."""
        self._known |= {os.path.abspath(name) for name in await open_images(engine)}

    def made(self, invocation: Invocation) -> None:
        """A command of the session has run; the images that it made, a replay makes anew."""
        self._known |= {os.path.abspath(path) for path in new_files(invocation)}

    async def of(self, engine: Engine) -> list[str]:
        """Lines for the images that have been opened since, and for those below them.

        They are read through an engine of its own: the session's would count the requests, and a
        ``blkdebug`` in it hear of them.
        """
        lines: list[str] = []
        for name, node in (await open_images(engine)).items():
            if os.path.abspath(name) not in self._known:
                lines += await self._of_chain(name, node.drv)
        return lines

    async def _of_chain(self, name: str, driver: str) -> list[str]:
        from monitor.shell.engines import embedded_engine

        reader = embedded_engine()
        options = f"driver={driver},node-name=top,read-only=on"
        where = "filename" if driver == "file" else "file.filename"
        escaped = name.replace(",", ",,")
        options += f",{where}={escaped},{where.removesuffix('filename')}locking=off"
        if driver != "file":
            options += ",file.driver=file"
        lines: list[str] = []
        try:
            await add_disks(reader, [("--blockdev", options)])
            for node in _below_first(await open_images(reader)):
                path = os.path.abspath(node.image.filename)
                if path not in self._known:
                    self._known.add(path)
                    lines += await _lines_of(reader, node)
        except MonitorError as error:
            self._known.add(os.path.abspath(name))
            lines.append(f"# {name} is not kept: {error.text}".replace("\n", " "))
        finally:
            await reader.shut_down()
        return lines


async def open_images(engine: Engine) -> dict[str, BlockDeviceInfo]:
    """By file name, the topmost node of each image that is open."""
    nodes = await engine.execute(QueryNamedBlockNodes(flat=True))
    images: dict[str, BlockDeviceInfo] = {}
    for node in sorted(nodes, key=lambda node: node.drv == "file"):  # formats first
        name = node.image.filename
        if node.drv in ("file", "raw", "qcow2") and not name.startswith("json:"):
            images.setdefault(name, node)
    return images


async def _lines_of(engine: Engine, node: BlockDeviceInfo) -> list[str]:
    """How the image is made, and what is written into it then."""
    name = inside(node.image.filename)
    if name is None:
        return [f"# {node.image.filename} lies elsewhere, and is not kept."]
    made = _image_line(node, name)
    try:
        return [made, *(f"    {command}" for command in await _contents(engine, node))]
    except (_NoPattern, MonitorError):
        return [made, f"# What {node.image.filename} holds is not kept: it is too much to tell."]


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
