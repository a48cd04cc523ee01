"""Image files: ``create``, ``block_resize``, ``resize``, ``check``, ``map``."""

from __future__ import annotations

from typing import Literal

from monitor.commands.imagetext import check_text, map_text
from monitor.commands.registry import Answer, Session, command
from monitor.engine.schema.base import optional
from monitor.engine.schema.extra import CheckImage, CreateImage, MapImage, ResizeImage
from monitor.engine.schema.graph import BlockResize
from monitor.engine.schema.imageopts import asks_for_help


@command(
    "block_resize",
    "device:D,size:o",
    help="resize a block image",
    details="The guest's data beyond a smaller size is lost. Formats differ in whether they can\n"
    "shrink.",
    example="block_resize d0 128M",
    arguments_help={"device": "the drive", "size": "the new size (MiB without a unit)"},
)
async def block_resize(session: Session, device: str, size: int) -> None:
    await session.engine.execute(BlockResize(device=device, size=size))


@command(
    "create",
    "format:-f=s/format,backing_file:-b=F,backing_format:-F=s/format,options:-o=O/create,file:F,size:z?",
    help="create an image file",
    params="[-f fmt] [-b backing_file [-F backing_fmt]] [-o options] filename [size]",
    hmp=False,
    details="Takes what qemu-img create takes, and waits until the image is there. An image with\n"
    "a backing file is as large as that unless a size is given. Nothing is printed, and\n"
    "nothing is opened: blockdev-add or drive_add does that. `-o help` lists the options\n"
    "of the format, and makes nothing.",
    example="create -f qcow2 disk.qcow2 10G\ncreate -f qcow2 -b disk.qcow2 -F qcow2 overlay.qcow2\n"
    "create -f qcow2 -o help",
    arguments_help={
        "format": "the image's format (default raw)",
        "backing_file": "the image below it",
        "backing_format": "that image's format",
        "options": "key=value,… of the format: cluster_size=64k,compat=1.1",
        "file": "the image; an existing file is overwritten",
        "size": "bytes, or with a unit: 64k, 10G",
    },
    asks=lambda given: asks_for_help(given["options"]),
)
async def create(
    session: Session,
    format: str | None,
    backing_file: str | None,
    backing_format: str | None,
    options: str | None,
    file: str | None,
    size: int | None,
) -> str | None:
    if asks_for_help(options):
        from monitor.commands.imagehelp import option_list

        return option_list(format or "raw", with_file=file is not None)
    assert file is not None
    await session.engine.execute(
        CreateImage(
            filename=file,
            format="raw" if format is None else format,
            size=optional(size),
            backing_file=optional(backing_file),
            backing_format=optional(backing_format),
            options=optional(options),
        )
    )
    return None


@command(
    "resize",
    "shrink:--shrink,preallocation:--preallocation=e(off|metadata|falloc|full),device:B,size:z",
    help="resize an open image, with or without storage for what is added",
    params="[--shrink] [--preallocation=mode] device size",
    hmp=False,
    details="As qemu-img resize: a smaller size needs --shrink, and the data beyond it is lost.",
    example="resize --preallocation=falloc d0 128M",
    arguments_help={
        "shrink": "a smaller size is meant",
        "preallocation": "what is allocated at once of a larger one",
        "device": "the image",
        "size": "the new size, bytes or with a unit",
    },
)
async def resize(
    session: Session,
    shrink: bool,
    preallocation: Literal["off", "metadata", "falloc", "full"] | None,
    device: str,
    size: int,
) -> None:
    await session.engine.execute(
        ResizeImage(
            device=device,
            size=size,
            shrink=shrink,
            preallocation=optional(preallocation),
        )
    )


@command(
    "check",
    "repair:-r=e(leaks|all),device:B",
    help="check the metadata of an image",
    params="[-r leaks|all] device",
    hmp=False,
    details="Holds reference counts and flags against the tables that refer to clusters, as\n"
    "qemu-img check does, in an image that is open. Requests to it wait meanwhile. -r leaks\n"
    "frees clusters that nothing refers to; -r all mends wrong counts and flags too.",
    example="check -r leaks d0",
    arguments_help={"repair": "what is mended", "device": "the image"},
)
async def check(session: Session, repair: Literal["leaks", "all"] | None, device: str) -> Answer:
    request = CheckImage(device=device, fix="none" if repair is None else repair)
    found = await session.engine.execute(request)
    return Answer(found, lambda: check_text(found))


@command(
    "map",
    "device:B",
    help="show where the data of an image lies",
    params="device",
    hmp=False,
    details="A line for each run of data: its place in the disk, its length, its place in the\n"
    "file of the chain that holds it. --json shows zeroes and holes too.",
    example="map d0",
    arguments_help={"device": "the image"},
)
async def map_device(session: Session, device: str) -> Answer:
    runs = await session.engine.execute(MapImage(device=device))
    return Answer(runs, lambda: map_text(runs))
