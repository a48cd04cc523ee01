"""Creating files: sizes, preallocation, and what is refused in QEMU's words."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from monitor.engine import permissions
from monitor.engine.drivers.file import create
from monitor.engine.drivers.file.create import create_file
from monitor.engine.drivers.file.locks import LockNotGranted
from monitor.engine.errors import RequestError
from tests.support.files import locked_bytes, open_file, use


def refusal(path: Path | str, size: int = 512, preallocation: str = "off") -> str:
    with pytest.raises(RequestError) as caught:
        create_file(str(path), size, preallocation)
    return caught.value.text


@pytest.mark.parametrize(
    ("preallocation", "allocated"), [("off", False), ("falloc", True), ("full", True)]
)
@pytest.mark.parametrize("size", [0, 1000, 3 * 1024 * 1024 + 5])
def test_new_file(tmp_path: Path, preallocation: str, allocated: bool, size: int) -> None:
    path = tmp_path / "new"
    create_file(str(path), size, preallocation)
    assert path.read_bytes() == bytes(size)
    held = path.stat().st_blocks * 512
    assert (held >= size) if allocated else (held == 4096 * bool(size))  # its first block
    assert path.stat().st_mode & 0o777 == 0o644 & ~_umask()
    assert locked_bytes(path) == set()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_old_contents_are_gone(tmp_path: Path) -> None:
    path = tmp_path / "old"
    path.write_bytes(b"\xab" * 10_000)
    create_file(str(path), 5_000, nocow=True)
    assert path.read_bytes() == bytes(5_000)


def test_image_in_use_keeps_its_contents(tmp_path: Path) -> None:
    path = tmp_path / "used"
    path.write_bytes(b"\xab" * 512)
    driver = open_file(path, read_only=True)
    use(driver, permissions.CONSISTENT_READ, permissions.ALL & ~permissions.RESIZE)
    with pytest.raises(LockNotGranted) as caught:
        create_file(str(path), 1024)
    assert caught.value.text == 'Failed to get "resize" lock'
    assert caught.value.hint == f"Is another process using the image [{path}]?"
    assert path.read_bytes() == b"\xab" * 512
    driver.close()


def test_refusals(tmp_path: Path) -> None:
    path = tmp_path / "no" / "where"
    assert refusal(path) == f"Could not create '{path}': No such file or directory"
    assert refusal(tmp_path) == f"Could not create '{tmp_path}': Is a directory"
    assert refusal("/dev/full") == "'file' driver requires '/dev/full' to be a regular file"
    assert refusal("") == "Could not create '': No such file or directory"
    assert refusal("a\0b") == r"Could not create 'a\x00b': Invalid argument"
    image = tmp_path / "image"
    assert refusal(image, 512, "metadata") == "Unsupported preallocation mode: metadata"
    assert refusal(image, 1 << 62) == "Could not resize file: File too large"
    assert refusal(image, 1 << 63) == "Could not resize file: File too large"
    text = "Could not preallocate new data: File too large"
    assert refusal(image, 1 << 63, "falloc") == text
    assert image.stat().st_size == 0


def test_fifo_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    text = f"'file' driver requires '{tmp_path}/fifo' to be a regular file"
    assert refusal(tmp_path / "fifo") == text


def test_full_disk_leaves_an_empty_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: memoryview, offset: int) -> None:
        os.pwrite(fd, data[:4096], offset)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(create, "write_fully", full)
    text = "Could not write zeros for preallocation: No space left on device"
    assert refusal(tmp_path / "image", 1 << 20, "full") == text
    assert (tmp_path / "image").stat().st_size == 0
    monkeypatch.setattr(os, "posix_fallocate", lambda fd, at, size: full(fd, memoryview(b"x"), at))
    text = "Could not preallocate new data: No space left on device"
    assert refusal(tmp_path / "image", 1 << 20, "falloc") == text
    assert (tmp_path / "image").stat().st_size == 0
