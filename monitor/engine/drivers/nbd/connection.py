"""One connection to an NBD server: many requests in flight, answered in any order.

Whoever makes requests sends them himself and then waits; one thread reads all replies and puts what
they hold straight into the callers' buffers. A server that breaks the protocol is hung up on: it
cannot be known any more which bytes are whose. All that was in flight then fails with
``ConnectionLost``.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import socket
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from monitor.engine.drivers.buffers import zero
from monitor.wire.nbd import layout as n
from monitor.wire.nbd.client import ClientHandshake, request

if TYPE_CHECKING:
    from monitor.engine.drivers.nbd.tls import TlsSocket

IN_FLIGHT: Final = 16
"""Requests that are under way at once, as in QEMU."""


class ConnectionLost(OSError):
    """The connection is gone, or the server broke the protocol; the request may be made again."""

    def __init__(self, reason: str) -> None:
        super().__init__(errno.EIO, reason)


class Request(NamedTuple):
    """What is asked of the server: ``data`` is a write's, ``into`` is filled by a read."""

    kind: int
    offset: int = 0
    length: int = 0
    flags: int = 0
    data: memoryview | None = None
    into: memoryview | None = None


class _Call:
    """A request in flight; ``context`` is that of a block status."""

    __slots__ = (
        "context",
        "cookie",
        "done",
        "error",
        "extents",
        "into",
        "missing",
        "request",
        "seen",
    )

    def __init__(self, request: Request, context: int | None) -> None:
        self.request = request
        self.context = context
        self.cookie = 0
        self.into = request.into
        self.missing = len(request.into) if request.into is not None else 0
        self.seen: list[tuple[int, int]] = []
        self.extents: list[tuple[int, int]] = []
        self.error: OSError | None = None
        self.done = threading.Event()


class Connection:
    """An open export. ``sock`` is connected and negotiated for as ``handshake`` says."""

    def __init__(self, sock: socket.socket | TlsSocket, handshake: ClientHandshake) -> None:
        sock.settimeout(None)
        self.handshake = handshake
        self.lost: ConnectionLost | None = None
        self._sock = sock
        self._sending = threading.Lock()
        self._calls: dict[int, _Call] = {}
        self._lock = threading.Lock()
        self._room = threading.Semaphore(IN_FLIGHT)
        self._next = 0
        stream = _Joined(handshake.rest, sock)
        self._input = io.BufferedReader(stream, 64 << 10)
        self._reader = threading.Thread(target=self._read, name="nbd replies", daemon=True)
        self._reader.start()

    def close(self) -> None:
        """Says goodbye and hangs up; nothing is in flight."""
        with contextlib.suppress(OSError), self._sending:
            self._sock.sendall(request(n.CMD_DISC, 0, 0, 0))
        self.hang_up()
        self._reader.join()
        self._sock.close()

    def hang_up(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    # -- requests ----------------------------------------------------------------------------

    def call_all(self, requests: Sequence[Request]) -> tuple[list[tuple[int, int]], list[Request]]:
        """Makes the requests, one behind the other, and waits for all replies: the extents (length,
        flags) of block status, and the requests that were lost with the connection. Raises OSError,
        the first of the server's errors as this host's."""
        calls = [self._begin(asked) for asked in requests]
        for call in calls:
            call.done.wait()
        for call in calls:
            if call.error is not None and not isinstance(call.error, ConnectionLost):
                raise call.error
        lost = [call.request for call in calls if call.error is not None]
        return [extent for call in calls for extent in call.extents], lost

    def _begin(self, asked: Request) -> _Call:
        status = asked.kind == n.CMD_BLOCK_STATUS
        call = _Call(asked, self.handshake.context_id if status else None)
        self._room.acquire()
        with self._lock:
            if self.lost is None:
                self._next += 1
                call.cookie = self._next
                self._calls[call.cookie] = call
        if call.cookie:
            head = request(asked.kind, call.cookie, asked.offset, asked.length, asked.flags)
            self._send(head, asked.data)
        else:
            call.error = self.lost
            self._end(call)
        return call

    def _end(self, call: _Call) -> None:
        """It has its reply, or will have none."""
        call.done.set()
        self._room.release()

    def _send(self, header: bytes, data: memoryview | None) -> None:
        """A failure to send is the reader's to find: it ends every call."""
        with self._sending:
            try:
                self._sock.sendall(header)
                if data is not None:
                    self._sock.sendall(data)
            except OSError:
                self.hang_up()

    # -- replies, in the reader's thread -----------------------------------------------------

    def _read(self) -> None:
        reason = "the server hung up"
        try:
            while self._reply():
                continue
        except _Broken as broken:
            reason = str(broken)
        except (OSError, ValueError):  # the socket is gone
            pass
        finally:
            self._give_up(ConnectionLost(reason))

    def _give_up(self, lost: ConnectionLost) -> None:
        """Nobody waits on for a reply that will not come."""
        self.hang_up()
        with self._lock:
            self.lost = lost
            calls = list(self._calls.values())
            self._calls.clear()
        for call in calls:
            call.error = lost
            self._end(call)

    def _exactly(self, count: int) -> bytes:
        data = self._input.read(count)
        if len(data) < count:
            raise OSError(errno.ECONNRESET, "end of stream")
        return data

    def _reply(self) -> bool:
        head = self._input.read(4)
        if not head:
            return False
        magic = int.from_bytes(head, "big")
        if magic == n.SIMPLE_REPLY_MAGIC:
            _, error, cookie = n.SIMPLE_REPLY.unpack(head + self._exactly(n.SIMPLE_REPLY.size - 4))
            self._simple(self._call(cookie), error)
        elif magic == n.STRUCTURED_REPLY_MAGIC and self.handshake.structured:
            rest = self._exactly(n.STRUCTURED_REPLY.size - 4)
            _, flags, kind, cookie, length = n.STRUCTURED_REPLY.unpack(head + rest)
            self._chunk(self._call(cookie), kind, length)
            if flags & n.REPLY_FLAG_DONE:
                self._done(self._call(cookie))
        else:
            raise _Broken(f"invalid reply magic 0x{magic:08x}")
        return True

    def _call(self, cookie: int) -> _Call:
        with self._lock:
            call = self._calls.get(cookie)
        if call is None:
            raise _Broken("reply to a request that was not made")
        return call

    def _simple(self, call: _Call, error: int) -> None:
        if error:
            call.error = _failure(error)
        elif call.into is not None:
            if self.handshake.structured:
                raise _Broken("simple reply to a read, though structured ones were agreed on")
            self._fill(call, 0, len(call.into))
        self._done(call)

    def _done(self, call: _Call) -> None:
        if call.error is None and call.missing:
            call.error = _failure(n.EIO)  # the server left bytes out
        with self._lock:
            del self._calls[call.cookie]
        self._end(call)

    def _chunk(self, call: _Call, kind: int, length: int) -> None:
        if kind & (1 << 15):
            self._error(call, kind, length)
        elif kind == n.REPLY_TYPE_NONE and not length:
            return
        elif kind == n.REPLY_TYPE_OFFSET_DATA and length > n.OFFSET.size:
            at = int(n.OFFSET.unpack(self._exactly(n.OFFSET.size))[0]) - call.request.offset
            self._fill(call, at, length - n.OFFSET.size)
        elif kind == n.REPLY_TYPE_OFFSET_HOLE and length == n.OFFSET_HOLE.size:
            offset, size = n.OFFSET_HOLE.unpack(self._exactly(length))
            zero(self._place(call, offset - call.request.offset, size))
        elif kind == n.REPLY_TYPE_BLOCK_STATUS and length >= 12 and length % 8 == 4:
            self._extents(call, length)
        else:
            raise _Broken(f"unexpected chunk of type {kind} and {length} bytes")

    def _error(self, call: _Call, kind: int, length: int) -> None:
        if not n.ERROR.size <= length <= n.MAX_STRING + 64:
            raise _Broken("error chunk of a wrong length")
        error, told = n.ERROR.unpack_from(self._exactly(length))
        if told > length - n.ERROR.size or not error:
            raise _Broken("error chunk that is none")
        call.error = call.error or _failure(error)

    def _place(self, call: _Call, at: int, size: int) -> memoryview:
        """Where ``size`` bytes of the reply go. No byte may come twice, or from outside."""
        if call.into is None or at < 0 or size <= 0 or at + size > len(call.into):
            raise _Broken("data that was not asked for")
        if any(at < end and start < at + size for start, end in call.seen):
            raise _Broken("data that comes twice")
        call.seen.append((at, at + size))
        call.missing -= size
        return call.into[at : at + size]

    def _fill(self, call: _Call, at: int, size: int) -> None:
        place = self._place(call, at, size)
        done = 0
        while done < size:
            count = self._input.readinto(place[done:])
            if not count:
                raise OSError(errno.ECONNRESET, "end of stream")
            done += count

    def _extents(self, call: _Call, length: int) -> None:
        """Clipped to what was asked for: only the last may reach beyond it."""
        if call.context is None or length > 4 + 8 * 65536:
            raise _Broken("block status that was not asked for")
        data = self._exactly(length)
        if n.CONTEXT_ID.unpack_from(data)[0] != call.context or call.extents:
            raise _Broken("block status of a context that was not asked for")
        left = call.request.length
        for size, flags in n.EXTENT.iter_unpack(data[n.CONTEXT_ID.size :]):
            if not size:
                raise _Broken("extent of no length")
            if not left:
                break
            call.extents.append((min(size, left), flags))
            left -= min(size, left)


class _Broken(Exception):
    """The server breaks the protocol."""


_ERRORS: Final = {
    n.EPERM: errno.EPERM,
    n.EIO: errno.EIO,
    n.ENOMEM: errno.ENOMEM,
    n.ENOSPC: errno.ENOSPC,
    n.EOVERFLOW: errno.EOVERFLOW,
    n.ENOTSUP: errno.ENOTSUP,
    n.ESHUTDOWN: errno.ESHUTDOWN,
}


def _failure(error: int) -> OSError:
    number = _ERRORS.get(error, errno.EINVAL)
    return OSError(number, os.strerror(number))


class _Joined(io.RawIOBase):
    """Bytes that have come already, then a socket's."""

    def __init__(self, first: bytes, sock: socket.socket | TlsSocket) -> None:
        self._first = first
        self._sock = sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self._first:
            count = min(len(buffer), len(self._first))
            buffer[:count] = self._first[:count]
            self._first = self._first[count:]
            return count
        return self._sock.recv_into(buffer)
