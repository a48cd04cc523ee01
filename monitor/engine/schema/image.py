"""What there is to say about an image beside its size: snapshots, bitmaps, its format's own."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, UnsetType

from monitor.engine.schema.base import Result
from monitor.engine.schema.blockdev import Qcow2Compression


class SnapshotInfo(Result, kw_only=True):
    """An internal snapshot; times of the host's clock, and of the guest's (``vm-clock``)."""

    id: str
    name: str
    vm_state_size: int
    date_sec: int
    date_nsec: int
    vm_clock_sec: int
    vm_clock_nsec: int
    icount: int | UnsetType = UNSET


class Qcow2BitmapInfo(Result, kw_only=True):
    """A bitmap stored in an image; granularity in bytes."""

    name: str
    granularity: int
    flags: list[Literal["in-use", "auto"]]


class ImageInfoQcow2(Result, kw_only=True):
    compat: str
    data_file: str | UnsetType = UNSET
    data_file_raw: bool | UnsetType = UNSET
    extended_l2: bool | UnsetType = UNSET
    lazy_refcounts: bool | UnsetType = UNSET
    corrupt: bool | UnsetType = UNSET
    refcount_bits: int
    bitmaps: list[Qcow2BitmapInfo] | UnsetType = UNSET
    compression_type: Qcow2Compression


class ImageInfoSpecific(Result, kw_only=True, tag_field="type"):
    """What only one format has."""


class ImageInfoSpecificQcow2(ImageInfoSpecific, kw_only=True, tag="qcow2"):
    data: ImageInfoQcow2


class BlockDirtyInfo(Result, kw_only=True):
    """A dirty bitmap; counts in bytes."""

    name: str | UnsetType = UNSET
    count: int
    granularity: int
    recording: bool
    busy: bool
    persistent: bool
    inconsistent: bool | UnsetType = UNSET
