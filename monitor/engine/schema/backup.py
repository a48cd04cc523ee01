"""Copying a disk as it is at one moment, while it is in use."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, UnsetType

from monitor.engine.schema.base import (
    DeviceName,
    Feature,
    FileName,
    Names,
    Options,
    QInt,
    Request,
)
from monitor.engine.schema.blockjob import (
    AutoDismiss,
    AutoFinalize,
    BlockdevOnError,
    FilterName,
    JobId,
    MirrorSyncMode,
    NewImageMode,
    Speed,
)

BitmapSyncMode = Literal["on-success", "never", "always"]


class BackupPerf(Options, kw_only=True):
    """How a backup goes about it."""

    use_copy_range: Annotated[bool, "leave copies between files to the host"] | UnsetType = UNSET
    max_workers: Annotated[QInt, "copies under way at once, at most"] | UnsetType = UNSET
    max_chunk: Annotated[QInt, "bytes in one copy at most, 0 for no limit"] | UnsetType = UNSET


class BackupCommon(Request, kw_only=True):
    """What both requests have."""

    job_id: JobId | UnsetType = UNSET
    device: Annotated[DeviceName, "what is copied"]
    sync: Annotated[MirrorSyncMode, "which parts are copied"]
    speed: Speed | UnsetType = UNSET
    bitmap: Annotated[str, Names("bitmap", "source"), "what is dirty"] | UnsetType = UNSET
    bitmap_mode: Annotated[BitmapSyncMode, "what becomes of the bitmap"] | UnsetType = UNSET
    compress: Annotated[bool, "compress what is written"] | UnsetType = UNSET
    on_source_error: Annotated[BlockdevOnError, "what a failed read does"] | UnsetType = UNSET
    on_target_error: Annotated[BlockdevOnError, "what a failed write does"] | UnsetType = UNSET
    auto_finalize: AutoFinalize | UnsetType = UNSET
    auto_dismiss: AutoDismiss | UnsetType = UNSET
    filter_node_name: FilterName | UnsetType = UNSET
    x_perf: Annotated[BackupPerf, Feature("unstable"), "tuning"] | UnsetType = UNSET


class DriveBackup(BackupCommon, kw_only=True, tag="drive-backup"):
    """Copy a disk as it is now into an image file, in a background job."""

    features = ("deprecated",)

    target: Annotated[FileName, "the image file"]
    format: Annotated[str, "its format (default: the disk's)"] | UnsetType = UNSET
    mode: Annotated[NewImageMode, "whether it is created"] | UnsetType = UNSET

    example = "drive-backup job-id=b0 device=d0 target=backup.qcow2 sync=full"


class BlockdevBackup(BackupCommon, kw_only=True, tag="blockdev-backup"):
    """Copy a disk as it is now to another node, in a background job."""

    target: Annotated[DeviceName, "where it is copied to"]

    example = "blockdev-backup job-id=b0 device=d0 target=t0 sync=full"
