"""A connection that is encrypted, for one thread that reads while others write.

Python's ``SSLSocket`` must not be used by two threads at once, and a lock around its blocking calls
would keep every writer waiting for the reader. So TLS is done in memory, under a lock that is only
held for moments, and the socket is read and written outside of it.
"""

from __future__ import annotations

import ssl
import threading
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    import socket

RECORDS: Final = 64 << 10
"""Bytes that are encrypted, sent or received in one go."""


class TlsSocket:
    """What a connection needs of a socket, encrypted over ``sock``."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, hostname: str | None) -> None:
        """``hostname`` is what the other side's certificate must be for, None for anything."""
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=hostname)
        self._lock = threading.Lock()
        self._sending = threading.Lock()

    def do_handshake(self) -> None:
        """Before anything else, by one thread. Raises OSError (ssl.SSLError)."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._send_pending()
                self._receive()
            except ssl.SSLError:
                self._send_pending()  # the other side learns why
                raise
            else:
                self._send_pending()
                return

    def recv_into(self, buffer: memoryview) -> int:
        """Some bytes, at least one; 0 at the end. By one thread at a time."""
        while True:
            try:
                with self._lock:
                    # With a buffer it gives the number of bytes, whatever its type says.
                    return cast("int", self._tls.read(len(buffer), buffer))
            except ssl.SSLWantReadError:
                pass
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return 0
            # Who writes takes along what TLS itself has to say, such as new keys.
            if self._outgoing.pending and self._sending.acquire(blocking=False):
                try:
                    self._send_pending()
                finally:
                    self._sending.release()
            self._receive()

    def recv(self, size: int) -> bytes:
        room = bytearray(size)
        return bytes(room[: self.recv_into(memoryview(room))])

    def sendall(self, data: bytes | memoryview) -> None:
        """From any thread; what two threads send does not mix."""
        view = memoryview(data).cast("B")
        with self._sending:
            for at in range(0, len(view), RECORDS):
                with self._lock:
                    self._tls.write(view[at : at + RECORDS])
                self._send_pending()

    def settimeout(self, seconds: float | None) -> None:
        self._sock.settimeout(seconds)

    def shutdown(self, how: int) -> None:
        self._sock.shutdown(how)

    def close(self) -> None:
        self._sock.close()

    def _send_pending(self) -> None:
        with self._lock:
            data = self._outgoing.read()
        if data:
            self._sock.sendall(data)

    def _receive(self) -> None:
        data = self._sock.recv(RECORDS)
        with self._lock:
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()
