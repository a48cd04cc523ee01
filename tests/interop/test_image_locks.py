"""Image locks between this engine and QEMU: each refuses what two QEMUs would refuse."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from monitor.engine.drivers.file.create import create_file
from monitor.engine.drivers.file.locks import LockNotGranted
from monitor.engine.permissions import ALL, CONSISTENT_READ, RESIZE, WRITE
from tests.support.files import locked_bytes, open_file, use
from tests.support.spin import until
from tests.support.tools import fails, need, run


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    create_file(str(path), 1 << 20)
    return path


@contextmanager
def storage_daemon(image: Path, driver: str, writable: bool) -> Iterator[None]:
    """A qemu-storage-daemon that exports ``image``."""
    need("qemu-storage-daemon")
    read_only = "off" if writable else "on"
    pidfile = image.with_suffix(".pid")
    run(
        *("qemu-storage-daemon", "--daemonize", "--pidfile", pidfile),
        *("--blockdev", f"file,node-name=f,filename={image},read-only={read_only}"),
        *("--blockdev", f"{driver},node-name=d,file=f,read-only={read_only}"),
        *("--nbd-server", f"addr.type=unix,addr.path={image.with_suffix('.sock')}"),
        *("--export", f"nbd,id=e,node-name=d,writable={'on' if writable else 'off'}"),
    )
    pid = int(pidfile.read_text())
    try:
        yield
    finally:
        os.kill(pid, signal.SIGTERM)
        until(lambda: not locked_bytes(image))


@pytest.mark.parametrize(
    ("driver", "writable", "held"),
    [
        ("raw", True, {100, 101, 203}),
        ("raw", False, {100, 203}),
        ("qcow2", True, {100, 101, 103, 201, 203}),
    ],
)
def test_bytes_are_those_that_we_take(
    image: Path, driver: str, writable: bool, held: set[int]
) -> None:
    if driver == "qcow2":
        need("qemu-img")
        run("qemu-img", "create", "-q", "-f", "qcow2", image, "1M")
    with storage_daemon(image, driver, writable):
        assert locked_bytes(image) == held


def test_we_respect_a_qemu_that_holds_the_image(image: Path) -> None:
    with storage_daemon(image, "raw", writable=True):
        driver = open_file(image)
        with pytest.raises(LockNotGranted) as caught:
            driver.check_permissions(CONSISTENT_READ | RESIZE, ALL)
        assert caught.value.text == 'Failed to get "resize" lock'
        with pytest.raises(LockNotGranted) as caught:
            driver.check_permissions(CONSISTENT_READ, ALL & ~WRITE)
        assert caught.value.text == 'Failed to get shared "write" lock'
        assert caught.value.hint == f"Is another process using the image [{image}]?"
        with pytest.raises(LockNotGranted):
            create_file(str(image), 512)
        use(driver, CONSISTENT_READ | WRITE, ALL)  # shared on both sides
        driver.close()
    assert image.stat().st_size == 1 << 20


def test_qemu_respects_us(image: Path) -> None:
    need("qemu-img", "qemu-io")
    run("qemu-img", "create", "-q", "-f", "qcow2", image, "1M")
    driver = open_file(image)
    use(driver, CONSISTENT_READ | WRITE, CONSISTENT_READ)
    hint = f"Is another process using the image [{image}]?"
    said = fails("qemu-io", "-f", "qcow2", "-c", "write 0 512", image)
    assert 'Failed to get "write" lock' in said
    assert hint in said
    said = fails("qemu-img", "info", image)
    assert 'Failed to get shared "write" lock' in said
    run("qemu-img", "info", "-U", image)
    use(driver, CONSISTENT_READ, ALL & ~WRITE)
    run("qemu-img", "info", image)
    said = fails("qemu-img", "resize", image, "2M")
    assert 'Failed to get "write" lock' in said
    driver.close()
    run("qemu-img", "resize", "-q", image, "2M")


def test_without_locking_nobody_notices(image: Path) -> None:
    need("qemu-img")
    driver = open_file(image, options={"locking": "off"})
    use(driver, ALL, 0)
    run("qemu-img", "resize", "-q", "-f", "raw", image, "2M")
    driver.allocated_bytes()  # whoever queries looks at the file again
    assert driver.length() == 2 << 20
    driver.close()
