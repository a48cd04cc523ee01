"""Where an NBD server is: sockets connected from options, options and file names of each other."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from monitor.addresses import AddressUnsupported, resolve
from monitor.engine.errors import RequestError, host_failure
from monitor.engine.schema.base import given
from monitor.engine.schema.sockets import (
    AnySocketAddress,
    SocketAddressFd,
    SocketAddressInet,
    SocketAddressUnix,
)

DEFAULT_PORT = "10809"


class InvalidName(RequestError):
    template = "No valid URL specified"


def connect(address: AnySocketAddress, timeout: float) -> socket.socket:
    """A connected socket; each address is tried for ``timeout`` seconds at most. Raises
    RequestError, whose cause is the OSError where there was one."""
    failure: OSError | None = None
    for family, where in _places(address):
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.settimeout(timeout)
        try:
            sock.connect(where)
        except OSError as error:
            sock.close()
            failure = error
            continue
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if isinstance(address, SocketAddressInet) and address.keep_alive is True:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return sock
    assert failure is not None
    raise host_failure(f"Failed to connect to '{_words(address)}'", failure) from failure


def _places(address: AnySocketAddress) -> Iterator[tuple[int, Any]]:
    """Families and addresses to try. Raises RequestError."""
    if isinstance(address, SocketAddressUnix):
        path: str | bytes = address.path
        if address.abstract is True:
            path = b"\0" + address.path.encode()
            path = path if address.tight is not False else path.ljust(108, b"\0")
        yield socket.AF_UNIX, path
        return
    if not isinstance(address, SocketAddressInet):
        raise AddressUnsupported(str(type(address).__struct_config__.tag))
    found = resolve(address.host, address.port, ipv4=given(address.ipv4), ipv6=given(address.ipv6))
    for kind, _, _, _, where in found:
        yield kind, where


def _words(address: AnySocketAddress) -> str:
    if isinstance(address, SocketAddressUnix):
        return address.path
    if isinstance(address, SocketAddressInet):
        return f"{address.host}:{address.port}"
    return address.str_ if isinstance(address, SocketAddressFd) else address.port


# -- file names ------------------------------------------------------------------------------


def filename_of(address: AnySocketAddress, export: str) -> str:
    """The name by which QEMU shows the disk; '' when it has none."""
    name = quote(export)
    if isinstance(address, SocketAddressUnix):
        return f"nbd+unix://{'/' + name if name else ''}?socket={address.path}"
    if isinstance(address, SocketAddressInet):
        host = f"[{address.host}]" if ":" in address.host else address.host
        return f"nbd://{host}:{address.port}{'/' + name if name else ''}"
    return ""


def options_of(filename: str) -> dict[str, Any]:
    """The options that ``nbd:…``, ``nbd://…`` or ``nbd+unix://…`` stands for. Raises
    InvalidName."""
    if "://" not in filename:
        return _old_style(filename.removeprefix("nbd:"))
    parts = urlsplit(filename)
    query = parse_qs(parts.query)
    export = unquote(parts.path.removeprefix("/"))
    server: dict[str, Any]
    if parts.scheme == "nbd+unix":
        if parts.netloc or "socket" not in query:
            raise InvalidName()
        server = {"type": "unix", "path": query["socket"][0]}
    elif parts.scheme in ("nbd", "nbd+tcp") and parts.hostname and not query:
        with contextlib.suppress(ValueError):
            port = str(parts.port or DEFAULT_PORT)
            server = {"type": "inet", "host": parts.hostname, "port": port}
            return {"driver": "nbd", "server": server} | ({"export": export} if export else {})
        raise InvalidName()
    else:
        raise InvalidName()
    return {"driver": "nbd", "server": server} | ({"export": export} if export else {})


_OLD = re.compile(r"(?:unix:(?P<path>[^:]+)|(?P<host>\[[^]]+\]|[^:]*):(?P<port>[^:]+))"
                  r"(?::exportname=(?P<export>.*))?")  # fmt: skip


def _old_style(text: str) -> dict[str, Any]:
    """``host:port`` or ``unix:path``, and perhaps ``:exportname=name``."""
    match = _OLD.fullmatch(text)
    if match is None:
        raise InvalidName()
    server: dict[str, Any] = {"type": "unix", "path": match["path"]}
    if match["path"] is None:
        server = {"type": "inet", "host": match["host"].strip("[]"), "port": match["port"]}
    return {"driver": "nbd", "server": server} | (
        {"export": match["export"]} if match["export"] else {}
    )
