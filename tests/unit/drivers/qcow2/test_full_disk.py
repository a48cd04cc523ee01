"""A disk that is full at any moment: a request that was answered as done needs no more room.

The file lies on a disk with room for so many blocks (``SmallDisk``). Whatever request meets its
end: that one fails, the others stay done, and flushing and closing never fail for want of room.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.engine.bitmap import DirtyBitmap
from monitor.engine.drivers.base import LostBitmaps, NewSnapshot
from monitor.engine.drivers.qcow2 import CreateOptions, Qcow2Driver, create_image
from monitor.engine.errors import RequestError
from monitor.engine.graph.recorders import Bitmaps
from tests.support.children import SmallDisk
from tests.support.qcow2 import open_qcow2, qemu_check, read, write
from tests.support.qcow2_strategies import images

KEEPING: dict[str, Any] = {"pass_discard_request": False, "pass_discard_snapshot": False}
"""No room comes back that would hide a lack of it."""


class Guest:
    """Makes requests, and knows what the disk must read as, whichever of them fail."""

    def __init__(self, file: SmallDisk, **options: Any) -> None:
        self.file = file
        self.options = options
        self.driver = open_qcow2(file, options=options)
        self.model = read(self.driver)
        self.kept: list[bytes] = []  # what the snapshots hold
        self.refused = 0

    # -- requests --------------------------------------------------------------------------------

    def write(self, offset: int, data: bytes) -> None:
        self._try(lambda d: write(d, offset, data), self._with(offset, data))

    def compressed(self, offset: int, data: bytes) -> None:
        self._try(lambda d: d.write_compressed(memoryview(data), offset), self._with(offset, data))

    def copy(self, offset: int, data: bytes) -> None:
        """As a copy engine does it, past the driver."""

        def copied(driver: Qcow2Driver) -> None:
            reserved = driver.map_for_write(offset, len(data))
            assert reserved is not None
            at = 0
            try:
                for run in reserved.runs:
                    self.file.write(memoryview(data)[at : at + run.length], run.host_offset)
                    at += run.length
            except OSError:
                reserved.abort()
                raise
            reserved.commit()

        self._try(copied, self._with(offset, data))

    def scatter(self, data: bytes, ranges: Sequence[tuple[int, int]]) -> None:
        new, at = self.model, 0
        for offset, length in ranges:
            new = new[:offset] + data[at : at + length] + new[offset + length :]
            at += length
        self._try(lambda d: d.write_ranges(memoryview(data), ranges), new)

    def zero(self, offset: int, length: int, unmap: bool = False) -> None:
        new = self._with(offset, bytes(length))
        self._try(lambda d: d.write_zeroes(offset, length, unmap), new)

    def discard(self, offset: int, length: int) -> None:
        """Of whole clusters."""
        self._try(lambda d: d.discard(offset, length), self._with(offset, bytes(length)))

    def resize(self, size: int, mode: str = "off") -> None:
        new = self.model[:size].ljust(size, b"\0")
        if size < len(self.model):
            self._try(lambda d: d.truncate(size), new)
        else:
            self._try(lambda d: d.grow(size, mode), new)

    def snapshot(self) -> None:
        before = self.model
        wanted = NewSnapshot("s", 0, 0)
        if self._try(lambda d: d.create_snapshot(wanted), before) is None:
            self.kept.append(before)

    def revert(self) -> None:
        if self.kept:
            last = len(self.kept) - 1
            self._try(lambda d: d.apply_snapshot(last), self.kept[-1], whole=True)

    def forget(self) -> None:
        if self.kept and self._try(lambda d: d.delete_snapshot(0), self.model) is None:
            del self.kept[0]

    # -- what must hold --------------------------------------------------------------------------

    def _with(self, offset: int, data: bytes) -> bytes:
        return self.model[:offset] + data + self.model[offset + len(data) :]

    def _try(
        self, request: Callable[[Qcow2Driver], object], new: bytes, *, whole: bool = False
    ) -> Exception | None:
        """Makes a request after which the disk reads as ``new``; why it was refused, if it was.

        Its range holds old and new bytes then, or all is as it was (``whole``).
        """
        error = _refusal(request, self.driver)
        if error is None:
            self.model = new
            self.check()
            return None
        if _is_full(error):
            self.refused += 1
        else:  # a counter that can hold no more
            facts = (self.driver.specific_info() or {})["data"]
            assert isinstance(error, OSError)
            assert error.errno == errno.EINVAL
            assert facts["refcount-bits"] < 16
        found = read(self.driver)
        assert _between(found, self.model, new)
        assert not whole or found == self.model
        self.model = found
        return error

    def check(self) -> None:
        assert read(self.driver) == self.model

    def reopen(self) -> None:
        """Closing never fails, and all is there afterwards: contents, counts and flags."""
        self.driver.close()
        self.driver = open_qcow2(self.file, options=self.options)
        self.check()
        report = self.driver.check("none")
        assert (report.corruptions, report.leaks, report.problems) == (0, 0, [])

    def reopen_sparse(self) -> None:
        """The file is copied in between, as by ``cp --sparse=always``."""
        self.driver.close()
        self.file = SmallDisk(bytes(self.file.content), self.file.budget)
        self.driver = open_qcow2(self.file, options=self.options)
        self.check()


def _refusal(request: Callable[[Qcow2Driver], object], driver: Qcow2Driver) -> Exception | None:
    try:
        request(driver)
    except (OSError, RequestError) as error:
        return error
    return None


def _is_full(error: Exception) -> bool:
    number = error.errno if isinstance(error, OSError) else None
    return number == errno.ENOSPC or "No space left on device" in str(error)


def _between(found: bytes, old: bytes, new: bytes) -> bool:
    """Each byte is the old one or the new one."""
    if len(found) not in (len(old), len(new)):
        return False
    size = len(found)
    got, before, after = (
        np.frombuffer(part[:size].ljust(size, b"\0"), np.uint8) for part in (found, old, new)
    )
    return bool(((got == before) | (got == after)).all())


# -- any requests --------------------------------------------------------------------------------


def _request(data: st.DataObject, guest: Guest, byte: int) -> None:
    size = len(guest.model)
    cluster = guest.driver.cluster_size() or 1
    kinds = ["write", "write", "copy", "compressed", "zero", "discard", "flush", "resize"]
    kinds += ["snapshot", "revert", "forget", "reopen", "reopen_sparse", "room"]
    kind = data.draw(st.sampled_from(kinds))
    if kind == "flush":
        guest.driver.flush()
    elif kind == "room":
        guest.file.budget += data.draw(st.integers(0, 64))
    elif kind == "resize":
        new = data.draw(st.integers(1, size // 512 + 200)) * 512
        mode = data.draw(st.sampled_from(["off", "metadata", "falloc"]))
        if not guest.kept:
            guest.resize(new, mode)
    elif kind in ("snapshot", "revert", "forget", "reopen", "reopen_sparse"):
        getattr(guest, kind)()
    elif kind in ("write", "zero"):
        offset = data.draw(st.integers(0, size - 1))
        length = data.draw(st.integers(1, size - offset))
        if kind == "write":
            guest.write(offset, bytes([byte]) * length)
        else:
            guest.zero(offset, length, data.draw(st.booleans()))
    else:
        first = data.draw(st.integers(0, (size - 1) // cluster))
        last = data.draw(st.integers(first, (size - 1) // cluster))
        offset, end = first * cluster, min(size, (last + 1) * cluster)
        if kind == "discard":
            guest.discard(offset, end - offset)
        else:
            getattr(guest, kind)(offset, bytes([byte]) * (end - offset))


@given(st.data(), images(), st.integers(0, 200), st.booleans())
def test_any_requests(
    data: st.DataObject, options: dict[str, Any], room: int, passed: bool
) -> None:
    file = SmallDisk()
    create_image(file, CreateOptions(**options))
    file.budget = room << data.draw(st.sampled_from([0, 3, 6]))
    lazy = options["version"] == 3 and data.draw(st.booleans())
    guest = Guest(file, pass_discard_request=passed, lazy_refcounts=lazy)
    for byte in range(1, data.draw(st.integers(2, 14))):
        _request(data, guest, byte)
    _ends_well(guest)


def _ends_well(guest: Guest) -> None:
    """It can be flushed and closed as it is, and goes on once there is room."""
    guest.driver.flush()
    guest.reopen()
    guest.file.budget, refused = 1 << 40, guest.refused
    guest.write(0, b"on" * (len(guest.model) // 2))
    if not guest.kept:  # which would hold version 2 back
        guest.resize(len(guest.model) + 512)
    guest.snapshot()
    assert guest.refused == refused  # nothing for want of room
    guest.reopen()
    guest.driver.close()


# -- at every moment of the same requests --------------------------------------------------------


def _day(guest: Guest, cluster: int) -> None:
    """Some of everything: growing tables, shared ones, freed clusters that are used again."""
    guest.write(cluster // 2, b"1" * 9 * cluster)
    guest.driver.flush()
    guest.write(40 * cluster + 100, b"2" * 200)
    guest.compressed(80 * cluster, b"3" * 3 * cluster)
    guest.copy(100 * cluster, b"4" * 4 * cluster)
    guest.scatter(b"5" * 3 * cluster, [(at * cluster, cluster) for at in (40, 90, 110)])
    guest.snapshot()
    guest.write(3 * cluster, b"5" * 2 * cluster)
    guest.zero(41 * cluster, 90 * cluster)
    guest.discard(4 * cluster, 3 * cluster)
    guest.driver.flush()
    guest.write(200 * cluster, b"6" * 2 * cluster)
    guest.resize(2000 * cluster)
    guest.snapshot()
    guest.resize(2003 * cluster, "falloc")
    guest.write(1999 * cluster, b"7" * cluster)
    guest.forget()
    guest.revert()
    guest.write(0, b"8" * 300)


def _prepared(cluster: int, sparse: bool) -> SmallDisk:
    file = SmallDisk()
    create_image(file, CreateOptions(300 * cluster, cluster_size=cluster))
    disk = open_qcow2(file)
    write(disk, 40 * cluster, b"before" * 50)
    disk.close()
    return SmallDisk(bytes(file.content)) if sparse else file


@pytest.mark.parametrize("sparse", [False, True], ids=["written", "sparse"])
@pytest.mark.parametrize(("cluster", "step"), [(512, 1), (4096, 31)])
@pytest.mark.parametrize("lazy", [False, True], ids=["eager", "lazy"])
def test_at_any_moment(
    tmp_path: Path, need: Callable[[str], None], cluster: int, step: int, sparse: bool, lazy: bool
) -> None:
    """The room ends later by a little each time, until it is enough; QEMU finds the image sound."""
    need("qemu-img")
    image = tmp_path / "a.qcow2"
    for number, room in enumerate(range(0, 1 << 20, step)):
        file = _prepared(cluster, sparse)
        file.budget = room
        guest = Guest(file, lazy_refcounts=lazy, **KEEPING)
        _day(guest, cluster)
        _ends_well(guest)
        if number % 16 == 0:
            image.write_bytes(file.content)
            assert qemu_check(image) == {"leaks": 0, "corruptions": 0}
        if not guest.refused:
            return
    pytest.fail("there was never room enough")


@pytest.mark.parametrize(
    ("cluster", "size", "at", "used"),
    [(512, 6000, 5000, 240), (4096, 600, 300, 251)],
    ids=["L1 table and a new block", "L2 table and refcount block"],
)
def test_tables_in_holes_of_the_file(cluster: int, size: int, at: int, used: int) -> None:
    """What is written next belongs into a sector of a table that the file has no room for yet."""
    for room in range(20 if cluster == 512 else 30):
        file = SmallDisk()
        create_image(file, CreateOptions(size * cluster, cluster_size=cluster))
        disk = open_qcow2(file)
        write(disk, 0, b"x" * used * cluster)
        disk.close()
        guest = Guest(SmallDisk(bytes(file.content), room), **KEEPING)
        for number in range(at, at + 20):
            guest.write(number * cluster, b"y" * cluster)
        assert guest.refused
        guest.driver.flush()
        guest.reopen()


# -- bitmaps -------------------------------------------------------------------------------------


@pytest.mark.parametrize("room", range(0, 46, 5))
def test_bitmaps_that_do_not_fit_are_lost_and_nothing_else(room: int) -> None:
    """Closing says so, as in QEMU; those that were there before are inconsistent afterwards."""
    file = SmallDisk()
    create_image(file, CreateOptions(1 << 20, cluster_size=4096))
    disk, bitmaps = _with_bitmaps(file)
    write(disk, 0, b"data" * 1000)
    _add(bitmaps, "old").set(0, 5000)
    disk.close()
    disk, bitmaps = _with_bitmaps(file)
    write(disk, 8192, b"more" * 1000)
    _add(bitmaps, "new").set(0, 1 << 19)
    file.budget = room
    error = _refusal(Qcow2Driver.close, disk)
    stored = error is None
    assert stored or (isinstance(error, LostBitmaps) and _is_full(error))
    disk, bitmaps = _with_bitmaps(file)
    assert read(disk, 0, 4000) + read(disk, 8192, 4000) == b"data" * 1000 + b"more" * 1000
    assert disk.check("none").leaks == disk.check("none").corruptions == 0
    assert {b.name: b.inconsistent for b in bitmaps.named()} == (
        {"old": False, "new": False} if stored else {"old": True}
    )
    assert stored == (room >= 40)  # data and table of each, and the directory


def _with_bitmaps(file: SmallDisk) -> tuple[Qcow2Driver, Bitmaps]:
    bitmaps = Bitmaps()
    return open_qcow2(file, bitmaps=bitmaps), bitmaps


def _add(bitmaps: Bitmaps, name: str) -> DirtyBitmap:
    bitmap = DirtyBitmap(1 << 20, 4096, name)
    bitmap.persistent = True
    bitmaps.add(bitmap)
    return bitmap
