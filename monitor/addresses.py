"""Hosts and ports to addresses, for clients and for servers."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

from monitor.engine.errors import RequestError

Found = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]
"""Family, type, protocol, canonical name and address: as ``socket.getaddrinfo`` has it."""


class NotResolved(RequestError):
    template = "address resolution failed for {host}:{port}: {reason}"
    host: str
    port: str
    reason: str


class AddressUnsupported(RequestError):
    template = "Addresses of type '{type}' are not supported here"
    type: str


def resolve(
    host: str, port: str, *, ipv4: bool | None, ipv6: bool | None, listen: bool = False
) -> Sequence[Found]:
    """The addresses of ``host``, of the families that are wanted: what is left out (None) is wanted
    unless the other family is asked for. Blocks for a name's look-up. ``listen``: "" is any address
    of this machine. Raises NotResolved."""
    family = socket.AF_UNSPEC
    if ipv4 is False or (ipv6 and not ipv4):
        family = socket.AF_INET6
    elif ipv6 is False or (ipv4 and not ipv6):
        family = socket.AF_INET
    flags = socket.AI_PASSIVE if listen else 0
    name = (host or None) if listen else host
    try:
        return socket.getaddrinfo(name, port, family, socket.SOCK_STREAM, flags=flags)
    except OSError as error:
        raise NotResolved(host, port, error.strerror or str(error)) from error
