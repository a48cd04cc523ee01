"""Short requests where the disk is cold: they wait beside each other, and are all answered."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from monitor.engine.drivers.memory import MemoryDriver
from monitor.servers.nbd import connection as served
from monitor.wire.nbd import layout as n
from monitor.wire.nbd.client import request
from tests.support.nbd import MemoryServer
from tests.support.nbd_client import begun

COUNT = 32
SIZE = 4096


class Disk(MemoryDriver):
    """Notes who reads."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.readers: set[str] = set()

    def read(self, buffer: memoryview, offset: int) -> None:
        self.readers.add(threading.current_thread().name)
        super().read(buffer, offset)


@pytest.mark.parametrize(("cold", "readers"), [(0, {"nbd client"}), (1 << 20, {"nbd helper"})])
def test_what_waits_for_a_disk_goes_to_helpers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cold: int, readers: set[str]
) -> None:
    counter = itertools.count(step=cold) if cold else itertools.repeat(0)
    monkeypatch.setattr(served, "bytes_from_disks", lambda: next(counter))
    disk = Disk(data=b"".join(bytes([i]) * SIZE for i in range(COUNT)))
    server = MemoryServer(tmp_path / "s", disk)
    sock, _ = begun(server.path, "disk")
    for _ in range(2):  # by the second time it is known
        disk.readers.clear()
        sock.sendall(b"".join(request(n.CMD_READ, i, i * SIZE, SIZE) for i in range(COUNT)))
        assert dict(reply(sock.makefile("rb", buffering=0)) for _ in range(COUNT)) == {
            i: bytes([i]) * SIZE for i in range(COUNT)
        }
    assert disk.readers == readers
    sock.sendall(b"".join(request(n.CMD_WRITE, i, i * SIZE, SIZE) + b"x" * SIZE for i in range(9)))
    assert dict(reply(sock.makefile("rb", buffering=0)) for _ in range(9)) == dict.fromkeys(
        range(9), b""
    )
    back = bytearray(9 * SIZE)
    disk.read(memoryview(back), 0)
    assert back == b"x" * 9 * SIZE
    sock.close()
    server.close()


def test_an_export_that_is_moved_while_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From its next request on it is served where it is; threads that are gone are none."""
    counter = itertools.count(step=1 << 20)
    monkeypatch.setattr(served, "bytes_from_disks", lambda: next(counter))
    disk = Disk(data=bytes(SIZE))
    server = MemoryServer(tmp_path / "s", disk)
    export = server.export("disk")
    sock, _ = begun(server.path, "disk")
    gone = ThreadPoolExecutor(1, "gone")
    gone.shutdown()
    batch = b"".join(request(n.CMD_READ, i, 0, SIZE) for i in range(COUNT))
    with closing(server), closing(sock), ThreadPoolExecutor(1, "io") as io:
        for workers, reader in (
            (None, "nbd client"),  # which finds out that it waits for a disk
            (None, "nbd helper"),
            (io, "io_0"),
            (gone, "nbd helper"),
        ):
            export.workers = workers
            disk.readers.clear()
            sock.sendall(batch)
            replies = [reply(sock.makefile("rb", buffering=0)) for _ in range(COUNT)]
            assert dict(replies) == dict.fromkeys(range(COUNT), bytes(SIZE))
            assert disk.readers == {reader}


def reply(stream: Any) -> tuple[int, bytes]:
    """(cookie, data) of one reply; data comes as one chunk, or as one after another."""
    data = b""
    while True:
        head = exactly(stream, 4)
        if int.from_bytes(head, "big") == n.SIMPLE_REPLY_MAGIC:
            _, error, cookie = n.SIMPLE_REPLY.unpack(head + exactly(stream, 12))
            assert not error
            return cookie, data
        _, flags, kind, cookie, length = n.STRUCTURED_REPLY.unpack(head + exactly(stream, 16))
        body = exactly(stream, length)
        assert kind in (n.REPLY_TYPE_OFFSET_DATA, n.REPLY_TYPE_NONE)
        data += body[n.OFFSET.size :]
        if flags & n.REPLY_FLAG_DONE:
            return cookie, data


def exactly(stream: Any, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = stream.read(count - len(data))
        assert more, "hung up"
        data += more
    return data
