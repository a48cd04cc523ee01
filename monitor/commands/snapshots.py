"""Snapshots that are new overlay images: ``snapshot_blkdev``."""

from __future__ import annotations

from monitor.commands.registry import Session, command
from monitor.engine.schema.base import UNSET
from monitor.engine.schema.graph import BlockdevSnapshotSync


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
            format=UNSET if format is None else format,
            mode="existing" if reuse else "absolute-paths",
        )
    )
