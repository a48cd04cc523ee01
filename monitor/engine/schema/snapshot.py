"""Internal snapshots: kept in the image itself, by id and name."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, UnsetType

from monitor.engine.schema.base import (
    DeviceName,
    NewName,
    NodeName,
    Request,
    Result,
    SnapshotName,
)
from monitor.engine.schema.image import SnapshotInfo


class BlockdevSnapshotInternalSync(Request, kw_only=True, tag="blockdev-snapshot-internal-sync"):
    """Keep the disk as it is now as a snapshot in its own image."""

    device: Annotated[DeviceName, "the drive or node; nothing lies on top of it"]
    name: Annotated[NewName, "the snapshot's name"]

    example = "blockdev-snapshot-internal-sync device=d0 name=before"


class BlockdevSnapshotDeleteInternalSync(
    Request, kw_only=True, tag="blockdev-snapshot-delete-internal-sync"
):
    """Delete a snapshot from the image it is kept in; answers with what it was."""

    device: Annotated[DeviceName, "the drive or node"]
    id: Annotated[str, "the snapshot's id"] | UnsetType = UNSET
    name: Annotated[SnapshotName, "its name; with an id, both must be right"] | UnsetType = UNSET

    returns = SnapshotInfo
    example = "blockdev-snapshot-delete-internal-sync device=d0 name=before"


class SaveDisks(Request, kw_only=True, tag="x-blkmon-savevm"):
    """Keep all writable disks as they are now, under one name. There is no machine, so no state of
    one is kept with them."""

    name: Annotated[NewName, "made from the time when it is left out"] | UnsetType = UNSET


class LoadDisks(Request, kw_only=True, tag="x-blkmon-loadvm"):
    """Make all writable disks what they were under this name."""

    name: SnapshotName


class DeleteDisks(Request, kw_only=True, tag="x-blkmon-delvm"):
    """Delete the snapshots of this name from all writable disks."""

    name: SnapshotName


class SnapshotSave(Request, kw_only=True, tag="snapshot-save"):
    """Keep several disks as they are now, under one name, in the background.

    There is no machine, so no state of one is kept with them.
    """

    job_id: Annotated[NewName, "the job"]
    tag: Annotated[NewName, "the snapshots' name"]
    vmstate: Annotated[NodeName, "where a machine's state would go: one of the devices"]
    devices: Annotated[list[NodeName], "the disks"]

    example = 'snapshot-save job-id=s0 tag=before vmstate=n0 devices=["n0","n1"]'


class SnapshotLoad(Request, kw_only=True, tag="snapshot-load"):
    """Make several disks what they were under a name, in the background."""

    job_id: Annotated[NewName, "the job"]
    tag: Annotated[SnapshotName, "the snapshots' name"]
    vmstate: Annotated[NodeName, "where a machine's state would be: one of the devices"]
    devices: Annotated[list[NodeName], "the disks"]

    example = 'snapshot-load job-id=s0 tag=before vmstate=n0 devices=["n0","n1"]'


class SnapshotDelete(Request, kw_only=True, tag="snapshot-delete"):
    """Delete the snapshots of a name from several disks, in the background."""

    job_id: Annotated[NewName, "the job"]
    tag: Annotated[SnapshotName, "the snapshots' name"]
    devices: Annotated[list[NodeName], "the disks"]

    example = 'snapshot-delete job-id=s0 tag=before devices=["n0","n1"]'


class DiskSnapshots(Result, kw_only=True):
    """The snapshots of one writable disk; ``able``: it can have some."""

    device: str
    able: bool
    snapshots: list[SnapshotInfo]


class QueryDiskSnapshots(Request, kw_only=True, tag="x-blkmon-query-snapshots"):
    """The internal snapshots of all writable disks."""

    returns = list[DiskSnapshots]


__all__ = [
    "BlockdevSnapshotDeleteInternalSync",
    "BlockdevSnapshotInternalSync",
    "DeleteDisks",
    "DiskSnapshots",
    "LoadDisks",
    "QueryDiskSnapshots",
    "SaveDisks",
    "SnapshotDelete",
    "SnapshotLoad",
    "SnapshotSave",
]
