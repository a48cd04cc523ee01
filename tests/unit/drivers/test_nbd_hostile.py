"""The NBD client: many requests at once, and servers that are not to be trusted."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from monitor.engine.drivers.base import Extent, ExtentKind
from monitor.engine.drivers.memory import MemoryDriver
from monitor.engine.errors import RequestError
from monitor.wire.nbd import layout as n
from monitor.wire.nbd import transmission as t
from tests.support.nbd import MemoryServer
from tests.support.nbd_driver import SIZE, byte_at, facing, opened

# -- many requests of one caller -------------------------------------------------------------

RANGES = [(at * 8192, 512 * (1 + at % 3)) for at in range(40)]


def numbered(r: t.NbdRequest) -> bytes:
    """The reply to a read: bytes that tell which of ``RANGES`` it is."""
    return (
        t.data_header(r.cookie, r.offset, r.length, done=True) + bytes([r.offset >> 13]) * r.length
    )


def test_scattered_requests_are_under_way_together(nbd_path: Path) -> None:
    """And answered in any order."""
    asked: list[t.NbdRequest] = []

    def reply(r: t.NbdRequest) -> bytes:
        asked.append(r)
        if len(asked) < 10:
            return b""
        return b"".join(numbered(r) for r in reversed(asked))

    with facing(nbd_path, reply) as driver:
        buffer = bytearray(sum(length for _, length in RANGES[:10]))
        driver.read_ranges(memoryview(buffer), RANGES[:10])
    assert buffer == b"".join(bytes([at >> 13]) * length for at, length in RANGES[:10])


def test_nothing_is_asked_for_beyond_the_end(nbd_path: Path) -> None:
    """Nor the block that a read of nothing lies in."""
    asked: list[t.NbdRequest] = []

    def reply(r: t.NbdRequest) -> bytes:
        asked.append(r)
        return numbered(r)

    with facing(nbd_path, reply) as driver:
        driver._blocks.alignment = 512
        buffer = bytearray(b"x" * 100)
        driver.read(memoryview(buffer), SIZE + 100)
        driver.read(memoryview(buffer)[:0], 100)
    assert buffer == bytes(100)
    assert not asked


def test_more_of_them_than_may_be_under_way(nbd_path: Path, nbd_disk: MemoryDriver) -> None:
    server = MemoryServer(nbd_path, nbd_disk)
    driver = opened(nbd_path)
    written = b"".join(bytes([at + 1]) * length for at, (_, length) in enumerate(RANGES))
    driver.write_ranges(memoryview(written), RANGES)
    back = bytearray(len(written))
    driver.read_ranges(memoryview(back), RANGES)
    assert back == written
    assert nbd_disk.contents()[8192 + 1024 : 16384] == bytes([7]) * (8192 - 1024)
    driver.close()
    server.close()


def test_one_of_them_that_fails(nbd_path: Path) -> None:
    """It is told when all have been answered; the connection goes on."""
    asked: list[t.NbdRequest] = []

    def reply(r: t.NbdRequest) -> bytes:
        asked.append(r)
        if len(asked) == 3:
            return t.failed(r.cookie, n.ENOSPC)
        return data(r, r.offset, r.length)

    with facing(nbd_path, reply) as driver:
        with pytest.raises(OSError) as failure:
            driver.read_ranges(memoryview(bytearray(512 * 6)), [(at << 13, 512) for at in range(6)])
        assert failure.value.errno == errno.ENOSPC
        assert len(asked) == 6
        assert byte_at(driver, 0) == 0


def test_what_was_lost_with_the_connection_is_asked_again(nbd_path: Path) -> None:
    asked: list[int] = []

    def reply(r: t.NbdRequest) -> bytes:
        asked.append(r.offset)
        if len(asked) == 4:
            raise ConnectionAbortedError
        return numbered(r)

    ranges = [(at << 13, 512) for at in range(6)]
    with facing(nbd_path, reply, reconnect_delay=30) as driver:
        buffer = bytearray(512 * 6)
        driver.read_ranges(memoryview(buffer), ranges)
    assert buffer == b"".join(bytes([at]) * 512 for at in range(6))
    assert asked[:4] == [offset for offset, _ in ranges[:4]]
    again = asked[4:]
    assert again == [offset for offset, _ in ranges[-len(again) :]]
    assert len(again) >= 3


def data(r: t.NbdRequest, offset: int, length: int, *, done: bool = True) -> bytes:
    return t.data_header(r.cookie, offset, length, done=done) + bytes(length)


READS: dict[str, Callable[[t.NbdRequest], bytes]] = {
    "too much": lambda r: data(r, r.offset, r.length + 1),
    "beyond the end": lambda r: data(r, r.offset + 1, r.length),
    "before the beginning": lambda r: data(r, 0, r.length),
    "too little": lambda r: data(r, r.offset, r.length - 1),
    "nothing": lambda r: t.finished(r.cookie),
    "twice": lambda r: data(r, r.offset, r.length, done=False) + data(r, r.offset, 8),
    "a hole of gigabytes": lambda r: t.hole(r.cookie, r.offset, 0xFFFF_FFFF, done=True),
    "a simple reply": lambda r: t.simple(r.cookie) + bytes(r.length),
    "somebody else's": lambda r: data(r._replace(cookie=r.cookie + 1), r.offset, r.length),
    "a chunk of gigabytes": lambda r: t.chunk(r.cookie, 1, 0xFFFF_FFFF, done=True) + bytes(64),
    "an unknown chunk": lambda r: t.chunk(r.cookie, 99, 0, done=True),
    "block status": lambda r: t.block_status(r.cookie, 0, [(r.length, 0)], done=True),
    "an error of no length": lambda r: t.chunk(r.cookie, 1 << 15 | 1, 0, done=True),
    "an error that is none": lambda r: t.failed(r.cookie, 0),
    "an error and a novel": lambda r: t.chunk(r.cookie, 1 << 15 | 1, 1 << 20, done=True),
    "no NBD": lambda r: b"HTTP/1.1 200 OK\r\n\r\n" * 4,
    "goodbye": lambda r: _hang_up(),
}


@pytest.mark.parametrize("kind", READS)
def test_a_lying_read_is_an_error(nbd_path: Path, kind: str) -> None:
    with facing(nbd_path, READS[kind]) as driver:
        with pytest.raises(OSError) as failure:
            driver.read(memoryview(bytearray(1000)), 5000)
        assert failure.value.errno in (errno.EIO, errno.EINVAL)


def _hang_up() -> bytes:
    raise ConnectionResetError


def test_extents_are_clipped(nbd_path: Path) -> None:
    def reply(r: t.NbdRequest) -> bytes:
        return t.block_status(r.cookie, 0, [(4096, 3), (0xFFFF_FFFF, 0), (9, 0)], done=True)

    with facing(nbd_path, reply) as driver:
        assert driver.map(0, 8192) == [Extent(ExtentKind.ZERO, 4096), Extent(ExtentKind.DATA, 4096)]


@pytest.mark.parametrize(
    "reply",
    [
        lambda r: t.block_status(r.cookie, 0, [(0, 0)], done=True),
        lambda r: t.block_status(r.cookie, 1, [(4096, 0)], done=True),
        lambda r: t.block_status(r.cookie, 0, [(8, 0)], done=False) * 2,
        lambda r: t.chunk(r.cookie, 5, 13, done=True) + bytes(13),
        lambda r: t.chunk(r.cookie, 5, 0xFFFF_FFFC, done=True),
    ],
)
def test_extents_that_are_none(nbd_path: Path, reply: Callable[[t.NbdRequest], bytes]) -> None:
    with facing(nbd_path, reply) as driver, pytest.raises(OSError):
        driver.map(0, 8192)


GREETING = n.GREETING.pack(n.INIT_MAGIC, n.OPTION_MAGIC, 3)


def option_reply(option: int, reply: int, data: bytes = b"") -> bytes:
    return n.OPTION_REPLY.pack(n.REPLY_MAGIC, option, reply, len(data)) + data


NO = option_reply(n.OPT_STRUCTURED_REPLY, n.REP_ERR_UNSUP)


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"", "Failed to read initial magic"),
        (b"SSH-2.0-OpenSSH_9.2 and so on", "Bad initial magic received"),
        (n.GREETING.pack(n.INIT_MAGIC, 0x420281861253, 0), "newstyle"),
        (GREETING + bytes(20), "Unexpected option reply magic"),
        (GREETING + option_reply(99, n.REP_ACK), "Unexpected option type"),
        (GREETING + n.OPTION_REPLY.pack(n.REPLY_MAGIC, 8, 1, 1 << 31), "is too long"),
        (GREETING + option_reply(8, n.REP_ERR_TLS_REQD), "Server requires TLS for option 8"),
        (GREETING + option_reply(8, n.REP_SERVER) * 2, "Unexpected reply to option 8"),
        (GREETING + NO + option_reply(7, n.REP_ACK), "omitted NBD_INFO_EXPORT"),
        (GREETING + NO + option_reply(7, n.REP_ERR_POLICY), "Denied by server for option 7"),
        (
            GREETING + NO + option_reply(7, 3, n.INFO_EXPORT_REPLY.pack(0, 1 << 63, 1))
            + option_reply(7, n.REP_ACK),
            "export length is too large",
        ),
        (
            GREETING + NO + option_reply(7, 3, n.INFO_BLOCK_SIZE_REPLY.pack(3, 3, 4096, 4096)),
            "block size",
        ),
        (GREETING + NO + option_reply(7, 3, b"\0\0") * 100, "invalid length"),
        (GREETING + NO + option_reply(7, 3, b"\0\7") * 100, "is too long"),
    ],
)  # fmt: skip
def test_a_negotiation_that_leads_nowhere(nbd_path: Path, sent: bytes, said: str) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(nbd_path))
    listener.listen()

    def serve() -> None:
        sock, _ = listener.accept()
        with sock:
            sock.sendall(sent)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(4096):
                continue

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(RequestError, match=said):
        opened(nbd_path)
    thread.join(10)
    listener.close()
