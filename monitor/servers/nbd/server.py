"""The NBD server: listens, keeps what is offered, and counts its connections."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from monitor.addresses import AddressUnsupported
from monitor.engine.api import Exported
from monitor.engine.errors import RequestError, ServerNotRunning
from monitor.engine.schema.base import given
from monitor.engine.schema.export import (
    AnySocketAddressLegacy,
    BlockExportOptionsNbd,
    NbdServerStart,
)
from monitor.engine.schema.sockets import InetSocketAddress, UnixSocketAddress
from monitor.servers.listening import listen_abstract, listen_inet, listen_unix
from monitor.servers.nbd.connection import Connection
from monitor.servers.nbd.helpers import Budget
from monitor.wire.nbd import layout as n
from monitor.wire.nbd.offers import ALLOCATION, BITMAP, DEPTH, Offer, Offers

if TYPE_CHECKING:
    import ssl

MAX_CONNECTIONS: Final = 100
"""Clients at once where the start names no number."""
HANDSHAKE_SECONDS: Final = 10.0


class NameTooLong(RequestError):
    template = "export name '{name}' too long"
    name: str


class DescriptionTooLong(RequestError):
    template = "description '{description}' too long"
    description: str


class NameTaken(RequestError):
    template = "NBD server already has export named '{name}'"
    name: str


class NbdServer:
    """An ``ExportServer`` of the engine and the ``Host`` of its connections.

    ``exported`` is replaced, never changed, so that connections' threads look up without a lock.
    """

    def __init__(self) -> None:
        self.tls: ssl.SSLContext | None = None
        self.handshake_seconds = HANDSHAKE_SECONDS
        self.exported: Mapping[str, Exported] = {}
        self.offers: Offers = self
        self.budget = Budget()
        self._listeners: list[socket.socket] = []
        self._path: str | None = None
        self._limit = MAX_CONNECTIONS
        self._lock = threading.Lock()
        self._connections: set[Connection] = set()

    # -- requests, on the loop ---------------------------------------------------------------

    @property
    def running(self) -> bool:
        return bool(self._listeners)

    async def start(self, request: NbdServerStart, tls: ssl.SSLContext | None) -> None:
        """Listens; with ``tls`` nobody is let in unencrypted. Raises RequestError."""
        self.tls = tls
        limit = request.max_connections
        self._limit = given(limit, MAX_CONNECTIONS)
        self._listeners = await asyncio.to_thread(self._listen, request.addr)
        for listener in self._listeners:
            threading.Thread(
                target=self._accept, args=(listener,), name="nbd server", daemon=True
            ).start()

    def _listen(self, address: AnySocketAddressLegacy) -> list[socket.socket]:
        match address.data:
            case UnixSocketAddress(abstract=True) as unix:
                return [listen_abstract(unix.path, tight=unix.tight is not False)]
            case UnixSocketAddress(path=path):
                listener = listen_unix(path)
                self._path = path
                return [listener]
            case InetSocketAddress() as inet:
                return _listen_inet(inet)
        raise AddressUnsupported(str(type(address).__struct_config__.tag))

    async def stop(self) -> None:
        """Listens no more, and hangs up on everybody."""
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes who waits in accept
            listener.close()
        if self._path is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
            self._path = None
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.hang_up()

    def check(self, options: BlockExportOptionsNbd) -> None:
        """Raises RequestError."""
        if not self.running:
            raise ServerNotRunning()
        name = _name(options)
        if len(name.encode()) > n.MAX_STRING:
            raise NameTooLong(name)
        description = options.description
        if isinstance(description, str) and len(description.encode()) > n.MAX_STRING:
            raise DescriptionTooLong(description)
        if name in self.exported:
            raise NameTaken(name)

    async def offer(self, export: Exported) -> None:
        self.exported = {**self.exported, _name(export.options): export}

    def withdraw(self, export: Exported) -> None:
        self.exported = {k: other for k, other in self.exported.items() if other is not export}

    # -- what connections ask, from their threads --------------------------------------------

    def names(self) -> Mapping[str, str]:
        return {name: _description(export) for name, export in self.exported.items()}

    def find(self, name: str) -> Offer | None:
        """The export as it is offered at this moment."""
        export = self.exported.get(name)
        if export is None:
            return None
        return Offer(
            name=name,
            size=export.length(),
            flags=_flags(export),
            description=_description(export),
            contexts=_contexts(export),
        )

    def export(self, name: str) -> Exported | None:
        return self.exported.get(name)

    def ended(self, connection: Connection) -> None:
        with self._lock:
            self._connections.discard(connection)

    # -- the listening threads ---------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        while self.running:
            try:
                sock, _ = listener.accept()
            except OSError as error:
                if error.errno in _LATER:  # no descriptors, no memory: others may end meanwhile
                    time.sleep(0.1)
                    continue
                return
            self._begin(sock)

    def _begin(self, sock: socket.socket) -> None:
        """Too many clients: this one is hung up on."""
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            full = self._limit and len(self._connections) >= self._limit
            if full or not self.running:
                sock.close()
                return
            connection = Connection(self, sock)
            self._connections.add(connection)
        connection.start()


_LATER: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED)


def _listen_inet(inet: InetSocketAddress) -> list[socket.socket]:
    return listen_inet(
        inet.host,
        inet.port,
        to=given(inet.to),
        ipv4=given(inet.ipv4),
        ipv6=given(inet.ipv6),
    )


def _name(options: BlockExportOptionsNbd) -> str:
    return given(options.name, options.node_name)


def _description(export: Exported) -> str:
    told = export.options.description
    return told if isinstance(told, str) else ""


def _flags(export: Exported) -> int:
    flags = n.FLAG_HAS_FLAGS | n.FLAG_SEND_FLUSH | n.FLAG_SEND_FUA | n.FLAG_SEND_CACHE
    flags |= n.FLAG_SEND_DF | n.FLAG_CAN_MULTI_CONN
    if export.writable:
        return flags | n.FLAG_SEND_TRIM | n.FLAG_SEND_WRITE_ZEROES | n.FLAG_SEND_FAST_ZERO
    return flags | n.FLAG_READ_ONLY


def _contexts(export: Exported) -> tuple[str, ...]:
    depth = (DEPTH,) if export.options.allocation_depth is True else ()
    return (ALLOCATION, *depth, *(BITMAP + name for name in export.bitmaps))
