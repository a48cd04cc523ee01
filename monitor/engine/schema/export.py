"""Exports: nodes offered to other programs, and the servers that offer them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, UnsetType

from monitor.engine.schema.base import (
    DeviceName,
    FileName,
    Int,
    Names,
    NewName,
    NodeName,
    ObjectName,
    Options,
    Request,
    Result,
)
from monitor.engine.schema.bitmap import BlockDirtyBitmapOrStr
from monitor.engine.schema.sockets import (
    AnySocketAddress,
    FdSocketAddress,
    InetSocketAddress,
    SocketAddress,
    SocketAddressFd,
    SocketAddressInet,
    SocketAddressUnix,
    SocketAddressVsock,
    UnixSocketAddress,
    VsockSocketAddress,
)

BlockExportType = Literal["nbd", "vhost-user-blk", "fuse", "vduse-blk"]
BlockExportRemoveMode = Literal["safe", "hard"]

ExportName = Annotated[str, Names("export")]


class SocketAddressLegacy(Options, tag_field="type", kw_only=True):
    """The same with one more level, as nbd-server-start has it."""


class InetSocketAddressWrapper(SocketAddressLegacy, tag="inet", kw_only=True):
    data: InetSocketAddress


class UnixSocketAddressWrapper(SocketAddressLegacy, tag="unix", kw_only=True):
    data: UnixSocketAddress


class VsockSocketAddressWrapper(SocketAddressLegacy, tag="vsock", kw_only=True):
    data: VsockSocketAddress


class FdSocketAddressWrapper(SocketAddressLegacy, tag="fd", kw_only=True):
    data: FdSocketAddress


AnySocketAddressLegacy = (
    InetSocketAddressWrapper
    | UnixSocketAddressWrapper
    | VsockSocketAddressWrapper
    | FdSocketAddressWrapper
)


class NbdServerStart(Request, kw_only=True, tag="nbd-server-start"):
    """Begin to listen for NBD clients; exports are added by block-export-add."""

    addr: Annotated[AnySocketAddressLegacy, "where to listen"]
    tls_creds: Annotated[ObjectName, "the object with the server's TLS credentials"] | UnsetType = (
        UNSET
    )
    tls_authz: Annotated[ObjectName, "the object that judges clients' certificates"] | UnsetType = (
        UNSET
    )
    max_connections: (
        Annotated[int, Int("uint32"), "clients at once, 0 for no limit (default 100)"] | UnsetType
    ) = UNSET

    example = "nbd-server-start addr.type=unix addr.data.path=nbd.sock"


class NbdServerOptions(Options, kw_only=True):
    """``--nbd-server``: nbd-server-start on the command line."""

    addr: AnySocketAddress
    tls_creds: str | UnsetType = UNSET
    tls_authz: str | UnsetType = UNSET
    max_connections: Annotated[int, Int("uint32")] | UnsetType = UNSET


def nbd_server_start(options: NbdServerOptions) -> NbdServerStart:
    """The request that an option of the command line stands for."""
    wrappers: dict[type[SocketAddress], Any] = {
        SocketAddressInet: InetSocketAddressWrapper,
        SocketAddressUnix: UnixSocketAddressWrapper,
        SocketAddressVsock: VsockSocketAddressWrapper,
        SocketAddressFd: FdSocketAddressWrapper,
    }
    return NbdServerStart(
        addr=wrappers[type(options.addr)](data=options.addr),
        tls_creds=options.tls_creds,
        tls_authz=options.tls_authz,
        max_connections=options.max_connections,
    )


class NbdServerStop(Request, kw_only=True, tag="nbd-server-stop"):
    """End the NBD server: its exports go, its clients are hung up on."""

    example = "nbd-server-stop"


class NbdServerAdd(Request, kw_only=True, tag="nbd-server-add"):
    """Offer a drive or node to NBD clients (block-export-add can more)."""

    features = ("deprecated",)

    name: Annotated[NewName, "the export's name (default: the device's)"] | UnsetType = UNSET
    description: Annotated[str, "what clients are told of it"] | UnsetType = UNSET
    device: Annotated[DeviceName, "what is offered"]
    writable: Annotated[bool, "clients may write"] | UnsetType = UNSET
    bitmap: Annotated[str, "a dirty bitmap that clients may read"] | UnsetType = UNSET

    example = "nbd-server-add device=d0 writable=true"


class NbdServerRemove(Request, kw_only=True, tag="nbd-server-remove"):
    """Take back what nbd-server-add offers."""

    features = ("deprecated",)

    name: Annotated[ExportName, "the export"]
    mode: Annotated[BlockExportRemoveMode, "also while clients use it"] | UnsetType = UNSET

    example = "nbd-server-remove name=d0"


class BlockExportOptions(Options, tag_field="type", kw_only=True):
    """Members that every type of export has."""

    id: Annotated[NewName, "the export's id"]
    fixed_iothread: Annotated[bool, "the node may not move from the thread"] | UnsetType = UNSET
    iothread: Annotated[ObjectName, "the threads that serve it"] | UnsetType = UNSET
    node_name: Annotated[NodeName, "what is offered"]
    writable: Annotated[bool, "clients may write"] | UnsetType = UNSET
    writethrough: Annotated[bool, "each write is flushed"] | UnsetType = UNSET


class BlockExportOptionsNbd(BlockExportOptions, tag="nbd", kw_only=True):
    name: Annotated[NewName, "the export's name (default: the node's)"] | UnsetType = UNSET
    description: Annotated[str, "what clients are told of it"] | UnsetType = UNSET
    bitmaps: (
        Annotated[list[BlockDirtyBitmapOrStr], "dirty bitmaps that clients may read"] | UnsetType
    ) = UNSET
    allocation_depth: Annotated[bool, "clients may ask which layer holds what"] | UnsetType = UNSET


FuseExportAllowOther = Literal["off", "on", "auto"]


class BlockExportOptionsFuse(BlockExportOptions, tag="fuse", kw_only=True):
    mountpoint: Annotated[FileName, "the file that shows the node's bytes; it must exist"]
    growable: Annotated[bool, "a write past the end makes it larger"] | UnsetType = UNSET
    allow_other: Annotated[FuseExportAllowOther, "other users may use it"] | UnsetType = UNSET


AnyExportOptions = BlockExportOptionsNbd | BlockExportOptionsFuse


class BlockExportAdd(Request, kw_only=True, tag="block-export-add"):
    """Offer a node to other programs."""

    flattened = "options"
    options: AnyExportOptions

    example = "block-export-add type=nbd id=e0 node-name=n0 writable=true"


class BlockExportDel(Request, kw_only=True, tag="block-export-del"):
    """Take an export back."""

    id: Annotated[ExportName, "the export"]
    mode: Annotated[BlockExportRemoveMode, "also while clients use it"] | UnsetType = UNSET

    example = "block-export-del id=e0 mode=hard"


class BlockExportInfo(Result, kw_only=True):
    id: str
    type: BlockExportType
    node_name: str
    shutting_down: bool


class QueryBlockExports(Request, kw_only=True, tag="query-block-exports"):
    """All exports, those on their way out included."""

    returns = list[BlockExportInfo]
    example = "query-block-exports"
