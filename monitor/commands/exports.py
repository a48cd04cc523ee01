"""``nbd_server_…`` and ``info exports``: nodes offered to other programs."""

from __future__ import annotations

from monitor.commands.registry import Answer, Session, command
from monitor.engine.errors import RequestError
from monitor.engine.schema.base import UNSET, optional
from monitor.engine.schema.export import (
    AnySocketAddressLegacy,
    BlockExportAdd,
    BlockExportInfo,
    BlockExportOptionsNbd,
    InetSocketAddressWrapper,
    NbdServerAdd,
    NbdServerRemove,
    NbdServerStart,
    NbdServerStop,
    QueryBlockExports,
    UnixSocketAddressWrapper,
)
from monitor.engine.schema.query import BlockInfo, QueryBlock
from monitor.engine.schema.sockets import InetSocketAddress, UnixSocketAddress


class WritableWithoutAll(RequestError):
    template = "-w only valid together with -a"


class BadAddress(RequestError):
    template = "error parsing address '{address}'"
    address: str


@command(
    "nbd_server_start",
    "all:-a,writable:-w,uri:s",
    help="serve block devices on the given host and port",
    params="[-a] [-w] host:port",
    details="unix:PATH listens on a socket of the file system, which only you can use. Without a\n"
    "host it is every address of this machine.",
    example="nbd_server_start -a unix:nbd.sock",
    arguments_help={
        "all": "export all drives that hold a disk",
        "writable": "with -a: clients may write",
        "uri": "host:port or unix:PATH",
    },
)
async def nbd_server_start(session: Session, all: bool, writable: bool, uri: str) -> None:
    if writable and not all:
        raise WritableWithoutAll()
    engine = session.engine
    await engine.execute(NbdServerStart(addr=parse_address(uri)))
    if not all:
        return
    drives: list[BlockInfo] = await engine.execute(QueryBlock())
    try:
        for drive in drives:
            if drive.inserted is not UNSET:
                node_name = drive.inserted.node_name
                assert isinstance(node_name, str)
                await engine.execute(
                    BlockExportAdd(
                        options=BlockExportOptionsNbd(
                            id=drive.device,
                            node_name=node_name,
                            name=drive.device,
                            writable=writable,
                        )
                    )
                )
    except RequestError:
        await engine.execute(NbdServerStop())
        raise


def parse_address(text: str) -> AnySocketAddressLegacy:
    """An address as HMP takes it. Raises BadAddress."""
    if text.startswith("unix:"):
        if text == "unix:":
            raise BadAddress(text)
        return UnixSocketAddressWrapper(data=UnixSocketAddress(path=text.removeprefix("unix:")))
    host, separator, port = text.rpartition(":")
    if not separator or not port:
        raise BadAddress(text)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    return InetSocketAddressWrapper(data=InetSocketAddress(host=host, port=port))


@command(
    "nbd_server_add",
    "writable:-w,device:B,name:s?",
    help="export a block device via NBD",
    params="[-w] device [name]",
    details="The server must run (nbd_server_start).",
    example="nbd_server_add -w d0",
    arguments_help={
        "writable": "clients may write",
        "device": "what is exported",
        "name": "the export's name (default: the device's)",
    },
)
async def nbd_server_add(session: Session, writable: bool, device: str, name: str | None) -> None:
    await session.engine.execute(
        NbdServerAdd(device=device, name=optional(name), writable=writable)
    )


@command(
    "nbd_server_remove",
    "force:-f,name:X",
    help="remove an export previously exposed via NBD",
    params="[-f] name",
    details="Without -f it is refused while clients use the export.",
    example="nbd_server_remove -f d0",
    arguments_help={"force": "hang up on clients that use it", "name": "the export"},
)
async def nbd_server_remove(session: Session, force: bool, name: str) -> None:
    await session.engine.execute(NbdServerRemove(name=name, mode="hard" if force else "safe"))


@command(
    "nbd_server_stop",
    help="stop serving block devices using the NBD protocol",
    details="All its exports go, its clients are hung up on.",
    example="nbd_server_stop",
)
async def nbd_server_stop(session: Session) -> None:
    await session.engine.execute(NbdServerStop())


@command(
    "info exports",
    help="show what is offered to other programs",
    hmp=False,
    example="info exports",
)
async def info_exports(session: Session) -> Answer:
    exports: list[BlockExportInfo] = await session.engine.execute(QueryBlockExports())
    return Answer(exports, lambda: "\n".join(map(_export_line, exports)) or "No exports")


def _export_line(export: BlockExportInfo) -> str:
    state = ", shutting down: waits for its clients" if export.shutting_down else ""
    return f"{export.id}: {export.type}, node {export.node_name}{state}"
