"""Requests that change the graph: nodes, snapshots, sizes."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, UnsetType

from monitor.engine.schema.base import (
    DeviceName,
    DriveName,
    FileName,
    NewName,
    NodeName,
    QInt,
    Request,
)
from monitor.engine.schema.blockdev import AnyBlockdevOptions, AnyCreateOptions


class BlockdevAdd(Request, kw_only=True, tag="blockdev-add"):
    """Open an image as a node of the graph. The format is never guessed."""

    flattened = "options"
    options: AnyBlockdevOptions

    example = "blockdev-add driver=qcow2 node-name=n0 file.driver=file file.filename=a.qcow2"


class BlockdevDel(Request, kw_only=True, tag="blockdev-del"):
    """Close a node that blockdev-add opened and that nothing uses."""

    node_name: NodeName

    example = "blockdev-del node-name=n0"


class BlockdevCreate(Request, kw_only=True, tag="blockdev-create"):
    """Create an image in a background job."""

    job_id: Annotated[NewName, "the job's name"]
    options: Annotated[AnyCreateOptions, "what to create"]

    example = "blockdev-create job-id=c0 options.driver=file options.filename=a.img options.size=1G"


class BlockdevSnapshotSync(Request, kw_only=True, tag="blockdev-snapshot-sync"):
    """Put a new overlay image on top of a drive or node."""

    device: Annotated[DriveName, "the drive"] | UnsetType = UNSET
    node_name: Annotated[NodeName, "the node"] | UnsetType = UNSET
    snapshot_file: Annotated[FileName, "the overlay's file"]
    snapshot_node_name: Annotated[NewName, "the overlay's node name"] | UnsetType = UNSET
    format: Annotated[str, "the overlay's format (default qcow2)"] | UnsetType = UNSET
    mode: Annotated[Literal["existing", "absolute-paths"], "create the file, or use it"] | UnsetType = (
        UNSET
    )

    example = "blockdev-snapshot-sync device=d0 snapshot-file=overlay.qcow2 format=qcow2"


class BlockdevSnapshot(Request, kw_only=True, tag="blockdev-snapshot"):
    """Put an overlay node, already open without a backing file, on top of a node."""

    node: Annotated[DeviceName, "what gets an overlay"]
    overlay: Annotated[NodeName, "the overlay"]

    example = "blockdev-snapshot node=n0 overlay=ov"


class BlockResize(Request, kw_only=True, tag="block_resize"):
    """Change the size of an image while it is in use."""

    device: Annotated[DriveName, "the drive"] | UnsetType = UNSET
    node_name: Annotated[NodeName, "the node"] | UnsetType = UNSET
    size: Annotated[QInt, "the new size, bytes"]

    example = "block_resize node-name=n0 size=1G"


class BlockStream(Request, kw_only=True, tag="block-stream"):
    """Copy data from the backing chain into an image, in a background job."""

    job_id: Annotated[NewName, "the job's name (default: the drive's)"] | UnsetType = UNSET
    device: Annotated[DeviceName, "what is filled"]
    base: Annotated[FileName, "stop above this backing file"] | UnsetType = UNSET
    base_node: Annotated[NodeName, "stop above this node"] | UnsetType = UNSET
    backing_file: Annotated[str, "the backing link to write in the end"] | UnsetType = UNSET
    bottom: Annotated[NodeName, "the last node to copy from"] | UnsetType = UNSET
    speed: Annotated[QInt, "bytes a second at most, 0 for no limit"] | UnsetType = UNSET
    on_error: (
        Annotated[Literal["report", "ignore", "enospc", "stop", "auto"], "what an error does"]
        | UnsetType
    ) = UNSET
    filter_node_name: Annotated[NewName, "the name of the job's filter"] | UnsetType = UNSET
    auto_finalize: Annotated[bool, "finish without job-finalize"] | UnsetType = UNSET
    auto_dismiss: Annotated[bool, "go without job-dismiss"] | UnsetType = UNSET

    example = "block-stream job-id=s0 device=d0 speed=10485760"


__all__ = [
    "BlockResize",
    "BlockStream",
    "BlockdevAdd",
    "BlockdevCreate",
    "BlockdevDel",
    "BlockdevSnapshot",
    "BlockdevSnapshotSync",
]
