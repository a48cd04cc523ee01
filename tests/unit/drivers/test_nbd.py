"""The NBD client: servers that go and come back, and servers that are not to be trusted."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from monitor.engine.drivers.base import Extent, ExtentKind, OpenContext, OpenFlags
from monitor.engine.drivers.memory import MemoryDriver
from monitor.engine.drivers.nbd.address import InvalidName, filename_of, options_of
from monitor.engine.drivers.nbd.driver import NbdDriver
from monitor.engine.errors import RequestError
from monitor.engine.schema.blockdev import BlockdevOptionsNbd
from monitor.engine.schema.decode import decode
from monitor.engine.schema.sockets import SocketAddressUnix
from monitor.wire.nbd import layout as n
from monitor.wire.nbd import transmission as t
from monitor.wire.nbd.handshake import ServerHandshake
from monitor.wire.nbd.offers import Offer
from tests.support.nbd import FLAGS, MemoryServer
from tests.support.spin import until

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


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "nbd.sock"


@pytest.fixture
def disk() -> MemoryDriver:
    return MemoryDriver(data=bytes([7]) * SIZE)


# -- a server that goes ----------------------------------------------------------------------


def test_requests_wait_for_a_server_that_comes_back(path: Path, disk: MemoryDriver) -> None:
    server = MemoryServer(path, disk)
    driver = opened(path, reconnect_delay=30)
    assert byte_at(driver, 0) == 7
    server.close()
    found: list[int] = []
    reader = threading.Thread(target=lambda: found.append(byte_at(driver, 5)))
    reader.start()
    server = MemoryServer(path, disk)
    reader.join(20)
    assert found == [7]
    driver.close()
    server.close()


@pytest.mark.parametrize("end", [False, True])
def test_who_waits_may_be_told_to_stop(path: Path, disk: MemoryDriver, end: bool) -> None:
    """For this time: when it has come back and goes again, requests wait again, unless the end of
    all is near."""
    server = MemoryServer(path, disk)
    driver = opened(path, reconnect_delay=3600)
    session = driver._session
    failed: list[int | None] = []

    def read() -> None:
        try:
            byte_at(driver, 0)
        except OSError as error:
            failed.append(error.errno)

    for _ in range(2):
        server.close()
        reader = threading.Thread(target=read)
        reader.start()
        until(lambda: session._connection is None)
        if not (end and failed):
            driver.let_go() if end else driver.stop_waiting()
        reader.join(20)
        read()
        server = MemoryServer(path, disk)
        with session._changed:
            assert session._changed.wait_for(lambda: session._connection is not None, 20)
        assert byte_at(driver, 0) == 7
    assert failed == [errno.EIO] * 4
    driver.close()
    server.close()


def test_without_a_delay_they_fail_at_once_until_it_is_back(path: Path, disk: MemoryDriver) -> None:
    server = MemoryServer(path, disk)
    driver = opened(path)
    server.close()
    for _ in range(2):
        with pytest.raises(OSError) as failure:
            byte_at(driver, 0)
        assert failure.value.errno == errno.EIO
    server = MemoryServer(path, disk)
    session = driver._session
    with session._changed:
        assert session._changed.wait_for(lambda: session._connection is not None, 20)
    assert byte_at(driver, 0) == 7
    driver.close()
    server.close()


def test_a_host_without_threads(
    path: Path, disk: MemoryDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the first connection nor a later one is a bug of ours; the next try counts."""
    server = MemoryServer(path, disk)
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("nbd re"):  # replies, reconnect
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RequestError, match="Resource temporarily unavailable"):
        opened(path)
    monkeypatch.undo()
    driver = opened(path, reconnect_delay=30)
    server.close()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    for _ in range(2):
        with pytest.raises(OSError, match="Resource temporarily unavailable"):
            byte_at(driver, 0)
    monkeypatch.undo()
    server = MemoryServer(path, disk)
    assert byte_at(driver, 0) == 7
    driver.close()
    server.close()


def test_closing_ends_the_tries(path: Path, disk: MemoryDriver) -> None:
    server = MemoryServer(path, disk)
    driver = opened(path, reconnect_delay=3600)
    server.close()
    with pytest.raises(OSError):
        driver._session._gone(driver._session._there())
        driver._session._delay = 0
        byte_at(driver, 0)
    trying = driver._session._trying
    assert trying is not None
    driver.close()
    assert not trying.is_alive()


def test_another_disk_is_not_ours(path: Path, disk: MemoryDriver) -> None:
    server = MemoryServer(path, disk)
    driver = opened(path)
    server.close()
    with pytest.raises(OSError):
        byte_at(driver, 0)
    server = MemoryServer(path, MemoryDriver(data=bytes(SIZE // 2)))
    trying = driver._session._trying
    assert trying is not None
    trying.join(20)
    with pytest.raises(OSError):
        byte_at(driver, 0)
    driver.close()
    server.close()


def test_the_first_connection_may_be_waited_for(path: Path, disk: MemoryDriver) -> None:
    servers: list[MemoryServer] = []
    starting = threading.Timer(0.1, lambda: servers.append(MemoryServer(path, disk)))
    starting.start()
    driver = opened(path, open_timeout=30)
    assert byte_at(driver, 0) == 7
    driver.close()
    servers[0].close()


def test_nobody_there(path: Path) -> None:
    with pytest.raises(RequestError, match="No such file or directory"):
        opened(path)


# -- what a server allows --------------------------------------------------------------------


def test_a_read_only_export(path: Path, disk: MemoryDriver) -> None:
    server = MemoryServer(path, disk, flags=FLAGS | n.FLAG_READ_ONLY)
    with pytest.raises(RequestError, match="request on write denied without write permission"):
        opened(path)
    driver = opened(path, OpenFlags(auto_read_only=True))
    assert driver.turns_read_only
    with pytest.raises(PermissionError):
        driver.write(memoryview(b"x"), 0)
    driver.close()
    server.close()


def test_an_export_that_is_not_there(path: Path, disk: MemoryDriver) -> None:
    server = MemoryServer(path, disk)
    with pytest.raises(RequestError, match="Requested export not available"):
        opened(path, export="other")
    server.close()


def test_errors_keep_their_number(path: Path, disk: MemoryDriver) -> None:
    server = MemoryServer(path, disk)
    driver = opened(path)

    def full(buffer: memoryview, offset: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    server._export.write = full  # type: ignore[method-assign,assignment]
    for size in (512, 1 << 18):  # in a batch, and by a helper
        with pytest.raises(OSError) as failure:
            driver.write(memoryview(bytes(size)), 0)
        assert failure.value.errno == errno.ENOSPC
    assert byte_at(driver, 0) == 7  # the connection goes on
    driver.close()
    server.close()


def test_many_threads_on_one_connection(path: Path, disk: MemoryDriver) -> None:
    server = MemoryServer(path, disk)
    driver = opened(path)
    wrong: list[int] = []

    def work(number: int) -> None:
        for step in range(50):
            size = (number + 1) * 700 * (1 + step % 3 * 60)
            offset = number * SIZE // 8
            data = bytes([number * 29 + step & 0xFF]) * min(size, SIZE // 8)
            driver.write(memoryview(data), offset)
            back = bytearray(len(data))
            driver.read(memoryview(back), offset)
            if back != data:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not wrong
    driver.close()
    server.close()


# -- a server that is not to be trusted ------------------------------------------------------


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


# -- many requests of one caller -------------------------------------------------------------

RANGES = [(at * 8192, 512 * (1 + at % 3)) for at in range(40)]


def numbered(r: t.NbdRequest) -> bytes:
    """The reply to a read: bytes that tell which of ``RANGES`` it is."""
    return (
        t.data_header(r.cookie, r.offset, r.length, done=True) + bytes([r.offset >> 13]) * r.length
    )


def test_scattered_requests_are_under_way_together(path: Path) -> None:
    """And answered in any order."""
    asked: list[t.NbdRequest] = []

    def reply(r: t.NbdRequest) -> bytes:
        asked.append(r)
        if len(asked) < 10:
            return b""
        return b"".join(numbered(r) for r in reversed(asked))

    with facing(path, reply) as driver:
        buffer = bytearray(sum(length for _, length in RANGES[:10]))
        driver.read_ranges(memoryview(buffer), RANGES[:10])
    assert buffer == b"".join(bytes([at >> 13]) * length for at, length in RANGES[:10])


def test_nothing_is_asked_for_beyond_the_end(path: Path) -> None:
    """Nor the block that a read of nothing lies in."""
    asked: list[t.NbdRequest] = []

    def reply(r: t.NbdRequest) -> bytes:
        asked.append(r)
        return numbered(r)

    with facing(path, reply) as driver:
        driver._blocks.alignment = 512
        buffer = bytearray(b"x" * 100)
        driver.read(memoryview(buffer), SIZE + 100)
        driver.read(memoryview(buffer)[:0], 100)
    assert buffer == bytes(100)
    assert not asked


def test_more_of_them_than_may_be_under_way(path: Path, disk: MemoryDriver) -> None:
    server = MemoryServer(path, disk)
    driver = opened(path)
    written = b"".join(bytes([at + 1]) * length for at, (_, length) in enumerate(RANGES))
    driver.write_ranges(memoryview(written), RANGES)
    back = bytearray(len(written))
    driver.read_ranges(memoryview(back), RANGES)
    assert back == written
    assert disk.contents()[8192 + 1024 : 16384] == bytes([7]) * (8192 - 1024)
    driver.close()
    server.close()


def test_one_of_them_that_fails(path: Path) -> None:
    """It is told when all have been answered; the connection goes on."""
    asked: list[t.NbdRequest] = []

    def reply(r: t.NbdRequest) -> bytes:
        asked.append(r)
        if len(asked) == 3:
            return t.failed(r.cookie, n.ENOSPC)
        return data(r, r.offset, r.length)

    with facing(path, reply) as driver:
        with pytest.raises(OSError) as failure:
            driver.read_ranges(memoryview(bytearray(512 * 6)), [(at << 13, 512) for at in range(6)])
        assert failure.value.errno == errno.ENOSPC
        assert len(asked) == 6
        assert byte_at(driver, 0) == 0


def test_what_was_lost_with_the_connection_is_asked_again(path: Path) -> None:
    asked: list[int] = []

    def reply(r: t.NbdRequest) -> bytes:
        asked.append(r.offset)
        if len(asked) == 4:
            raise ConnectionAbortedError
        return numbered(r)

    ranges = [(at << 13, 512) for at in range(6)]
    with facing(path, reply, reconnect_delay=30) as driver:
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
def test_a_lying_read_is_an_error(path: Path, kind: str) -> None:
    with facing(path, READS[kind]) as driver:
        with pytest.raises(OSError) as failure:
            driver.read(memoryview(bytearray(1000)), 5000)
        assert failure.value.errno in (errno.EIO, errno.EINVAL)


def _hang_up() -> bytes:
    raise ConnectionResetError


def test_extents_are_clipped(path: Path) -> None:
    def reply(r: t.NbdRequest) -> bytes:
        return t.block_status(r.cookie, 0, [(4096, 3), (0xFFFF_FFFF, 0), (9, 0)], done=True)

    with facing(path, reply) as driver:
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
def test_extents_that_are_none(path: Path, reply: Callable[[t.NbdRequest], bytes]) -> None:
    with facing(path, reply) as driver, pytest.raises(OSError):
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
def test_a_negotiation_that_leads_nowhere(path: Path, sent: bytes, said: str) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
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
        opened(path)
    thread.join(10)
    listener.close()


# -- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filename", "server", "export"),
    [
        ("nbd://host/disk", {"type": "inet", "host": "host", "port": "10809"}, "disk"),
        ("nbd://host:99", {"type": "inet", "host": "host", "port": "99"}, None),
        ("nbd+tcp://[::1]:99/a%20b", {"type": "inet", "host": "::1", "port": "99"}, "a b"),
        ("nbd+unix:///disk?socket=/a/b", {"type": "unix", "path": "/a/b"}, "disk"),
        ("nbd+unix://?socket=s", {"type": "unix", "path": "s"}, None),
        ("nbd:unix:/a/b:exportname=disk", {"type": "unix", "path": "/a/b"}, "disk"),
        ("nbd:host:99", {"type": "inet", "host": "host", "port": "99"}, None),
        ("nbd:[::1]:99:exportname=x", {"type": "inet", "host": "::1", "port": "99"}, "x"),
    ],
)
def test_file_names(filename: str, server: dict[str, str], export: str | None) -> None:
    expected = {"driver": "nbd", "server": server}
    assert options_of(filename) == expected | ({"export": export} if export else {})
    typed = decode(BlockdevOptionsNbd, options_of(filename))
    shown = filename_of(typed.server, export or "")
    assert options_of(shown) == options_of(filename)


@pytest.mark.parametrize(
    "filename",
    ["nbd:", "nbd:host", "nbd://", "nbd+unix:///x", "nbd+unix://h/x?socket=s", "nbd://h:x"],
)
def test_file_names_that_are_none(filename: str) -> None:
    with pytest.raises(InvalidName):
        options_of(filename)
