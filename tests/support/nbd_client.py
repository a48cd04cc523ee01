"""NBD connections for tests, made by hand."""

from __future__ import annotations

import socket
from pathlib import Path

from monitor.engine.drivers.nbd.connection import Connection
from monitor.wire.nbd import layout as n
from monitor.wire.nbd.client import ClientHandshake
from monitor.wire.nbd.offers import ALLOCATION


def begun(path: Path, export: str) -> tuple[socket.socket, ClientHandshake]:
    """A socket on which requests may be made. Raises OSError (ConnectionError: hung up)."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.settimeout(30)
        sock.connect(str(path))
        handshake = ClientHandshake(export, ALLOCATION)
        while not handshake.over:
            data = sock.recv(n.MAX_OPTION)
            if not data:
                raise ConnectionError("hung up")
            handshake.feed(data)
            sock.sendall(handshake.take())
    except BaseException:
        sock.close()
        raise
    return sock, handshake


def opened(path: Path, export: str) -> Connection:
    return Connection(*begun(path, export))
