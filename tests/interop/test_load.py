"""Many NBD and QMP clients at once; and what the bad ones among them do harms nobody else."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from monitor.engine.drivers.nbd.connection import Request
from monitor.wire.nbd import layout as n
from monitor.wire.nbd.client import request
from tests.support import tools
from tests.support.nbd_client import begun, opened
from tests.support.served import Served

NBD_CLIENTS = 64
QMP_CLIENTS = 16
ROUNDS = 8
PIECE = 4096
LONG = 1 << 20
SIZE = 64 << 20


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    tools.need("qemu-img")
    tools.run("qemu-img", "create", "-q", "-f", "qcow2", tmp_path / "disk.qcow2", str(SIZE))
    served = Served(
        tmp_path,
        ("--qmp", f"unix:{tmp_path / 'qmp'}"),
        ("--blockdev", "qcow2,node-name=disk,file.driver=file,file.filename=disk.qcow2"),
        ("--nbd-server", f"addr.type=unix,addr.path={tmp_path / 'nbd'}"),
        ("--export", "nbd,id=disk,node-name=disk,writable=on"),
    )
    yield served
    served.close()
    tools.run("qemu-img", "check", tmp_path / "disk.qcow2")


def good_nbd_client(folder: Path, number: int) -> None:
    """Writes and reads a part of the disk that is its own, short and long pieces."""
    connection = opened(folder / "nbd", "disk")
    base = number * (SIZE // NBD_CLIENTS)
    for turn in range(ROUNDS):
        for at, size in ((base + turn * PIECE, PIECE), (base + (256 << 10), 256 << 10)):
            data = memoryview(bytes([1 + (number + turn) % 255]) * size)
            back = memoryview(bytearray(size))
            connection.call_all([Request(n.CMD_WRITE, at, size, data=data)])
            connection.call_all([Request(n.CMD_READ, at, size, into=back)])
            assert back == data
    connection.call_all([Request(n.CMD_FLUSH)])
    extents, lost = connection.call_all([Request(n.CMD_BLOCK_STATUS, base, LONG)])
    assert sum(length for length, _ in extents) <= LONG
    assert not lost
    connection.close()


def good_qmp_client(folder: Path, number: int) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        sock.connect(str(folder / "qmp"))
        with sock.makefile("rw") as stream:
            assert "QMP" in json.loads(stream.readline())
            commands = ["qmp_capabilities", *["query-named-block-nodes", "query-jobs"] * ROUNDS]
            for turn, command in enumerate(commands):
                print(json.dumps({"execute": command, "id": turn}), file=stream, flush=True)
                while "event" in (reply := json.loads(stream.readline())):
                    continue
                assert reply["id"] == turn
                assert "return" in reply


def stops_reading(folder: Path) -> socket.socket:
    """Asks for far more than fits between the two, and takes nothing of it."""
    sock, _ = begun(folder / "nbd", "disk")
    sock.settimeout(1)
    try:
        for cookie in range(1000):
            sock.sendall(request(n.CMD_READ, cookie, 0, LONG))
    except TimeoutError:
        pass  # nobody takes requests of his any more, either
    return sock


def sends_garbage(folder: Path) -> socket.socket:
    sock, _ = begun(folder / "nbd", "disk")
    sock.sendall(bytes(range(256)) * 16)
    return sock


def sends_garbage_at_once(folder: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(folder / "nbd"))
    sock.sendall(b"GET / HTTP/1.1\r\n\r\n" * 100)
    return sock


def says_nothing(folder: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(folder / "nbd"))
    return sock


def dies_inside_a_request(folder: Path) -> socket.socket:
    sock, _ = begun(folder / "nbd", "disk")
    sock.sendall(request(n.CMD_WRITE, 1, 0, 0) + request(n.CMD_WRITE, 2, SIZE - LONG, LONG) + b"x")
    sock.close()
    return sock


def asks_qmp_and_does_not_listen(folder: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(folder / "qmp"))
    sock.settimeout(1)
    try:
        sock.sendall(b'{"execute":"qmp_capabilities"}')
        for _ in range(200):
            sock.sendall(b'{"execute":"query-qmp-schema"}' * 10)
    except (TimeoutError, BrokenPipeError, ConnectionResetError):
        pass
    return sock


BAD: list[Callable[[Path], socket.socket]] = [
    stops_reading, sends_garbage, sends_garbage_at_once, says_nothing, dies_inside_a_request,
    asks_qmp_and_does_not_listen,
]  # fmt: skip


def test_all_of_them_at_once(served: Served, tmp_path: Path) -> None:
    """The good ones get everything done beside the bad ones."""
    with ThreadPoolExecutor(len(BAD) * 2) as bad:
        sockets = list(bad.map(lambda make: make(tmp_path), BAD * 2))
    with ThreadPoolExecutor(NBD_CLIENTS + QMP_CLIENTS) as pool:
        work = [pool.submit(good_nbd_client, tmp_path, i) for i in range(NBD_CLIENTS)]
        work += [pool.submit(good_qmp_client, tmp_path, i) for i in range(QMP_CLIENTS)]
        for each in work:
            each.result(timeout=60)
    for sock in sockets:
        sock.close()


def test_one_too_many_is_hung_up_on(tmp_path: Path) -> None:
    """Unless told otherwise there are 100 at once; one that goes makes room."""
    served = Served(
        tmp_path,
        ("--blockdev", "null-co,node-name=disk,size=1048576"),
        ("--nbd-server", f"addr.type=unix,addr.path={tmp_path / 'nbd'}"),
        ("--export", "nbd,id=disk,node-name=disk"),
    )
    connected = [begun(tmp_path / "nbd", "disk")[0] for _ in range(100)]
    with says_nothing(tmp_path) as late:
        late.settimeout(20)
        assert late.recv(1) == b""
    gone = connected.pop()
    gone.sendall(request(n.CMD_DISC, 0, 0, 0))
    assert gone.recv(1) == b""  # by then the server has taken leave
    gone.close()
    connection = None
    while connection is None:  # its thread may still be counted for a moment
        with contextlib.suppress(ConnectionError):
            connection = opened(tmp_path / "nbd", "disk")
    connection.close()
    # The end of the server is the end of all of them.
    assert served.do("nbd-server-stop") == {}
    for sock in connected:
        sock.settimeout(20)
        assert sock.recv(1) == b""
        sock.close()
    served.close()


def test_the_server_ends_whatever_its_clients_are_at(served: Served, tmp_path: Path) -> None:
    """One that does not read, one in the middle of a write, one that never began."""
    half, _ = begun(tmp_path / "nbd", "disk")
    half.sendall(request(n.CMD_WRITE, 1, 0, LONG) + b"only the beginning")
    sockets = [stops_reading(tmp_path), says_nothing(tmp_path), half]
    ended = threading.Event()

    def stop() -> None:
        assert served.do("nbd-server-stop") == {}
        ended.set()

    thread = threading.Thread(target=stop)
    thread.start()
    assert ended.wait(30)
    thread.join()
    for sock in sockets:
        sock.close()
