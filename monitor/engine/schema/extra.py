"""Requests that QMP does not have, under names ``x-blkmon-*``."""

from __future__ import annotations

from typing import Annotated, Literal

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


class DriveAdd(Request, kw_only=True, tag="x-blkmon-drive-add"):
    """Make a drive from an option string, as ``-drive`` and ``drive_add`` do."""

    options: Annotated[str, "key=value,…"]


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


IoRequest.returns = IoResult
