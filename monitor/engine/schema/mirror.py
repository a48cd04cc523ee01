"""Copies of disks that keep up with them."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, UnsetType

from monitor.engine.schema.base import (
    DeviceName,
    FileName,
    NewName,
    NodeName,
    Offered,
    QInt,
    Request,
    UInt32,
)
from monitor.engine.schema.blockjob import (
    AutoDismiss,
    AutoFinalize,
    FilterName,
    JobId,
    MirrorSyncMode,
    NewImageMode,
    OnError,
    Speed,
)

_Sync = Annotated[MirrorSyncMode, Offered(("top", "full", "none")), "what is copied"]
_CopyMode = Annotated[Literal["background", "write-blocking"], "whether writes wait for the target"]


class DriveMirror(Request, kw_only=True, tag="drive-mirror"):
    """Mirror a disk to a file, in a background job."""

    job_id: JobId | UnsetType = UNSET
    device: Annotated[DeviceName, "what is mirrored"]
    target: Annotated[FileName, "the file to write to"]
    format: Annotated[str, "the file's format (default: the source's)"] | UnsetType = UNSET
    node_name: Annotated[NewName, "the target's node name"] | UnsetType = UNSET
    replaces: Annotated[NodeName, "what the target replaces in the end"] | UnsetType = UNSET
    sync: _Sync
    mode: Annotated[NewImageMode, "where the file comes from"] | UnsetType = UNSET
    speed: Speed | UnsetType = UNSET
    granularity: Annotated[UInt32, "bytes that a write makes dirty"] | UnsetType = UNSET
    buf_size: Annotated[QInt, "bytes under way at most"] | UnsetType = UNSET
    on_source_error: OnError | UnsetType = UNSET
    on_target_error: OnError | UnsetType = UNSET
    unmap: Annotated[bool, "zeroes may be holes in the target"] | UnsetType = UNSET
    copy_mode: _CopyMode | UnsetType = UNSET
    auto_finalize: AutoFinalize | UnsetType = UNSET
    auto_dismiss: AutoDismiss | UnsetType = UNSET

    example = "drive-mirror job-id=m0 device=d0 target=copy.qcow2 sync=full"


class BlockdevMirror(Request, kw_only=True, tag="blockdev-mirror"):
    """Mirror a disk to a node, in a background job."""

    job_id: JobId | UnsetType = UNSET
    device: Annotated[DeviceName, "what is mirrored"]
    target: Annotated[DeviceName, "the node to write to"]
    replaces: Annotated[NodeName, "what the target replaces in the end"] | UnsetType = UNSET
    sync: _Sync
    speed: Speed | UnsetType = UNSET
    granularity: Annotated[UInt32, "bytes that a write makes dirty"] | UnsetType = UNSET
    buf_size: Annotated[QInt, "bytes under way at most"] | UnsetType = UNSET
    on_source_error: OnError | UnsetType = UNSET
    on_target_error: OnError | UnsetType = UNSET
    filter_node_name: FilterName | UnsetType = UNSET
    copy_mode: _CopyMode | UnsetType = UNSET
    auto_finalize: AutoFinalize | UnsetType = UNSET
    auto_dismiss: AutoDismiss | UnsetType = UNSET

    example = "blockdev-mirror job-id=m0 device=d0 target=t0 sync=full"
