"""The NBD driver, and servers that answer it with whatever a test likes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from monitor.engine.drivers.base import OpenContext, OpenFlags
from monitor.engine.drivers.nbd.driver import NbdDriver
from monitor.engine.schema.blockdev import BlockdevOptionsNbd
from monitor.engine.schema.sockets import SocketAddressUnix
from monitor.wire.nbd import layout as n
from monitor.wire.nbd import transmission as t
from monitor.wire.nbd.handshake import ServerHandshake
from monitor.wire.nbd.offers import Offer
from tests.support.nbd import FLAGS

SIZE = 1 << 20


def opened(path: Path, flags: OpenFlags | None = None, **options: Any) -> NbdDriver:
    driver = NbdDriver()
    server = SocketAddressUnix(path=str(path))
    chosen = BlockdevOptionsNbd(server=server, **{"export": "disk"} | options)
    driver.open(OpenContext(chosen, flags or OpenFlags(), "node", {}))
    return driver


def byte_at(driver: NbdDriver, offset: int) -> int:
    buffer = bytearray(1)
    driver.read(memoryview(buffer), offset)
    return buffer[0]


class Hostile:
    """Negotiates as it should, then answers each request with what ``reply`` makes of it."""

    def __init__(self, path: Path, reply: Callable[[t.NbdRequest], bytes]) -> None:
        self._reply = reply
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._main)
        self._thread.start()

    def names(self) -> dict[str, str]:
        return {}

    def find(self, name: str) -> Offer:
        return Offer(name, SIZE, FLAGS)

    def _main(self) -> None:
        try:
            while True:
                sock, _ = self._listener.accept()
                with sock, suppress(ConnectionAbortedError):
                    self._serve(sock)
        except OSError:
            return

    def _serve(self, sock: socket.socket) -> None:
        handshake = ServerHandshake(self)
        sock.sendall(handshake.take())
        while not handshake.over:
            handshake.feed(sock.recv(4096))
            sock.sendall(handshake.take())
        while len(data := sock.recv(n.REQUEST.size, socket.MSG_WAITALL)) == n.REQUEST.size:
            request = t.read_request(memoryview(data), 0)
            if request.type == n.CMD_DISC:
                return
            sock.sendall(self._reply(request))

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@contextmanager
def facing(
    path: Path, reply: Callable[[t.NbdRequest], bytes], **options: Any
) -> Iterator[NbdDriver]:
    server = Hostile(path, reply)
    driver = opened(path, **options)
    try:
        yield driver
    finally:
        driver.close()
        server.close()
