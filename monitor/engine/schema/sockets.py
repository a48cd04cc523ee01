"""Addresses of sockets."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, UnsetType

from monitor.engine.schema.base import FileName, Options, UInt16


class InetSocketAddress(Options, kw_only=True):
    host: Annotated[str, "a name or an address"]
    port: Annotated[str, "a number, or a service's name"]
    numeric: bool | UnsetType = UNSET
    to: Annotated[UInt16, "the last port to try"] | UnsetType = UNSET
    ipv4: bool | UnsetType = UNSET
    ipv6: bool | UnsetType = UNSET
    keep_alive: bool | UnsetType = UNSET
    mptcp: bool | UnsetType = UNSET


class UnixSocketAddress(Options, kw_only=True):
    path: Annotated[FileName, "the socket's file"]
    abstract: Annotated[bool, "a name of the kernel's, and no file"] | UnsetType = UNSET
    tight: Annotated[bool, "such a name is no longer than its text"] | UnsetType = UNSET


class VsockSocketAddress(Options, kw_only=True):
    cid: str
    port: str


class FdSocketAddress(Options, kw_only=True):
    str_: str


class SocketAddress(Options, tag_field="type", kw_only=True):
    """Where a server listens, or a client finds it."""


class SocketAddressInet(SocketAddress, InetSocketAddress, tag="inet", kw_only=True):
    """A host and a port."""


class SocketAddressUnix(SocketAddress, UnixSocketAddress, tag="unix", kw_only=True):
    """A socket of the file system."""


class SocketAddressVsock(SocketAddress, VsockSocketAddress, tag="vsock", kw_only=True):
    """A virtual machine's socket."""


class SocketAddressFd(SocketAddress, FdSocketAddress, tag="fd", kw_only=True):
    """A descriptor that is open already."""


AnySocketAddress = SocketAddressInet | SocketAddressUnix | SocketAddressVsock | SocketAddressFd
