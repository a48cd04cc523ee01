"""One access to the file fails, whichever: the request says so, and nothing else has changed.

The same requests are made again and again, and each time a later read, write, flush, discard or
look at the file fails, perhaps after it was carried out in part or as a whole. Then the guest reads
what it must, no claim and no lock is left over, a kill loses nothing that was flushed, no bitmap is
taken for sound that misses a change, and in the end no cluster has leaked.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from monitor.engine.bitmap import DirtyBitmap
from monitor.engine.drivers.base import Extent, ExtentKind, NewSnapshot, OpenFlags, Reservation
from monitor.engine.errors import RequestError
from monitor.engine.graph.recorders import Bitmaps, noted_write
from monitor.engine.schema.blockdev import BlockdevOptionsQcow2
from tests.support.children import MemoryChild
from tests.support.qcow2 import new_image, open_qcow2, read

GRANULARITY = 4096
STEP = 13
"""Each case looks at every thirteenth access, and at others than the cases beside it."""


class FaultyChild(MemoryChild):
    """The access of number ``at`` fails. ``reaches``: a write comes to the disk all the same."""

    def __init__(self, content: bytes, at: int, reaches: bool) -> None:
        super().__init__(content)
        self.at = at
        self.reaches = reaches
        self.on = True
        self.failed = ""
        """What has failed."""

    def _count(self, what: str) -> None:
        if self.on:
            self.at -= 1
            if self.at == -1:
                self.failed = what
                raise OSError(errno.EIO, os.strerror(errno.EIO))

    def read(self, buffer: memoryview, offset: int) -> None:
        self._count("read")
        super().read(buffer, offset)

    def write(self, buffer: memoryview, offset: int) -> None:
        try:
            self._count("write")
        except OSError:
            if self.reaches:
                super().write(buffer, offset)
            raise
        super().write(buffer, offset)

    def discard(self, offset: int, length: int) -> None:
        self._count("discard")
        inside = max(0, min(length, self.length() - offset))
        self.content[offset : offset + inside] = bytes(inside)

    def flush(self) -> None:
        self._count("flush")
        super().flush()

    def truncate(self, size: int) -> None:
        self._count("truncate")
        super().truncate(size)

    def map(self, offset: int, length: int) -> list[Extent]:
        self._count("map")
        return super().map(offset, length)

    def map_for_write(self, offset: int, length: int) -> Reservation | None:
        runs = [Extent(ExtentKind.DATA, length, 0, offset)]
        return Reservation(runs, lambda: None, lambda: None)


def between(found: bytes, old: bytes, new: bytes) -> bool:
    """Each byte is the old one or the new one."""
    if len(found) not in (len(old), len(new)):
        return False
    got, before, after = (
        np.frombuffer(part.ljust(len(found), b"\0")[: len(found)], np.uint8)
        for part in (found, old, new)
    )
    return bool(((got == before) | (got == after)).all())


class Guest:
    """Makes requests that may fail, and knows what must be read then."""

    def __init__(self, file: FaultyChild, options: dict[str, Any]) -> None:
        self.file = file
        self.options = BlockdevOptionsQcow2(file="file", **options)
        self.bitmaps = Bitmaps()
        file.on = False
        self.driver = open_qcow2(file, options=options, bitmaps=self.bitmaps)
        self.model = self.now()
        file.on = True
        self.cluster = self.driver.cluster_size() or 1
        self.kept: list[bytes] = []
        self.began = {bitmap.name: self.model for bitmap in self.bitmaps}
        """What the disk read as when a bitmap was clean."""
        self.keeps_bitmaps = bool(self.began)

    def now(self) -> bytes:
        on, self.file.on = self.file.on, False
        try:
            return read(self.driver)
        finally:
            self.file.on = on

    def attempt(self, request: Callable[[], object], new: bytes, *, whole: bool = False) -> bool:
        """Whether it was done. The disk reads as ``new`` then; else, but for requests that are done
        as a whole or not at all, each byte as before or as then."""
        try:
            request()
        except (OSError, RequestError):
            found = self.now()
            assert found == self.model or (not whole and between(found, self.model, new))
            self.model = found
            done = False
        else:
            self.model = new
            assert self.now() == new
            done = True
        if self.keeps_bitmaps:
            self.check_kill()
        return done

    def with_data(self, first: int, data: bytes) -> bytes:
        at = first * self.cluster
        return self.model[:at] + data + self.model[at + len(data) :]

    # -- requests; in clusters -------------------------------------------------------------------

    def write(self, first: int, count: int, byte: bytes, *, off: int = 0) -> None:
        data = byte * (count * self.cluster - off)
        noted = noted_write(self.driver.write, self.bitmaps.note())
        at = first * self.cluster
        new = self.model[:at] + data + self.model[at + len(data) :]
        self.attempt(lambda: noted(memoryview(data), at), new)

    def compressed(self, first: int, data: bytes) -> None:
        self.bitmaps_note(first, len(data))
        at = first * self.cluster
        write = self.driver.write_compressed
        self.attempt(lambda: write(memoryview(data), at), self.with_data(first, data))

    def copy(self, first: int, data: bytes) -> None:
        self.bitmaps_note(first, len(data))

        def copied() -> None:
            reserved = self.driver.map_for_write(first * self.cluster, len(data))
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

        self.attempt(copied, self.with_data(first, data))

    def scatter(self, clusters: list[int], byte: bytes) -> None:
        new, data = self.model, byte * self.cluster
        for number in clusters:
            self.bitmaps_note(number, self.cluster)
            at = number * self.cluster
            new = new[:at] + data + new[at + self.cluster :]
        ranges = [(number * self.cluster, self.cluster) for number in clusters]
        whole = memoryview(data * len(clusters))
        self.attempt(lambda: self.driver.write_ranges(whole, ranges), new)

    def zero(self, first: int, count: int, *, unmap: bool = False) -> None:
        length = count * self.cluster
        self.bitmaps_note(first, length)
        zeroes = self.driver.write_zeroes
        request = lambda: zeroes(first * self.cluster, length, unmap)  # noqa: E731
        self.attempt(request, self.with_data(first, bytes(length)))

    def discard(self, first: int, count: int) -> None:
        length = count * self.cluster
        self.bitmaps_note(first, length)
        request = lambda: self.driver.discard(first * self.cluster, length)  # noqa: E731
        self.attempt(request, self.with_data(first, bytes(length)))

    def resize(self, clusters: int, mode: str = "off") -> None:
        size = clusters * self.cluster
        new = self.model[:size].ljust(size, b"\0")
        if size < len(self.model):
            self.attempt(lambda: self.driver.truncate(size), new)
        else:
            self.attempt(lambda: self.driver.grow(size, mode), new)

    def snapshot(self) -> None:
        before, wanted = self.model, NewSnapshot("s", 0, 0)
        if self.attempt(lambda: self.driver.create_snapshot(wanted), before, whole=True):
            self.kept.append(before)

    def revert(self) -> None:
        if self.kept:
            self.attempt(lambda: self.driver.apply_snapshot(0), self.kept[0], whole=True)

    def forget(self) -> None:
        if self.kept and self.same(lambda: self.driver.delete_snapshot(0)):
            del self.kept[0]

    def same(self, request: Callable[[], object]) -> bool:
        return self.attempt(request, self.model, whole=True)

    def flush(self) -> None:
        self.same(lambda: self.driver.flush())

    def reopen(self, *, read_only: bool, given_up: bool = False) -> None:
        def request() -> None:
            self.driver.flush()
            flags = OpenFlags(read_only=read_only, unmap=True)
            change = self.driver.prepare_reopen(flags, self.options)
            if change is not None:
                (change.abort if given_up else change.commit)()

        self.same(request)

    # -- bitmaps ---------------------------------------------------------------------------------

    def bitmaps_note(self, first: int, length: int) -> None:
        for bitmap in self.bitmaps:
            bitmap.set(first * self.cluster, length)

    def add_bitmap(self, name: str) -> None:
        if name not in self.bitmaps:
            bitmap = DirtyBitmap(len(self.model), GRANULARITY, name)
            bitmap.persistent = True
            self.bitmaps.add(bitmap)
            self.began[name] = self.model

    def remove_bitmap(self, name: str) -> None:
        bitmap = self.bitmaps.get(name)
        if bitmap and self.same(lambda: self.driver.remove_bitmap(name)):
            self.bitmaps.remove(bitmap)
            del self.began[name]

    # -- what must hold --------------------------------------------------------------------------

    def check_kill(self) -> None:
        """What a kill leaves can be opened, and its bitmaps cover what has changed."""
        bitmaps = Bitmaps()
        left = open_qcow2(MemoryChild(self.file.content), bitmaps=bitmaps, read_only=True)
        content = read(left) if any(not bitmap.inconsistent for bitmap in bitmaps) else b""
        for bitmap in bitmaps:
            if bitmap.inconsistent or bitmap.name not in self.began:
                continue
            covered = bytearray(content)
            then = self.began[bitmap.name]
            for offset, length in bitmap.areas():
                covered[offset : offset + length] = then[offset : offset + length]
            assert covered == then, bitmap.name

    def check_end(self) -> None:
        """From here on nothing fails."""
        self.file.on = False
        image = self.driver._image
        assert not image.claims
        assert not image._active
        assert not image.lock.locked()
        assert not image.flush_lock.locked()
        assert len(self.driver.snapshots()) == len(self.kept)
        self.reopen(read_only=False)
        self.driver.flush()
        self.check_left(leaks=False)
        self.write(0, 10, b"~")
        self.driver.close()
        # The clusters of a bitmap whose table cannot be read are given up as lost.
        self.check_left(leaks=not (self.file.failed == "read" and self.keeps_bitmaps))
        for number, content in enumerate(self.kept):
            disk = open_qcow2(MemoryChild(self.file.content))
            disk.apply_snapshot(number)
            assert read(disk) == content

    def check_left(self, *, leaks: bool) -> None:
        left = open_qcow2(MemoryChild(self.file.content), read_only=True)
        assert read(left) == self.model
        if not left._image.is_dirty:
            report = left.check("none")
            assert not report.corruptions
            assert not report.leaks or not leaks


def disk_day(guest: Guest) -> None:
    guest.write(0, 9, b"1", off=100)
    guest.flush()
    guest.compressed(80, b"3" * 3 * guest.cluster)
    guest.copy(100, b"4" * 4 * guest.cluster)
    guest.scatter([40, 90, 110], b"5")
    guest.snapshot()
    guest.write(3, 2, b"5", off=100)
    guest.zero(41, 90)
    guest.discard(4, 3)
    guest.flush()
    guest.write(200, 2, b"6")
    guest.resize(700)
    guest.same(lambda: guest.driver.mark_unfinished("a job"))
    guest.snapshot()
    guest.resize(703, "falloc")
    guest.write(699, 1, b"7")
    guest.same(lambda: guest.driver.mark_unfinished(None))
    guest.forget()
    guest.revert()
    guest.write(0, 1, b"8", off=200)
    guest.forget()
    guest.resize(100)
    guest.zero(1, 5, unmap=True)
    noise = random.Random(1).randbytes(guest.cluster)
    guest.compressed(20, (b"9" * guest.cluster + noise) * 4)
    guest.discard(0, 100)
    guest.write(0, 20, b"a")
    guest.flush()


def bitmaps_day(guest: Guest) -> None:
    long_name = "a longer name" * 9
    guest.write(0, 9, b"1", off=100)
    guest.add_bitmap(long_name)
    guest.flush()
    guest.reopen(read_only=True)
    guest.reopen(read_only=False)
    guest.write(50, 9, b"2")
    guest.reopen(read_only=True, given_up=True)
    guest.write(70, 9, b"3")
    guest.remove_bitmap("one")
    guest.write(90, 9, b"4")
    guest.same(lambda: guest.driver.set_backing(None, None))
    guest.snapshot()
    guest.write(90, 9, b"5")
    guest.same(lambda: guest.driver.mark_unfinished("a job"))
    guest.add_bitmap("one")
    guest.add_bitmap("five")
    guest.reopen(read_only=True, given_up=True)
    guest.write(110, 9, b"6")
    guest.same(lambda: guest.driver.mark_unfinished(None))
    guest.reopen(read_only=True)
    guest.reopen(read_only=False)
    guest.write(110, 9, b"7")
    for name in ("two", "one", "five", long_name):
        guest.remove_bitmap(name)
    guest.write(110, 9, b"8")
    guest.flush()


def prepared(cluster: int, *, bitmaps: bool) -> bytes:
    file = new_image(300 * cluster, cluster_size=cluster)
    kept = Bitmaps()
    disk = open_qcow2(file, bitmaps=kept)
    disk.write(memoryview(b"before" * 50), 40 * cluster)
    for name in ("one", "two") if bitmaps else ():
        bitmap = DirtyBitmap(300 * cluster, GRANULARITY, name)
        bitmap.persistent = True
        kept.add(bitmap)
    disk.close()
    return bytes(file.content)


@pytest.mark.parametrize("reaches", [False, True], ids=["fails", "reaches the disk"])
@pytest.mark.parametrize(
    ("cluster", "options"),
    [(512, {}), (512, {"lazy_refcounts": True, "cache_size": 4096}), (1024, {"cache_size": 4096})],
    ids=["small", "lazy", "large"],
)
@pytest.mark.parametrize("day", [disk_day, bitmaps_day], ids=lambda day: day.__name__)
def test_at_any_access(
    day: Callable[[Guest], None], cluster: int, options: dict[str, Any], reaches: bool
) -> None:
    content = prepared(cluster, bitmaps=day is bitmaps_day)
    begin = cluster // 512 + reaches + 2 * len(options)
    for at in range(begin, 1000, STEP):
        guest = Guest(FaultyChild(content, at, reaches), options)
        day(guest)
        guest.check_end()
        if not guest.file.failed:
            assert at > 100
            return
    pytest.fail("it never went well")


@pytest.mark.parametrize("size", [512, 3 << 20], ids=["smaller", "larger"])
@pytest.mark.parametrize("reaches", [False, True])
def test_a_size_is_the_new_one_or_the_old_one(size: int, reaches: bool) -> None:
    """In memory as on the disk: where resizing is refused, nobody sees another size."""
    whole = bytes(new_image(1 << 20, cluster_size=4096).content)
    refused = 0
    for at in range(40):
        file = FaultyChild(whole, at, reaches)
        file.on = False
        disk = open_qcow2(file)
        file.on = True
        try:
            disk.truncate(size)
        except (OSError, RequestError):
            changed = False
        else:
            changed = True
        refused += not changed
        file.on = False
        assert disk.length() == (size if changed else 1 << 20)
        disk.flush()
        assert open_qcow2(MemoryChild(file.content)).length() == disk.length()
    assert refused
