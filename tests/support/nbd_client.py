"""NBD connections for tests, made by hand."""

from __future__ import annotations

import socket
from pathlib import Path

from monitor.engine.drivers.nbd.connection import Connection
from monitor.wire.nbd import layout as n
from monitor.wire.nbd.client import ClientHandshake
from monitor.wire.nbd.offers import ALLOCATION


def begun(path: Path, export: str) -> tuple[socket.socket, ClientHandshake]:
    """A socket on which requests may be made."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(30)
    sock.connect(str(path))
    handshake = ClientHandshake(export, ALLOCATION)
    while not handshake.over:
        data = sock.recv(n.MAX_OPTION)
        assert data, "hung up"
        handshake.feed(data)
        sock.sendall(handshake.take())
    return sock, handshake


def opened(path: Path, export: str) -> Connection:
    return Connection(*begun(path, export))
