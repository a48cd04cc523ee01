"""Snapshots: new overlay images, and those that are kept in an image itself."""

from __future__ import annotations

from monitor.commands.registry import Session, command
from monitor.engine.schema.base import optional
from monitor.engine.schema.graph import BlockdevSnapshotSync
from monitor.engine.schema.snapshot import (
    BlockdevSnapshotDeleteInternalSync,
    BlockdevSnapshotInternalSync,
    DeleteDisks,
    LoadDisks,
    SaveDisks,
)


@command(
    "snapshot_blkdev",
    "reuse:-n,device:D,snapshot_file:F?,format:s/format?",
    help="initiates a live snapshot"
    "\n\t\t\tof device. If a new image file is specified, the"
    "\n\t\t\tnew image file will become the new root image."
    "\n\t\t\tIf format is specified, the snapshot file will"
    "\n\t\t\tbe created in that format."
    "\n\t\t\tThe default format is qcow2.  The -n flag requests QEMU"
    "\n\t\t\tto reuse the image found in new-image-file, instead of"
    "\n\t\t\trecreating it from scratch.",
    params="[-n] device [new-image-file] [format]",
    details="From then on writes go to the new image; the old one is its backing file and is\n"
    "written no more.",
    example="snapshot_blkdev d0 overlay.qcow2",
    arguments_help={
        "reuse": "use the image that exists",
        "device": "the drive",
        "snapshot_file": "the new image; it cannot be left out",
        "format": "its format (default qcow2)",
    },
)
async def snapshot_blkdev(
    session: Session, reuse: bool, device: str, snapshot_file: str | None, format: str | None
) -> None:
    if not snapshot_file:
        from monitor.engine.schema.decode import MissingParameter

        raise MissingParameter("snapshot-file")
    await session.engine.execute(
        BlockdevSnapshotSync(
            device=device,
            snapshot_file=snapshot_file,
            format=optional(format),
            mode="existing" if reuse else "absolute-paths",
        )
    )


@command(
    "snapshot_blkdev_internal",
    "device:B,name:s",
    help="take an internal snapshot of device."
    "\n\t\t\tThe format of the image used by device must"
    "\n\t\t\tsupport it, such as qcow2."
    "\n\t\t\t",
    params="device name",
    details="The disk goes on in the same image, which keeps what the disk is now under the name.",
    example="snapshot_blkdev_internal d0 before",
    arguments_help={"device": "the drive or node", "name": "a name that is not there yet"},
)
async def snapshot_blkdev_internal(session: Session, device: str, name: str) -> None:
    await session.engine.execute(BlockdevSnapshotInternalSync(device=device, name=name))


@command(
    "snapshot_delete_blkdev_internal",
    "device:B,name:s/snapshot,id:s?",
    help="delete an internal snapshot of device."
    "\n\t\t\tIf id is specified, qemu will try delete"
    "\n\t\t\tthe snapshot matching both id and name."
    "\n\t\t\tThe format of the image used by device must"
    "\n\t\t\tsupport it, such as qcow2."
    "\n\t\t\t",
    params="device name [id]",
    details="The disk stays as it is.",
    example="snapshot_delete_blkdev_internal d0 before",
    arguments_help={"device": "the drive or node", "name": "the snapshot", "id": "its id"},
)
async def snapshot_delete_blkdev_internal(
    session: Session, device: str, name: str, id: str | None
) -> None:
    await session.engine.execute(
        BlockdevSnapshotDeleteInternalSync(device=device, name=name, id=optional(id))
    )


@command(
    "savevm",
    "name:s?",
    help="save a VM snapshot. If no tag is provided, a new snapshot is created",
    params="tag",
    details="An internal snapshot of every writable disk, all at one moment. There is no machine\n"
    "here, so nothing but the disks is saved (VM SIZE 0 B). Snapshots of that name are replaced.",
    example="savevm before",
    arguments_help={"name": "the snapshots' name"},
)
async def savevm(session: Session, name: str | None) -> None:
    await session.engine.execute(SaveDisks(name=optional(name)))


@command(
    "loadvm",
    "name:s/snapshot",
    help="restore a VM snapshot from its tag",
    params="tag",
    details="Every writable disk becomes what it was under that name; what was written since is\n"
    "lost. The disks are all that is restored: a machine's state, which QEMU keeps with them, is\n"
    "left alone.",
    example="loadvm before",
    arguments_help={"name": "the snapshots' name"},
)
async def loadvm(session: Session, name: str) -> None:
    await session.engine.execute(LoadDisks(name=name))


@command(
    "delvm",
    "name:s/snapshot",
    help="delete a VM snapshot from its tag",
    params="tag",
    details="From every writable disk that has one of that name.",
    example="delvm before",
    arguments_help={"name": "the snapshots' name"},
)
async def delvm(session: Session, name: str) -> None:
    await session.engine.execute(DeleteDisks(name=name))
