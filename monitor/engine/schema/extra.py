"""Requests that QMP does not have, under names ``x-blkmon-*``."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, UnsetType

from monitor.engine.schema.base import (
    DeviceName,
    DriveName,
    FileName,
    QInt,
    Request,
    Result,
    Size,
)
from monitor.engine.schema.blockdev import Preallocation


class DriveAdd(Request, kw_only=True, tag="x-blkmon-drive-add"):
    """Make a drive, or a node, from an option string, as ``-drive`` and ``drive_add`` do."""

    options: Annotated[str, "key=value,…"]
    node: Annotated[bool, "make a node, not a drive"] = False


class DriveDel(Request, kw_only=True, tag="x-blkmon-drive-del"):
    """Take a drive away."""

    id: DriveName


class IoRequest(Request, kw_only=True, tag="x-blkmon-io"):
    """One read, write, … on a drive or node, as qemu-io does it.

    ``pattern`` fills a write, and is what a read is compared with.
    """

    device: DeviceName
    operation: Literal["read", "write", "zero", "discard", "flush", "length", "map", "alloc"]
    offset: QInt | UnsetType = UNSET
    length: QInt | UnsetType = UNSET
    pattern: QInt | UnsetType = UNSET
    pattern_offset: QInt | UnsetType = UNSET
    pattern_length: QInt | UnsetType = UNSET
    may_unmap: bool | UnsetType = UNSET
    fua: bool | UnsetType = UNSET
    want_data: Annotated[bool, "give the bytes back (read; at most 1 MiB)"] | UnsetType = UNSET


Data = bytes


class IoExtent(Result, kw_only=True):
    offset: int
    length: int
    allocated: bool


class IoResult(Result, kw_only=True):
    """``seconds`` is the time of the request itself; ``mismatch`` is the first differing offset."""

    bytes: int = 0
    seconds: float = 0.0
    mismatch: int | UnsetType = UNSET
    length: int | UnsetType = UNSET
    allocated: int | UnsetType = UNSET
    extents: list[IoExtent] | UnsetType = UNSET
    data: Annotated[Data, "base64 in JSON"] | UnsetType = UNSET


class CreateImage(Request, kw_only=True, tag="x-blkmon-create"):
    """Create an image file and wait for it, as ``qemu-img create`` does."""

    filename: FileName
    format: str
    size: Annotated[Size, "bytes; may be left out when there is a backing file"] | UnsetType = UNSET
    backing_file: FileName | UnsetType = UNSET
    backing_format: str | UnsetType = UNSET
    options: Annotated[str, "key=value,… as qemu-img's -o"] | UnsetType = UNSET


class CheckImage(Request, kw_only=True, tag="x-blkmon-check"):
    """Check the metadata of an open image, and mend it where asked, as ``qemu-img check`` does."""

    device: DeviceName
    fix: Annotated[Literal["none", "leaks", "all"], "what is mended (default none)"] | UnsetType = (
        UNSET
    )


class ResizeImage(Request, kw_only=True, tag="x-blkmon-resize"):
    """Set the size of an open image, as ``qemu-img resize`` does."""

    device: DeviceName
    size: Annotated[Size, "bytes"]
    shrink: Annotated[bool, "a smaller size is meant: data beyond it is lost"] | UnsetType = UNSET
    preallocation: Annotated[Preallocation, "what is allocated at once"] | UnsetType = UNSET


class ImageCheck(Result, kw_only=True):
    """QMP's ImageCheck, in clusters and bytes; ``problems`` has a line for each of the first."""

    filename: str
    format: str
    check_errors: int
    image_end_offset: int | UnsetType = UNSET
    corruptions: int | UnsetType = UNSET
    leaks: int | UnsetType = UNSET
    corruptions_fixed: int | UnsetType = UNSET
    leaks_fixed: int | UnsetType = UNSET
    total_clusters: int | UnsetType = UNSET
    allocated_clusters: int | UnsetType = UNSET
    fragmented_clusters: int | UnsetType = UNSET
    compressed_clusters: int | UnsetType = UNSET
    problems: list[str] = msgspec.field(default_factory=list)


class MapImage(Request, kw_only=True, tag="x-blkmon-map"):
    """Say where in a chain of images the data of a disk lies, as ``qemu-img map`` does."""

    device: DeviceName


class MapEntry(Result, kw_only=True):
    """QMP's MapEntry: a run of the disk, bytes. ``depth`` counts images from the top, ``present``
    says that the image holds the run, ``offset`` is where it lies in ``filename``."""

    start: int
    length: int
    depth: int
    present: bool
    zero: bool
    data: bool
    offset: int | UnsetType = UNSET
    filename: str | UnsetType = UNSET


IoRequest.returns = IoResult
CheckImage.returns = ImageCheck
MapImage.returns = list[MapEntry]
