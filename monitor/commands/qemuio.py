"""``qemu-io``: reads and writes on a drive or node, in qemu-io's words and with its output."""

from __future__ import annotations

from monitor.commands.registry import Answer, Session, command
from monitor.engine.errors import DeviceNotFound


@command(
    "qemu-io",
    "qdev:-d,device:B,command:s/qemu-io",
    help="run a qemu-io command on a block device"
    "\n\t\t\t-d: [device] is a device ID rather than a drive ID or node name",
    params='[-d] [device] "[command]"',
    details="Commands: read, write, readv, writev, aio_read, aio_write, discard, flush, length,\n"
    "map, alloc, break, remove_break, resume, wait_break, help. Offsets and lengths are bytes, or\n"
    "have a unit (64k).\n"
    "  -P BYTE   write this byte (default 0xcd), or compare what is read with it\n"
    "  -s -l     of a read, the part that is compared\n"
    "  -z -u     write zeroes; with -u they may be unmapped\n"
    "  -f        the write is on disk when it ends\n"
    "  -v        show the bytes read          -q -C  no report, or one for programs",
    example='qemu-io d0 "write -P 0x61 0 64k"\nqemu-io d0 "read -P 0x61 0 64k"',
    arguments_help={"command": "one command of qemu-io, quoted when it has blanks"},
)
async def qemu_io(session: Session, qdev: bool, device: str, command: str) -> Answer | None:
    from monitor.commands.io.run import run

    if qdev:  # there are no guest devices here
        raise DeviceNotFound(device)
    return await run(session, device, command)
