"""What is fuzzed. A target takes bytes and raises where a promise is broken.

The promises: whatever the other side sends, a parser answers or says what is wrong in the one way
that is meant for it; it comes to an end, keeps no more than it may, and how the stream was cut
makes no difference.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from monitor.engine.drivers.memory import MemoryDriver
from monitor.engine.drivers.nbd.connection import Connection, Request
from monitor.servers.nbd.serving import Serving
from monitor.wire.nbd import layout as n
from monitor.wire.nbd import transmission as t
from monitor.wire.nbd.client import ClientHandshake, ServerRefused
from monitor.wire.nbd.handshake import ServerHandshake
from monitor.wire.nbd.offers import ALLOCATION, DEPTH, Offer
from monitor.wire.qmpjson import JSONParseError, encode
from monitor.wire.qmpstream import JSONStream
from tests.support.nbd import FLAGS, MemoryExport

SIZE = 64 << 10
MAX_KEPT = n.MAX_OPTION + 64
"""Bytes that half a negotiation may hold."""

Target = Callable[[bytes], None]


def cut(data: bytes) -> Iterator[bytes]:
    """Pieces, as long as the data itself says."""
    at = 0
    while at < len(data):
        step = 1 + data[at] % 61
        yield data[at : at + step]
        at += step


class _Offers:
    def names(self) -> Mapping[str, str]:
        return {"": "a disk", "disk": ""}

    def find(self, name: str) -> Offer | None:
        if name not in self.names():
            return None
        return Offer(name, SIZE, FLAGS, contexts=(ALLOCATION, DEPTH))


def nbd_server(data: bytes) -> None:
    """A client's bytes: negotiated, then carried out on a disk in memory."""
    handshake, whole = ServerHandshake(_Offers()), ServerHandshake(_Offers())
    for piece in cut(data):
        handshake.feed(piece)
        assert handshake.over or len(handshake._in) <= MAX_KEPT, "it keeps what it should not"
    whole.feed(data)
    assert handshake.take() == whole.take(), "a cut made a difference"
    assert handshake.phase is whole.phase
    if handshake.offer is not None:
        _transmission(handshake)


def _transmission(handshake: ServerHandshake) -> None:
    assert handshake.offer is not None
    export: Any = MemoryExport(MemoryDriver(data=bytes(SIZE)))
    serving = Serving(export, handshake.offer, handshake.contexts, structured=handshake.structured)
    data = memoryview(handshake.rest)
    at = 0
    sent: list[int] = []

    def send(*buffers: bytes | memoryview) -> None:
        sent.append(sum(map(len, buffers)))

    while len(data) - at >= n.REQUEST.size:
        try:
            request = t.read_request(data, at)
        except t.ProtocolError:
            return
        at += n.REQUEST.size
        size = request.length if request.type == n.CMD_WRITE else 0
        if size > len(data) - at or request.type == n.CMD_DISC:
            return
        sent.clear()
        serving.carry_out(request, data[at : at + size], contextlib.nullcontext(), send)
        at += size
        assert sent, "a request without a reply"
        assert sum(sent) <= SIZE + 64 * n.MAX_EXTENTS + n.MAX_STRING


class _Stream:
    """A socket from which ``data`` comes."""

    def __init__(self, data: bytes) -> None:
        self._left = memoryview(data)

    def recv_into(self, buffer: memoryview) -> int:
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def settimeout(self, seconds: float | None) -> None:
        pass

    def shutdown(self, how: int) -> None:
        pass

    def sendall(self, data: bytes) -> None:
        pass

    def close(self) -> None:
        pass


def nbd_client(data: bytes) -> None:
    """A server's bytes: the first half as its negotiation, the rest as replies to a read, a write
    and a block status."""
    half = len(data) // 2
    handshake = ClientHandshake("disk", ALLOCATION)
    with contextlib.suppress(ServerRefused):
        for piece in cut(data[:half]):
            handshake.feed(piece)
            assert handshake.over or len(handshake._in) <= n.MAX_STRING + 256
    done = ClientHandshake("disk", ALLOCATION)
    done.structured, done.context_id = True, 1
    stream: Any = _Stream(b"")
    connection = Connection(stream, done)
    connection._reader.join()
    connection.lost = None
    connection._input = io.BufferedReader(io.BytesIO(data[half:]))  # type: ignore[type-var]
    room = memoryview(bytearray(512))
    asked = [
        Request(n.CMD_READ, 0, len(room), into=room),
        Request(n.CMD_WRITE, 0, len(room), data=room),
        Request(n.CMD_BLOCK_STATUS, 0, SIZE),
    ]
    calls = [connection._begin(each) for each in asked]
    connection._read()
    for call in calls:
        assert call.done.is_set(), "a call that nobody ends"
        assert sum(size for size, _ in call.extents) <= SIZE


def qmp(data: bytes) -> None:
    """A client's bytes, whole and cut; after any of it, FF and an object are understood."""
    whole = JSONStream()
    found = whole.feed(data)
    stream, pieces = JSONStream(), []
    for piece in cut(data):
        pieces += stream.feed(piece)
    assert _shown(pieces) == _shown(found), "a cut made a difference"
    assert stream.feed(b'\xff{"a": [1]}')[-1] == {"a": [1]}


def _shown(found: list[Any]) -> list[Any]:
    return [str(v) if isinstance(v, JSONParseError) else encode(v) for v in found]


TARGETS: dict[str, Target] = {"nbd-server": nbd_server, "nbd-client": nbd_client, "qmp": qmp}
