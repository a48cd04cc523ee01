"""The host_device driver: on a loop device where the host lends one, refusals everywhere."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from monitor.engine import permissions
from monitor.engine.drivers.base import ExtentKind, OpenContext, OpenFlags
from monitor.engine.drivers.file import device
from monitor.engine.drivers.file.device import HostDeviceDriver
from monitor.engine.drivers.qcow2 import CreateOptions, create_image
from monitor.engine.errors import RequestError
from monitor.engine.schema.blockdev import BlockdevOptionsHostDevice
from tests.support.edges import DriverEdge
from tests.support.files import use
from tests.support.qcow2 import open_qcow2
from tests.support.qcow2 import read as read_disk
from tests.support.qcow2 import write as write_disk

MIB = 1 << 20


def open_device(path: str | Path, **flags: Any) -> HostDeviceDriver:
    driver = HostDeviceDriver()
    options = BlockdevOptionsHostDevice(filename=str(path))
    driver.open(OpenContext(options, OpenFlags(**flags), "node", {}))
    return driver


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A loop device of 8 MiB and its file; gone afterwards."""
    if os.geteuid() or shutil.which("losetup") is None:
        pytest.skip("loop devices need root and losetup")
    below = tmp_path / "below"
    below.write_bytes(b"\xab" * (8 * MIB))
    made = subprocess.run(
        ["losetup", "--find", "--show", str(below)], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"no loop device to be had: {made.stderr.strip()}")
    name = made.stdout.strip()
    try:
        yield name, below
    finally:
        subprocess.run(["losetup", "--detach", name], check=True)


def refusal(path: str | Path, **flags: Any) -> str:
    with pytest.raises(RequestError) as caught:
        open_device(path, **flags)
    return caught.value.text


def test_what_is_no_device_is_refused(tmp_path: Path) -> None:
    """Also a FIFO, without waiting for its other end."""
    (tmp_path / "file").write_bytes(bytes(512))
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket"))
        for name in ("file", "fifo", "socket"):
            path = tmp_path / name
            text = (
                f"'host_device' driver requires '{path}' to be either a character or block device"
            )
            assert refusal(path) == text
    assert refusal(tmp_path) == f"Could not open '{tmp_path}': Is a directory"
    read_only = (
        f"'host_device' driver requires '{tmp_path}' to be either a character or block device"
    )
    assert refusal(tmp_path, read_only=True) == read_only
    assert refusal("/nowhere") == "Could not open '/nowhere': No such file or directory"
    assert refusal("") == "The 'host_device' block driver requires a file name"


def test_a_character_device_has_no_size() -> None:
    driver = open_device("/dev/zero")
    assert driver.length() == 0
    assert driver.map(0, 512)[0].kind is ExtentKind.ZERO
    with pytest.raises(OSError, match="No space"):
        driver.write(memoryview(b"x"), 0)
    driver.close()


@pytest.mark.parametrize("direct", [False, True])
def test_a_block_device(loop: tuple[str, Path], direct: bool) -> None:
    name, below = loop
    driver = open_device(name, direct=direct, unmap=True)
    use(driver, permissions.WRITE, permissions.ALL)
    assert driver.length() == 8 * MIB
    assert driver.filename == name
    buffer = bytearray(1000)
    driver.write(memoryview(b"odd" * 1000), 8 * MIB - 3000)
    driver.read(memoryview(buffer), 8 * MIB - 1000)
    assert buffer == (b"odd" * 1000)[-1000:]
    driver.write_zeroes(MIB, MIB, False, False)
    driver.write_zeroes(4 * MIB, MIB, True, False)
    driver.write_zeroes(7000, 100, False, False)  # no whole sector: written
    driver.discard(6 * MIB, MIB)
    driver.flush()
    driver.close()
    content = below.read_bytes()
    assert content[MIB : 2 * MIB] == content[4 * MIB : 5 * MIB] == bytes(MIB)
    assert content[6 * MIB : 7 * MIB] == bytes(MIB)
    assert content[6990:7110] == b"\xab" * 10 + bytes(100) + b"\xab" * 10
    assert content.endswith(b"odd" * 1000)
    assert below.stat().st_blocks * 512 < 8 * MIB  # what was discarded is given back


def test_the_size_is_fixed(loop: tuple[str, Path]) -> None:
    driver = open_device(loop[0])
    use(driver, permissions.WRITE | permissions.RESIZE, permissions.ALL)
    with pytest.raises(RequestError) as caught:
        driver.truncate(9 * MIB)
    assert caught.value.text == "Cannot grow device files"
    driver.truncate(4 * MIB)
    assert driver.length() == 8 * MIB
    with pytest.raises(RequestError) as caught:
        driver.grow(9 * MIB, "full")
    assert caught.value.text == "Unsupported preallocation mode 'full'"
    requests: tuple[Callable[[], None], ...] = (
        lambda: driver.write(memoryview(b"beyond"), 8 * MIB - 3),
        lambda: driver.write_zeroes(8 * MIB - 3, 6),
    )
    for request in requests:
        with pytest.raises(OSError) as full:
            request()
        assert full.value.errno == errno.ENOSPC
    assert driver.map_for_write(8 * MIB - 3, 6) is None
    driver.close()


def test_an_image_on_a_device(loop: tuple[str, Path]) -> None:
    """Whatever lay there before: a qcow2 image reads as it is written, until the device is full."""
    file = DriverEdge(open_device(loop[0], unmap=True))
    use(file.driver, permissions.WRITE | permissions.RESIZE, permissions.ALL)  # type: ignore[arg-type]
    create_image(file, CreateOptions(64 * MIB))
    disk = open_qcow2(file)
    write_disk(disk, 100, b"kept")
    disk.write_zeroes(MIB, MIB)
    disk.flush()
    with pytest.raises(OSError, match="No space left on device"):
        write_disk(disk, 2 * MIB, b"much" * (3 * MIB))
    disk.flush()
    expected = bytes(100) + b"kept" + bytes(2 * MIB - 104)
    assert read_disk(disk, 0, 2 * MIB) == expected
    disk.close()
    disk = open_qcow2(file)
    assert read_disk(disk, 0, 2 * MIB) == expected
    disk.close()
    file.driver.close()


def test_a_device_that_knows_no_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without BLKDISCARD and BLKZEROOUT zeroes are written and discards ignored; no device needed:
    a file stands in for one."""
    path = tmp_path / "stand-in"
    path.write_bytes(b"\xab" * MIB)
    monkeypatch.setattr(device, "_is_device", lambda mode: True)
    monkeypatch.setattr(device, "device_length", lambda fd: MIB)
    driver = open_device(path, unmap=True)
    use(driver, permissions.WRITE, permissions.ALL)
    driver.discard(0, 4096)
    assert driver.specific_stats()["discard-nb-failed"] == 1
    driver.write_zeroes(4096, 4096, False, False)
    with pytest.raises(OSError, match="not supported"):
        driver.write_zeroes(8192, 4096, False, True)
    driver.close()
    assert path.read_bytes() == b"\xab" * 4096 + bytes(4096) + b"\xab" * (MIB - 8192)
