"""Commands that begin block jobs, and the verbs for them."""

from __future__ import annotations

from monitor.commands.errors import Verbatim
from monitor.commands.registry import Session, command
from monitor.engine.errors import RequestError
from monitor.engine.schema.backup import DriveBackup
from monitor.engine.schema.base import optional
from monitor.engine.schema.commit import CommitDrive
from monitor.engine.schema.job import (
    BlockJobCancel,
    BlockJobComplete,
    BlockJobPause,
    BlockJobResume,
    BlockJobSetSpeed,
)
from monitor.engine.schema.mirror import DriveMirror
from monitor.engine.schema.stream import BlockStream


@command(
    "block_stream",
    "device:B,speed:o?,base:F/layer?",
    help="copy data from a backing file into a block device",
    params="device [speed [base]]",
    details="Starts a job named as the device. In the end the image needs the layers above base\n"
    "no more, or no backing file at all.",
    example="block_stream d0 10M",
    arguments_help={
        "device": "what is filled",
        "speed": "at most so many bytes a second; 0 for no limit",
        "base": "the backing file to keep; all are copied without one",
    },
)
async def block_stream(session: Session, device: str, speed: int | None, base: str | None) -> None:
    await session.engine.execute(
        BlockStream(
            job_id=device,
            device=device,
            base=optional(base),
            speed=optional(speed),
            on_error="report",
        )
    )


@command(
    "drive_backup",
    "reuse:-n,full:-f,compress:-c,device:B,target:s/file,format:s/format?",
    help="initiates a point-in-time"
    "\n\t\t\tcopy for a device. The device's contents are"
    "\n\t\t\tcopied to the new image file, excluding data that"
    "\n\t\t\tis written after the command is started."
    "\n\t\t\tThe -n flag requests QEMU to reuse the image found"
    "\n\t\t\tin new-image-file, instead of recreating it from scratch."
    "\n\t\t\tThe -f flag requests QEMU to copy the whole disk,"
    "\n\t\t\tso that the result does not need a backing file."
    "\n\t\t\tThe -c flag requests QEMU to compress backup data"
    "\n\t\t\t(if the target format supports it).\n\t\t\t",
    params="[-n] [-f] [-c] device target [format]",
    details="Starts a job named as the device. Without -f a device with a backing file gets an\n"
    "image on that same backing file, with the device's own clusters.",
    example="drive_backup -f d0 backup.qcow2",
    arguments_help={
        "reuse": "write into the image that is there",
        "full": "copy all, not only what the top image holds",
        "compress": "compress what is written",
        "device": "what is copied",
        "target": "the image file",
        "format": "its format (default: the device's)",
    },
)
async def drive_backup(
    session: Session,
    reuse: bool,
    full: bool,
    compress: bool,
    device: str,
    target: str,
    format: str | None,
) -> None:
    await session.engine.execute(
        DriveBackup(
            device=device,
            target=target,
            format=optional(format),
            sync="full" if full else "top",
            mode="existing" if reuse else "absolute-paths",
            compress=compress,
        )
    )


@command(
    "block_job_cancel",
    "force:-f,device:J/block-cancel",
    help="stop an active background block operation (use -f"
    "\n\t\t\t if you want to abort the operation immediately"
    "\n\t\t\t instead of keep running until data is in sync)",
    params="[-f] device",
    details="A stream or commit leaves what it has copied, which stays valid; a backup or mirror\n"
    "leaves a target that is not whole. A mirror or commit that is ready ends well without\n"
    "-f: what was copied is whole then, and the device stays on what it has.",
    example="block_job_cancel d0",
    arguments_help={"force": "cancel a paused job too, and one that is ready without its end"},
)
async def block_job_cancel(session: Session, force: bool, device: str) -> None:
    await session.engine.execute(BlockJobCancel(device=device, force=force))


@command(
    "block_job_complete",
    "device:J/block-complete",
    help="stop an active background block operation",
    details="Finishes a job that is ready: a mirror puts its copy in the device's place, the\n"
    "commit of an active layer its base. `wait` returns when a job is ready.",
    example="block_job_complete d0",
)
async def block_job_complete(session: Session, device: str) -> None:
    await session.engine.execute(BlockJobComplete(device=device))


@command(
    "block_job_pause",
    "device:J/block-pause",
    help="pause an active background block operation",
    example="block_job_pause d0",
)
async def block_job_pause(session: Session, device: str) -> None:
    await session.engine.execute(BlockJobPause(device=device))


@command(
    "block_job_resume",
    "device:J/block-resume",
    help="resume a paused background block operation",
    example="block_job_resume d0",
)
async def block_job_resume(session: Session, device: str) -> None:
    await session.engine.execute(BlockJobResume(device=device))


@command(
    "block_job_set_speed",
    "device:J/block-set-speed,speed:o",
    help="set maximum speed for a background block operation",
    example="block_job_set_speed d0 10M",
    arguments_help={"speed": "at most so many bytes a second; 0 for no limit"},
)
async def block_job_set_speed(session: Session, device: str, speed: int) -> None:
    await session.engine.execute(BlockJobSetSpeed(device=device, speed=speed))


@command(
    "drive_mirror",
    "reuse:-n,full:-f,device:B,target:s/file,format:s/format?",
    help="initiates live storage"
    "\n\t\t\tmigration for a device. The device's contents are"
    "\n\t\t\tcopied to the new image file, including data that"
    "\n\t\t\tis written after the command is started."
    "\n\t\t\tThe -n flag requests QEMU to reuse the image found"
    "\n\t\t\tin new-image-file, instead of recreating it from scratch."
    "\n\t\t\tThe -f flag requests QEMU to copy the whole disk,"
    "\n\t\t\tso that the result does not need a backing file.\n\t\t\t",
    params="[-n] [-f] device target [format]",
    details="Starts a job named as the device. When it is ready, block_job_complete puts the copy\n"
    "in the device's place, and block_job_cancel leaves it as the device was at that moment.",
    example="drive_mirror -f d0 copy.qcow2 qcow2",
    arguments_help={
        "reuse": "write to an image that is there",
        "full": "copy what is in backing images too",
        "target": "the file to write to",
        "format": "the file's format; the device's unless told",
    },
)
async def drive_mirror(
    session: Session, reuse: bool, full: bool, device: str, target: str, format: str | None
) -> None:
    await session.engine.execute(
        DriveMirror(
            device=device,
            target=target,
            format=optional(format),
            sync="full" if full else "top",
            mode="existing" if reuse else "absolute-paths",
            unmap=True,
        )
    )


@command(
    "commit",
    "device:D(all)",
    help="commit changes to the disk images (if -snapshot is used) or backing files",
    params="device|all",
    details="Copies what the image holds into its backing image, waits for it, and empties the\n"
    "image. block-commit does it in the background.",
    example="commit d0",
    arguments_help={"device": "a drive, or all of them"},
)
async def commit(session: Session, device: str) -> None:
    try:
        await session.engine.execute(CommitDrive(device=device))
    except RequestError as error:
        raise Verbatim(error.text) from error
