"""O_DIRECT: only whole aligned blocks reach the kernel, whatever is asked for."""

from __future__ import annotations

import errno
import mmap
import os
import threading
from pathlib import Path

import pytest

from monitor.engine.drivers.file.direct import BOUNCE_SIZE, SAFE_ALIGNMENT, DirectIO
from tests.conformance.checks import pattern
from tests.support.files import open_file
from tests.support.spin import until

BLOCK = 512


class StrictDisk:
    """``os`` for direct.py over a plain file, with a disk's alignment rules made strict: offset
    and length by BLOCK, and the buffer one of an mmap (the caller's own is refused)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.requests: list[tuple[str, int, int]] = []
        self._preadv, self._pwrite = os.preadv, os.pwrite
        monkeypatch.setattr(os, "preadv", self.preadv)
        monkeypatch.setattr(os, "pwrite", self.pwrite)

    def preadv(self, fd: int, buffers: tuple[memoryview], offset: int) -> int:
        self._check("read", buffers[0], offset)
        return self._preadv(fd, buffers, offset)

    def pwrite(self, fd: int, buffer: memoryview, offset: int) -> int:
        self._check("write", buffer, offset)
        return self._pwrite(fd, buffer, offset)

    def _check(self, kind: str, buffer: memoryview, offset: int) -> None:
        if offset % BLOCK or len(buffer) % BLOCK or not isinstance(buffer.obj, mmap.mmap):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self.requests.append((kind, offset, len(buffer)))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> StrictDisk:
    return StrictDisk(monkeypatch)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(pattern(0, 16 * BLOCK))
    return path


def io_on(path: Path) -> DirectIO:
    return DirectIO(os.open(path, os.O_RDWR))


def test_alignment_is_found_by_trying(disk: StrictDisk, image: Path) -> None:
    assert io_on(image).alignment == BLOCK
    assert disk.requests == [("read", 0, BLOCK)]


def test_alignment_is_safe_where_anything_goes(image: Path) -> None:
    assert io_on(image).alignment == SAFE_ALIGNMENT


def test_aligned_request_in_an_aligned_buffer_goes_straight(disk: StrictDisk, image: Path) -> None:
    io = io_on(image)
    disk.requests.clear()
    buffer = memoryview(mmap.mmap(-1, 4096))
    io.read(buffer, BLOCK)
    io.write(buffer, BLOCK)
    assert disk.requests == [("read", BLOCK, 4096), ("write", BLOCK, 4096)]
    assert buffer == pattern(0, 16 * BLOCK)[BLOCK : BLOCK + 4096]


def test_buffers_that_the_kernel_refuses_are_bounced(disk: StrictDisk, image: Path) -> None:
    io = io_on(image)
    disk.requests.clear()
    buffer = bytearray(2 * BLOCK)
    io.read(memoryview(buffer), BLOCK)
    assert buffer == pattern(0, 3 * BLOCK)[BLOCK:]
    io.write(memoryview(b"\x01" * BLOCK), 0)
    assert disk.requests == [("read", BLOCK, 2 * BLOCK), ("write", 0, BLOCK)]


def test_only_partial_blocks_are_read_before_a_write(disk: StrictDisk, image: Path) -> None:
    io = io_on(image)
    disk.requests.clear()
    io.write(memoryview(b"\xff" * (4 * BLOCK)), 100)
    assert disk.requests == [
        ("read", 0, BLOCK),
        ("read", 4 * BLOCK, BLOCK),
        ("write", 0, 5 * BLOCK),
    ]
    expected = bytearray(pattern(0, 16 * BLOCK))
    expected[100 : 100 + 4 * BLOCK] = b"\xff" * (4 * BLOCK)
    assert image.read_bytes() == expected


def test_long_unaligned_requests_go_in_pieces(disk: StrictDisk, image: Path) -> None:
    io = io_on(image)
    data = pattern(5, 2 * BOUNCE_SIZE + 777)
    io.write(memoryview(data), 333)
    buffer = bytearray(len(data))
    io.read(memoryview(buffer), 333)
    assert buffer == data
    assert image.stat().st_size == 333 + len(data)
    assert max(length for _, _, length in disk.requests) == BOUNCE_SIZE


def test_padding_is_cut_off(disk: StrictDisk, image: Path) -> None:
    io = io_on(image)
    os.truncate(image, 1000)
    io.write(memoryview(b"abc"), 990)
    assert image.stat().st_size == 1000
    io.write(memoryview(b"abc"), 999)
    assert image.stat().st_size == 1002
    assert image.read_bytes()[988:] == pattern(0, 990)[988:990] + b"abc" + pattern(0, 999)[
        993:999
    ] + (b"abc")


def test_short_writes_go_on_from_a_whole_block(
    disk: StrictDisk, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: disk.pwrite(fd, data[:BLOCK], at))
    io = io_on(image)
    data = memoryview(mmap.mmap(-1, 4 * BLOCK))
    data[:] = b"\x77" * (4 * BLOCK)
    io.write(data, 0)
    assert image.read_bytes()[: 5 * BLOCK] == bytes(data) + pattern(0, 5 * BLOCK)[4 * BLOCK :]


def test_other_errors_are_not_taken_for_misalignment(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    io = io_on(image)

    def failing(fd: int, data: object, offset: int) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "pwrite", failing)
    monkeypatch.setattr(os, "preadv", failing)
    for offset in (0, 7):
        with pytest.raises(OSError, match="Input/output error"):
            io.write(memoryview(bytes(SAFE_ALIGNMENT)), offset)
        with pytest.raises(OSError, match="Input/output error"):
            io.read(memoryview(bytearray(SAFE_ALIGNMENT)), offset)


class Window:
    """Holds a read-modify-write open, after the read, until another writer has arrived."""

    def __init__(self, io: DirectIO, monkeypatch: pytest.MonkeyPatch) -> None:
        self.io = io
        self.opened, self.done = threading.Event(), threading.Event()
        self._fill = io._blocks._fill_partial
        monkeypatch.setattr(io._blocks, "_fill_partial", self.fill_partial)

    def fill_partial(self, blocks: memoryview, start: int, offset: int, end: int) -> None:
        self._fill(blocks, start, offset, end)
        if self.opened.is_set():
            return
        self.opened.set()
        # The other is then either waiting for us, as it should, or done, as it must not be.
        until(lambda: self.io._ranges.in_flight == 2 or self.done.is_set())


@pytest.mark.parametrize("other_is_aligned", [True, False])
def test_overlapping_writer_waits_for_a_read_modify_write(
    image: Path, monkeypatch: pytest.MonkeyPatch, other_is_aligned: bool
) -> None:
    io = io_on(image)
    window = Window(io, monkeypatch)
    first = threading.Thread(target=io.write, args=(memoryview(b"\x01" * 100), 0))
    first.start()
    assert window.opened.wait(10)

    def write_other() -> None:
        start, end = (0, 2 * SAFE_ALIGNMENT) if other_is_aligned else (100, 200)
        io.write(memoryview(b"\x02" * (end - start)), start)
        window.done.set()

    other = threading.Thread(target=write_other)
    other.start()
    first.join(10)
    other.join(10)
    found = image.read_bytes()
    assert found[100:200] == b"\x02" * 100  # written back by neither
    if not other_is_aligned:
        assert found[:100] == b"\x01" * 100


def test_growing_writes_do_not_cut_each_other_off(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a write's padding stands, one further back must not grow the file."""
    io = io_on(image)
    size = image.stat().st_size
    window = Window(io, monkeypatch)
    first = threading.Thread(target=io.write, args=(memoryview(b"\x01" * 100), size))
    first.start()
    assert window.opened.wait(10)

    def write_further() -> None:
        io.write(memoryview(b"\x02" * SAFE_ALIGNMENT), size + 4 * SAFE_ALIGNMENT)
        window.done.set()

    other = threading.Thread(target=write_further)
    other.start()
    first.join(10)
    other.join(10)
    assert image.stat().st_size == size + 5 * SAFE_ALIGNMENT
    assert image.read_bytes()[-SAFE_ALIGNMENT:] == b"\x02" * SAFE_ALIGNMENT


def test_real_direct_io_bypasses_the_page_cache(image: Path) -> None:
    """On the filesystem of the tests: written with O_DIRECT, read without, and back."""
    driver = open_file(image, direct=True)
    plain = open_file(image)
    for offset, length in ((0, 4096), (1, 100), (4095, 2), (8000, 5000)):
        data = pattern(offset, length)
        driver.write(memoryview(data), offset)
        buffer = bytearray(length)
        plain.read(memoryview(buffer), offset)
        assert buffer == data
        plain.write(memoryview(data[::-1]), offset)
        driver.read(memoryview(buffer), offset)
        assert buffer == data[::-1]
    driver.close()
    plain.close()
