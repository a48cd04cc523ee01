"""The connection to a server that may go away and come back.

    connected --the server is gone--> trying again, every RETRY seconds
                                         |       for reconnect-delay seconds requests wait,
                                         |       and are made again when it is back;
                                         v       after that they fail at once
                                      connected

A server that comes back with another disk (a smaller one, or one that may not be written) is not
the one that we had: requests fail from then on.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from monitor.engine.drivers.nbd.address import connect
from monitor.engine.drivers.nbd.connection import Connection, Request
from monitor.engine.errors import RequestError
from monitor.engine.schema.sockets import AnySocketAddress
from monitor.wire.nbd import layout as n
from monitor.wire.nbd.client import ClientHandshake, ServerRefused

if TYPE_CHECKING:
    import socket
    import ssl

    from monitor.engine.drivers.nbd.tls import TlsSocket

RETRY: Final = 0.25
"""Seconds between two tries to connect."""
PATIENCE: Final = 15.0
"""Seconds that a server has to answer each step of the negotiation."""


class NotLetIn(RequestError):
    template = "{reason}"
    reason: str


class Where(NamedTuple):
    """What to connect to."""

    server: AnySocketAddress
    export: str
    context: str
    tls: Encryption | None = None


class Encryption(NamedTuple):
    """``hostname`` is what the server's certificate must be for; None: for anything."""

    context: ssl.SSLContext
    hostname: str | None


class TlsFailed(RequestError):
    template = "TLS handshake failed: {reason}"
    reason: str


class Session:
    """The connection as its user sees it: there, or on its way back.

    ``delay`` is how long, in seconds, requests wait for a server that is gone; ``open_timeout``
    how long the first connection is tried for. Both are 0 for not at all.
    """

    def __init__(self, where: Where, delay: float = 0, open_timeout: float = 0) -> None:
        self._where = where
        self._delay = delay
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._lost_at = 0.0
        self._given_up = False
        self._trying: threading.Thread | None = None
        self._connection: Connection | None = self._first(open_timeout)
        self.handshake = self._connection.handshake

    def stop_waiting(self, *, for_good: bool = False) -> None:
        """Until the server is back, requests wait for it no longer: those that do fail now."""
        with self._changed:
            self._given_up = True
            self._delay = 0 if for_good else self._delay
            self._changed.notify_all()

    def close(self) -> None:
        """Hangs up and ends the tries to connect; nothing is in flight."""
        self._closing.set()
        with self._changed:
            connection, self._connection = self._connection, None
            trying = self._trying
        if connection is not None:
            connection.close()
        if trying is not None:
            trying.join()

    def call(self, *requests: Request) -> list[tuple[int, int]]:
        """``Connection.call_all``; what was lost again, as long as the server may come back. Raises
        OSError."""
        left: Sequence[Request] = requests
        while True:
            connection = self._there()
            extents, left = connection.call_all(left)
            if not left:
                return extents
            self._gone(connection)

    # -- connecting --------------------------------------------------------------------------

    def _first(self, timeout: float) -> Connection:
        """The first connection. Raises RequestError."""
        until = time.monotonic() + timeout
        while True:
            try:
                return self._connect()
            except RequestError:
                if time.monotonic() >= until:
                    raise
            self._closing.wait(RETRY)

    def _connect(self) -> Connection:
        where = self._where
        sock: socket.socket | TlsSocket = connect(where.server, PATIENCE)
        handshake = ClientHandshake(where.export, where.context, tls=where.tls is not None)
        try:
            while not handshake.over:
                data = sock.recv(n.MAX_OPTION)
                if not data:
                    raise OSError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
                handshake.feed(data)
                if handshake.wants_tls:
                    assert where.tls is not None
                    sock = _encrypted(sock, where.tls)
                    handshake.tls_started()
                sock.sendall(handshake.take())
        except ServerRefused as refused:
            sock.close()
            raise NotLetIn(str(refused)) from refused
        except TlsFailed:
            sock.close()
            raise
        except OSError as error:
            sock.close()
            reason = error.strerror or str(error)
            raise NotLetIn(f"Failed to read initial magic: {reason}") from error
        try:
            return Connection(sock, handshake)
        except RuntimeError as error:  # the host has no thread for it
            sock.close()
            raise NotLetIn(os.strerror(errno.EAGAIN)) from error

    # -- losing it ---------------------------------------------------------------------------

    def _there(self) -> Connection:
        """The connection, waited for as long as the delay allows. Raises OSError (EIO)."""
        with self._changed:
            until = self._lost_at + self._delay
            self._changed.wait_for(
                lambda: self._connection or self._given_up or self._closing.is_set(),
                max(0.0, until - time.monotonic()),
            )
            if self._connection is None:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return self._connection

    def _gone(self, connection: Connection) -> None:
        """The first who finds it gone has it tried again."""
        with self._changed:
            if self._connection is not connection or self._closing.is_set():
                return
            self._connection = None
            self._given_up = False
            self._lost_at = time.monotonic()
            self._trying = threading.Thread(
                target=self._try_again, args=(connection,), name="nbd reconnect", daemon=True
            )
            try:
                self._trying.start()
            except RuntimeError as error:  # the host has no thread for it: the next request tries
                self._trying, self._connection = None, connection
                raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error

    def _try_again(self, old: Connection) -> None:
        old.close()
        while not self._closing.wait(RETRY):
            try:
                connection = self._connect()
            except RequestError:
                continue
            if not _same_disk(old.handshake, connection.handshake):
                connection.close()
                return
            with self._changed:
                if not self._closing.is_set():
                    self._connection = connection
                    self._changed.notify_all()
                    return
            connection.close()


def _encrypted(sock: Any, encryption: Encryption) -> TlsSocket:
    """Raises TlsFailed."""
    import ssl

    from monitor.engine.drivers.nbd.tls import TlsSocket

    encrypted = TlsSocket(sock, encryption.context, encryption.hostname)
    try:
        encrypted.do_handshake()
    except ssl.SSLCertVerificationError as error:
        raise TlsFailed(error.verify_message) from error
    except OSError as error:
        raise TlsFailed(getattr(error, "reason", None) or error.strerror or str(error)) from error
    return encrypted


def _same_disk(old: ClientHandshake, new: ClientHandshake) -> bool:
    lost = old.flags & ~new.flags & ~n.FLAG_READ_ONLY
    read_only = new.flags & ~old.flags & n.FLAG_READ_ONLY
    same_map = (old.context_id is None) == (new.context_id is None)
    same_blocks = new.minimum_block <= old.minimum_block
    return new.size == old.size and not lost and not read_only and same_map and same_blocks
