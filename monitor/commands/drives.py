"""``drive_add`` and ``drive_del``."""

from __future__ import annotations

from monitor.commands.errors import Verbatim
from monitor.commands.registry import Session, command
from monitor.engine.api import texts_of
from monitor.engine.errors import RequestError
from monitor.engine.schema.base import Request
from monitor.engine.schema.extra import DriveAdd, DriveDel
from monitor.engine.schema.graph import BlockdevDel
from monitor.engine.schema.throttle import BlockSetIoThrottle


async def _as_said(session: Session, request: Request) -> None:
    """Makes a request whose errors HMP prints as they are."""
    try:
        await session.engine.execute(request)
    except RequestError as error:
        raise Verbatim(error.text).with_hint(error.hint) from error


@command(
    "drive_add",
    "node:-n,pci_addr:s,opts:O",
    help="add drive to PCI storage controller",
    params="[-n] [[<domain>:]<bus>:]<slot>\n"
    "[file=file][,if=type][,bus=n]\n"
    "[,unit=m][,media=d][,index=i]\n"
    "[,snapshot=on|off][,cache=on|off]\n"
    "[,readonly=on|off][,copy-on-read=on|off]",
    details="There is no PCI here, so the slot is ignored (write 0). The format is guessed where\n"
    "format= is missing. throttling.bps-total=1048576 and its like (bps=, iops_rd=, iops_max=)\n"
    "limit what goes through the drive in a second, as block_set_io_throttle does; drives with\n"
    "the same throttling.group= share its limits. stats-intervals.0=60 keeps the times of the\n"
    "last minute's requests for query-blockstats. snapshot=on leaves the image alone: what is\n"
    "written is thrown away in the end, unless `commit` keeps it. With -n a node is made of the\n"
    "image's options.",
    example="drive_add 0 if=none,id=d0,file=disk.qcow2,format=qcow2\n"
    "drive_add -n 0 driver=qcow2,node-name=n0,file.driver=file,file.filename=other.qcow2",
    arguments_help={
        "node": "make a node, not a drive",
        "pci_addr": "ignored",
        "opts": "key=value,… as for QEMU's -drive; a comma in a value is written twice",
    },
)
async def drive_add(session: Session, node: bool, pci_addr: str, opts: str) -> str | None:
    await _as_said(session, DriveAdd(options=opts, node=node))
    return None if node else "OK"


@command(
    "drive_del",
    "id:B",
    help="remove host block device",
    params="device",
    details="Takes the drive away and closes its image, unless something else uses it. A node of\n"
    "that name that was added by the user is deleted as blockdev-del does it.",
    example="drive_del d0",
)
async def drive_del(session: Session, id: str) -> None:
    """As HMP: a node's name comes before a drive's."""
    if id in texts_of(session.engine.names("node")):
        await _as_said(session, BlockdevDel(node_name=id))
    else:
        await _as_said(session, DriveDel(id=id))


@command(
    "block_set_io_throttle",
    "device:D,bps:i,bps_rd:i,bps_wr:i,iops:i,iops_rd:i,iops_wr:i",
    help="change I/O throttle limits for a block drive",
    params="device bps bps_rd bps_wr iops iops_rd iops_wr",
    details="Of what goes through the drive in a second: bytes, then requests; all, those that\n"
    "read, those that write; 0 for no limit. A limit of all excludes those of a part. Bursts,\n"
    "and groups of drives, are options of drive_add and fields of the QMP request.",
    example="block_set_io_throttle d0 10485760 0 0 0 0 0\nblock_set_io_throttle d0 0 0 0 0 0 0",
    arguments_help={
        "device": "the drive",
        "bps": "bytes a second",
        "bps_rd": "bytes a second that are read",
        "bps_wr": "bytes a second that are written",
        "iops": "requests a second",
        "iops_rd": "reads a second",
        "iops_wr": "writes a second",
    },
)
async def block_set_io_throttle(
    session: Session,
    device: str,
    bps: int,
    bps_rd: int,
    bps_wr: int,
    iops: int,
    iops_rd: int,
    iops_wr: int,
) -> None:
    request = BlockSetIoThrottle(
        device=device,
        bps=bps,
        bps_rd=bps_rd,
        bps_wr=bps_wr,
        iops=iops,
        iops_rd=iops_rd,
        iops_wr=iops_wr,
    )
    await session.engine.execute(request)
