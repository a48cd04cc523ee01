"""Requests that change the graph: nodes, snapshots, sizes."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, UnsetType

from monitor.engine.schema.base import (
    Alternate,
    DeviceName,
    DriveName,
    FileName,
    NewName,
    NodeName,
    ObjectName,
    QInt,
    Request,
)
from monitor.engine.schema.blockdev import AnyBlockdevOptions


class BlockdevAdd(Request, kw_only=True, tag="blockdev-add"):
    """Open an image as a node of the graph. The format is never guessed."""

    flattened = "options"
    options: AnyBlockdevOptions

    example = "blockdev-add driver=qcow2 node-name=n0 file.driver=file file.filename=a.qcow2"


class BlockdevDel(Request, kw_only=True, tag="blockdev-del"):
    """Close a node that blockdev-add opened and that nothing uses."""

    node_name: NodeName

    example = "blockdev-del node-name=n0"


class BlockdevReopen(Request, kw_only=True, tag="blockdev-reopen"):
    """Give nodes other options while they are open, all of them or none.

    What is not given goes back to its default; an image with a backing image is told which one it
    is to have.
    """

    options: Annotated[list[AnyBlockdevOptions], "of each node, whole"]

    example = (
        'blockdev-reopen options=[{"driver":"qcow2","node-name":"n0","file":"f0","backing":null}]'
    )


class BlockdevChange(Request, kw_only=True, tag="x-blockdev-change"):
    """Add a child to a node that holds any number of them, or remove one."""

    features = ("unstable",)

    parent: Annotated[DeviceName, "the node"]
    child: Annotated[str, "the child to remove, by its role"] | UnsetType = UNSET
    node: Annotated[NodeName, "the node to add"] | UnsetType = UNSET


StrOrNull = Annotated[
    ObjectName | None, Alternate("StrOrNull"), "an iothread, or null for the process's own threads"
]


class BlockdevSetIothread(Request, kw_only=True, tag="x-blockdev-set-iothread"):
    """Move a node, and all that is connected with it, to the threads of an iothread.

    Exports that name none have their long requests done there. Jobs have threads of their own.
    """

    features = ("unstable",)

    node_name: NodeName
    iothread: StrOrNull
    force: Annotated[bool, "also where a drive or an export may be in use"] | UnsetType = UNSET

    example = "x-blockdev-set-iothread node-name=n0 iothread=io0"


class BlockdevSnapshotSync(Request, kw_only=True, tag="blockdev-snapshot-sync"):
    """Put a new overlay image on top of a drive or node."""

    device: Annotated[DriveName, "the drive"] | UnsetType = UNSET
    node_name: Annotated[NodeName, "the node"] | UnsetType = UNSET
    snapshot_file: Annotated[FileName, "the overlay's file"]
    snapshot_node_name: Annotated[NewName, "the overlay's node name"] | UnsetType = UNSET
    format: Annotated[str, "the overlay's format (default qcow2)"] | UnsetType = UNSET
    mode: (
        Annotated[Literal["existing", "absolute-paths"], "create the file, or use it"] | UnsetType
    ) = UNSET

    example = "blockdev-snapshot-sync device=d0 snapshot-file=overlay.qcow2 format=qcow2"


class BlockdevSnapshot(Request, kw_only=True, tag="blockdev-snapshot"):
    """Put an overlay node, already open without a backing file, on top of a node."""

    features = ("allow-write-only-overlay",)

    node: Annotated[DeviceName, "what gets an overlay"]
    overlay: Annotated[NodeName, "the overlay"]

    example = "blockdev-snapshot node=n0 overlay=ov"


class BlockResize(Request, kw_only=True, tag="block_resize"):
    """Change the size of an image while it is in use."""

    device: Annotated[DriveName, "the drive"] | UnsetType = UNSET
    node_name: Annotated[NodeName, "the node"] | UnsetType = UNSET
    size: Annotated[QInt, "the new size, bytes"]

    example = "block_resize node-name=n0 size=1G"


__all__ = [
    "BlockResize",
    "BlockdevAdd",
    "BlockdevChange",
    "BlockdevDel",
    "BlockdevReopen",
    "BlockdevSetIothread",
    "BlockdevSnapshot",
    "BlockdevSnapshotSync",
]
