"""The NBD client: servers that go and come back, what they allow, and their names."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest

from monitor.engine.drivers.base import OpenFlags
from monitor.engine.drivers.memory import MemoryDriver
from monitor.engine.drivers.nbd.address import InvalidName, filename_of, options_of
from monitor.engine.errors import RequestError
from monitor.engine.schema.blockdev import BlockdevOptionsNbd
from monitor.engine.schema.decode import decode
from monitor.wire.nbd import layout as n
from tests.support.nbd import FLAGS, MemoryServer
from tests.support.nbd_driver import SIZE, byte_at, opened
from tests.support.spin import until

# -- a server that goes ----------------------------------------------------------------------


def test_requests_wait_for_a_server_that_comes_back(nbd_path: Path, nbd_disk: MemoryDriver) -> None:
    server = MemoryServer(nbd_path, nbd_disk)
    driver = opened(nbd_path, reconnect_delay=30)
    assert byte_at(driver, 0) == 7
    server.close()
    found: list[int] = []
    reader = threading.Thread(target=lambda: found.append(byte_at(driver, 5)))
    reader.start()
    server = MemoryServer(nbd_path, nbd_disk)
    reader.join(20)
    assert found == [7]
    driver.close()
    server.close()


@pytest.mark.parametrize("end", [False, True])
def test_who_waits_may_be_told_to_stop(nbd_path: Path, nbd_disk: MemoryDriver, end: bool) -> None:
    """For this time: when it has come back and goes again, requests wait again, unless the end of
    all is near."""
    server = MemoryServer(nbd_path, nbd_disk)
    driver = opened(nbd_path, reconnect_delay=3600)
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
        server = MemoryServer(nbd_path, nbd_disk)
        with session._changed:
            assert session._changed.wait_for(lambda: session._connection is not None, 20)
        assert byte_at(driver, 0) == 7
    assert failed == [errno.EIO] * 4
    driver.close()
    server.close()


def test_without_a_delay_they_fail_at_once_until_it_is_back(
    nbd_path: Path, nbd_disk: MemoryDriver
) -> None:
    server = MemoryServer(nbd_path, nbd_disk)
    driver = opened(nbd_path)
    server.close()
    for _ in range(2):
        with pytest.raises(OSError) as failure:
            byte_at(driver, 0)
        assert failure.value.errno == errno.EIO
    server = MemoryServer(nbd_path, nbd_disk)
    session = driver._session
    with session._changed:
        assert session._changed.wait_for(lambda: session._connection is not None, 20)
    assert byte_at(driver, 0) == 7
    driver.close()
    server.close()


def test_a_host_without_threads(
    nbd_path: Path, nbd_disk: MemoryDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the first connection nor a later one is a bug of ours; the next try counts."""
    server = MemoryServer(nbd_path, nbd_disk)
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("nbd re"):  # replies, reconnect
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RequestError, match="Resource temporarily unavailable"):
        opened(nbd_path)
    monkeypatch.undo()
    driver = opened(nbd_path, reconnect_delay=30)
    server.close()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    for _ in range(2):
        with pytest.raises(OSError, match="Resource temporarily unavailable"):
            byte_at(driver, 0)
    monkeypatch.undo()
    server = MemoryServer(nbd_path, nbd_disk)
    assert byte_at(driver, 0) == 7
    driver.close()
    server.close()


def test_closing_ends_the_tries(nbd_path: Path, nbd_disk: MemoryDriver) -> None:
    server = MemoryServer(nbd_path, nbd_disk)
    driver = opened(nbd_path, reconnect_delay=3600)
    server.close()
    with pytest.raises(OSError):
        driver._session._gone(driver._session._there())
        driver._session._delay = 0
        byte_at(driver, 0)
    trying = driver._session._trying
    assert trying is not None
    driver.close()
    assert not trying.is_alive()


def test_another_disk_is_not_ours(nbd_path: Path, nbd_disk: MemoryDriver) -> None:
    server = MemoryServer(nbd_path, nbd_disk)
    driver = opened(nbd_path)
    server.close()
    with pytest.raises(OSError):
        byte_at(driver, 0)
    server = MemoryServer(nbd_path, MemoryDriver(data=bytes(SIZE // 2)))
    trying = driver._session._trying
    assert trying is not None
    trying.join(20)
    with pytest.raises(OSError):
        byte_at(driver, 0)
    driver.close()
    server.close()


def test_the_first_connection_may_be_waited_for(nbd_path: Path, nbd_disk: MemoryDriver) -> None:
    servers: list[MemoryServer] = []
    starting = threading.Timer(0.1, lambda: servers.append(MemoryServer(nbd_path, nbd_disk)))
    starting.start()
    driver = opened(nbd_path, open_timeout=30)
    assert byte_at(driver, 0) == 7
    driver.close()
    servers[0].close()


def test_nobody_there(nbd_path: Path) -> None:
    with pytest.raises(RequestError, match="No such file or directory"):
        opened(nbd_path)


# -- what a server allows --------------------------------------------------------------------


def test_a_read_only_export(nbd_path: Path, nbd_disk: MemoryDriver) -> None:
    server = MemoryServer(nbd_path, nbd_disk, flags=FLAGS | n.FLAG_READ_ONLY)
    with pytest.raises(RequestError, match="request on write denied without write permission"):
        opened(nbd_path)
    driver = opened(nbd_path, OpenFlags(auto_read_only=True))
    assert driver.turns_read_only
    with pytest.raises(PermissionError):
        driver.write(memoryview(b"x"), 0)
    driver.close()
    server.close()


def test_an_export_that_is_not_there(nbd_path: Path, nbd_disk: MemoryDriver) -> None:
    server = MemoryServer(nbd_path, nbd_disk)
    with pytest.raises(RequestError, match="Requested export not available"):
        opened(nbd_path, export="other")
    server.close()


def test_errors_keep_their_number(nbd_path: Path, nbd_disk: MemoryDriver) -> None:
    server = MemoryServer(nbd_path, nbd_disk)
    driver = opened(nbd_path)

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


def test_many_threads_on_one_connection(nbd_path: Path, nbd_disk: MemoryDriver) -> None:
    server = MemoryServer(nbd_path, nbd_disk)
    driver = opened(nbd_path)
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
