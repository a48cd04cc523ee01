"""The doors of a QMP server that are sockets: listened at, or connected to (``--qmp``)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import Any

from monitor.engine.errors import host_failure
from monitor.servers.channel import SocketChannel
from monitor.servers.door import Door
from monitor.servers.listening import listen_inet, listen_unix
from monitor.servers.qmp import QmpServer

MAX_CLIENTS = 64
"""Socket clients at once; another one is hung up on."""


class Doors:
    """The sockets of a process's QMP server."""

    def __init__(self, server: QmpServer) -> None:
        self._server = server
        self._accepting: list[asyncio.Task[None]] = []
        self._listeners: list[socket.socket] = []
        self._paths: list[str] = []

    async def open(self, door: Door) -> None:
        """Listens or connects. Raises RequestError."""
        if not door.server:
            self._server.begin(SocketChannel(await _connected(door)))
            return
        for listener in await asyncio.to_thread(self._listen, door):
            listener.setblocking(False)
            self._listeners.append(listener)
            self._accepting.append(asyncio.ensure_future(self._accept(listener)))

    def close(self) -> None:
        for task in self._accepting:
            task.cancel()
        for listener in self._listeners:
            listener.close()
        for path in self._paths:
            with contextlib.suppress(OSError):
                os.unlink(path)

    def _listen(self, door: Door) -> list[socket.socket]:
        if door.path is None:
            return listen_inet(door.host, door.port)
        listener = listen_unix(door.path)
        self._paths.append(door.path)
        return [listener]

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(listener)
            except OSError:  # no descriptors left: others may end meanwhile
                await asyncio.sleep(0.1)
                continue
            if len(self._server) >= MAX_CLIENTS:
                sock.close()
            else:
                self._server.begin(SocketChannel(sock))


async def _connected(door: Door) -> socket.socket:
    loop = asyncio.get_running_loop()
    family = socket.AF_UNIX if door.path is not None else socket.AF_INET
    address: Any
    try:
        if door.path is None:
            found = await loop.getaddrinfo(door.host, door.port, type=socket.SOCK_STREAM)
            family, _, _, _, address = found[0]
        else:
            address = door.path
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, address)
        except OSError:
            sock.close()
            raise
    except OSError as error:
        raise host_failure(f"Failed to connect to '{door.path or door.host}'", error) from error
    return sock
