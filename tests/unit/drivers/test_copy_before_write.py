"""The copy-before-write filter by itself: the old contents stay readable, whatever is written."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.engine.drivers.base import OpenContext, OpenFlags
from monitor.engine.drivers.blockcopy import UNIT
from monitor.engine.drivers.copy_before_write import CopyBeforeWriteDriver
from monitor.engine.drivers.file.create import create_file
from monitor.engine.drivers.file.driver import FileDriver
from monitor.engine.drivers.lingering import MOST
from monitor.engine.drivers.memory import MemoryDriver
from monitor.engine.schema.blockdev import BlockdevOptionsCopyBeforeWrite, BlockdevOptionsFile
from tests.support.edges import DriverEdge

SIZE = 6 * UNIT + 100
PIECE = 4096


def opened(
    disk: MemoryDriver | FileDriver,
    target: MemoryDriver | FileDriver,
    wait: Callable[[threading.Event, float], bool] = threading.Event.wait,
    **options: object,
) -> CopyBeforeWriteDriver:
    driver = CopyBeforeWriteDriver(wait)
    settled = BlockdevOptionsCopyBeforeWrite(file="f", target="t", **options)  # type: ignore[arg-type]
    children = {"file": DriverEdge(disk), "target": DriverEdge(target)}
    driver.open(OpenContext(settled, OpenFlags(), "cbw", children))
    return driver


def old_contents(driver: CopyBeforeWriteDriver) -> bytes:
    """From the target what was copied, the rest from the disk."""
    seen = bytearray(driver.length())
    driver.below.read(memoryview(seen), 0)
    for offset, length in driver.copied.areas():
        driver.target.read(memoryview(seen)[offset : offset + length], offset)
    return bytes(seen)


@given(
    requests=st.lists(
        st.tuples(
            st.sampled_from(["write", "zero", "discard"]),
            st.integers(0, SIZE - 1),
            st.integers(0, 3 * UNIT),
        ),
        max_size=12,
    )
)
def test_the_old_contents_stay(requests: list[tuple[str, int, int]]) -> None:
    before = bytes(range(1, 251)) * (SIZE // 250 + 1)
    disk, target = MemoryDriver(data=before[:SIZE]), MemoryDriver(SIZE)
    driver = opened(disk, target)
    model = bytearray(before[:SIZE])
    for number, (kind, offset, length) in enumerate(requests):
        length = min(length, SIZE - offset)
        if kind == "write":
            data = bytes([251 + number % 4]) * length
            driver.write(memoryview(data), offset)
        elif kind == "zero":
            data = bytes(length)
            driver.write_zeroes(offset, length, True)
        else:
            data = bytes(length)
            driver.discard(offset, length)
        model[offset : offset + length] = data
        assert old_contents(driver) == before[:SIZE]
    assert disk.contents() == model


def test_what_is_cut_off_is_kept() -> None:
    before = bytes(range(1, 251)) * (SIZE // 250 + 1)
    disk, target = MemoryDriver(data=before[:SIZE]), MemoryDriver(SIZE)
    opened(disk, target).truncate(2 * UNIT + 512)
    assert disk.contents() == before[: 2 * UNIT + 512]
    assert target.contents()[2 * UNIT :] == before[2 * UNIT : SIZE]


def test_a_part_is_copied_once() -> None:
    seen: list[tuple[str, int, int]] = []
    target = MemoryDriver(SIZE, before=lambda *request: seen.append(request))
    driver = opened(MemoryDriver(data=b"o" * SIZE), target)
    for offset in (UNIT, UNIT + 10, 2 * UNIT - 1):
        driver.write(memoryview(b"n"), offset)
    assert seen == [("write", UNIT, UNIT)]


def test_what_breaks_when_copying_fails() -> None:
    def fail(operation: str, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    disk = MemoryDriver(data=b"o" * SIZE)
    driver = opened(disk, MemoryDriver(SIZE, before=fail))
    with pytest.raises(OSError, match="No space"):
        driver.write(memoryview(b"n"), 0)
    assert disk.contents()[:1] == b"o"
    driver = opened(disk, MemoryDriver(SIZE, before=fail), on_cbw_error="break-snapshot")
    driver.write(memoryview(b"n"), 0)
    assert disk.contents()[:1] == b"n"
    assert driver.failure is not None


def test_files_copy_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where both ends lie plainly in files of the host, the bytes pass through no buffer."""
    drivers = []
    for name, contents in (("disk", b"o" * SIZE), ("target", b"")):
        path = tmp_path / name
        create_file(str(path), SIZE)
        if contents:
            path.write_bytes(contents)
        driver = FileDriver()
        options = BlockdevOptionsFile(filename=str(path))
        driver.open(OpenContext(options, OpenFlags(), name, {}))
        drivers.append(driver)
    disk, target = drivers
    filter_ = opened(disk, target)
    reads: list[int] = []
    monkeypatch.setattr(FileDriver, "read", lambda self, buffer, offset: reads.append(offset))
    filter_.write(memoryview(b"n" * 3 * UNIT + b"n"), UNIT)
    assert not reads
    copied = (tmp_path / "target").read_bytes()
    assert copied == bytes(UNIT) + b"o" * 4 * UNIT + bytes(SIZE - 5 * UNIT)
    assert (tmp_path / "disk").read_bytes()[4 * UNIT :][:2] == b"no"
    for driver in drivers:
        driver.close()


def test_a_copy_that_takes_too_long() -> None:
    """The guest's write fails and the copy goes on; nobody finds the filter at rest before."""
    reached, opened_again = threading.Event(), threading.Event()

    def hold(operation: str, offset: int, length: int) -> None:
        reached.set()
        assert opened_again.wait(20)

    disk, target = MemoryDriver(data=b"o" * SIZE), MemoryDriver(SIZE, before=hold)
    driver = opened(
        disk, target, wait=lambda ended, seconds: reached.wait(20) and False, cbw_timeout=7
    )
    rested = threading.Event()
    driver.on_rest = rested.set
    with pytest.raises(OSError, match="timed out"):
        driver.write(memoryview(b"n"), 0)
    assert disk.contents()[:1] == b"o"
    assert not driver.at_rest()
    opened_again.set()
    assert rested.wait(20)
    assert driver.at_rest()
    assert target.contents()[:UNIT] == b"o" * UNIT
    driver.write(memoryview(b"n"), 0)  # there is nothing to copy any more
    assert disk.contents()[:1] == b"n"


def test_a_target_that_hangs_takes_a_few_threads_and_no_more() -> None:
    """However many writes give up; what had not begun by then is not copied any more."""
    opened_again, rested = threading.Event(), threading.Event()
    units = 3 * MOST

    def hold(operation: str, offset: int, length: int) -> None:
        assert opened_again.wait(20)

    disk = MemoryDriver(data=b"o" * units * UNIT)
    target = MemoryDriver(units * UNIT, before=hold)
    driver = opened(disk, target, wait=lambda ended, seconds: False, cbw_timeout=1)
    driver.on_rest = rested.set
    threads = threading.active_count()
    for unit in range(units):
        with pytest.raises(OSError, match="timed out"):
            driver.write(memoryview(b"n"), unit * UNIT)
    assert threading.active_count() <= threads + MOST
    opened_again.set()
    assert rested.wait(20)
    while not driver.at_rest():
        assert rested.wait(20)
    copied = target.contents().count(b"o") // UNIT
    assert 1 <= copied <= MOST
    assert driver.copying.todo.count == (units - copied) * UNIT


def test_a_copy_that_cannot_begin_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by the guest nor by a drained section."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    disk = MemoryDriver(data=b"o" * SIZE)
    driver = opened(disk, MemoryDriver(SIZE), cbw_timeout=5)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(OSError, match="Resource temporarily unavailable"):
        driver.write(memoryview(b"n"), 0)
    assert driver.at_rest()
    assert disk.contents()[:1] == b"o"


@pytest.mark.parametrize("timeout", [0, 5])
def test_what_was_not_copied_does_not_count_as_copied(timeout: int) -> None:
    """Whatever went wrong."""

    def fail(operation: str, offset: int, length: int) -> None:
        raise MemoryError

    disk = MemoryDriver(data=b"o" * SIZE)
    driver = opened(disk, MemoryDriver(SIZE, before=fail), cbw_timeout=timeout)
    with pytest.raises(MemoryError):
        driver.write(memoryview(b"n"), 0)
    assert not driver.copied.count
    assert disk.contents()[:1] == b"o"
