"""The contract's corners: allocation, mapping, zeroes and discards, size."""

from __future__ import annotations

import os
import random
from errno import ENOTSUP
from pathlib import Path

import pytest

from monitor.engine.drivers.base import Extent, ExtentKind
from monitor.engine.errors import RequestError
from tests.support.children import FailingChild, MemoryChild, RecordingChild, Write
from tests.support.edges import DriverEdge
from tests.support.effort import lines_of
from tests.support.files import open_file
from tests.support.qcow2 import Disk, new_image, open_qcow2, read, write

CLUSTER = 65536
MIB = 1 << 20
GIB = 1 << 30


# -- allocation ------------------------------------------------------------------------------


def test_a_large_write_is_one_run_written_once() -> None:
    file = RecordingChild(bytes(new_image(128 * MIB).content))
    disk = open_qcow2(file)
    write(disk, 0, b"first")  # brings the L2 table
    file.events.clear()
    write(disk, MIB + 100, bytes(64 * MIB))
    sizes = [len(event.data) for event in file.events if isinstance(event, Write)]
    assert sum(sizes) == 64 * MIB  # only the request's bytes: the rest of a fresh cluster is zero
    assert len(sizes) == 1
    assert disk.map(MIB, 64 * MIB)[0].length == 64 * MIB


def test_what_it_holds_it_says_at_once() -> None:
    disk = Disk(new_image(4 * MIB))
    disk.write(100, b"data")
    disk.driver.write_zeroes(CLUSTER, CLUSTER)
    disk.driver.write_compressed(memoryview(bytes(range(256)) * 256), 2 * CLUSTER)
    said = [disk.driver.holds(at * CLUSTER, CLUSTER) for at in range(4)]
    assert said == [True, True, True, False]
    assert not disk.driver.holds(100, CLUSTER)  # two clusters: ``map`` knows
    disk.reopen()
    assert not disk.driver.holds(0, 512)  # the table would have to be read
    assert disk.driver.map(0, 512)[0].kind is ExtentKind.DATA
    assert disk.driver.holds(0, 512)


def test_scattered_clusters_are_one_run_written_once() -> None:
    file = RecordingChild(bytes(new_image(2048 * MIB).content))
    disk = Disk(file)
    disk.write(0, b"first")  # brings an L2 table
    ranges = [(at * 5 * MIB + 65536, 65536 * (1 + at % 2)) for at in range(100)]
    data = random.Random(1).randbytes(sum(length for _, length in ranges))
    file.events.clear()
    disk.driver.write_ranges(memoryview(data), ranges)
    sizes = [len(event.data) for event in file.events if isinstance(event, Write)]
    assert sizes.count(len(data)) == 1
    assert sum(sizes) == len(data)
    at = 0
    for offset, length in ranges:
        assert read(disk.driver, offset, length) == data[at : at + length]
        at += length


class CountingChild(MemoryChild):
    reads = 0

    def read(self, buffer: memoryview, offset: int) -> None:
        self.reads += 1
        super().read(buffer, offset)


def test_scattered_clusters_are_read_by_the_run() -> None:
    """Of every kind; what lies side by side in the file comes by one call."""
    below = MemoryChild(random.Random(2).randbytes(8 * MIB))
    file = CountingChild(bytes(new_image(32 * MIB, cluster_size=4096).content))
    disk = Disk(file, below)
    ranges = [(at * MIB + CLUSTER, CLUSTER * (1 + at % 2)) for at in range(30)]
    disk.write_ranges(random.Random(1).randbytes(sum(length for _, length in ranges)), ranges)
    file.reads = 0
    assert disk.read_ranges(ranges) == wanted(disk, ranges)
    assert file.reads == 1
    disk.write_zeroes(*ranges[3])
    disk.write_compressed(MIB - 8192, b"squeezed" * 512)
    ranges = sorted([*ranges, (8192, 3 * 4096), (MIB - 8192, 8192), (31 * MIB, MIB)])
    assert disk.read_ranges(ranges) == wanted(disk, ranges)


def test_ranges_in_no_order_are_theirs_all_the_same() -> None:
    disk = Disk(new_image(MIB, cluster_size=4096))
    ranges = [(8 * 4096, 4096), (0, 4096), (3 * 4096, 2 * 4096)]
    disk.write_ranges(random.Random(3).randbytes(4 * 4096), ranges)
    disk.check()
    assert disk.read_ranges(ranges) == wanted(disk, ranges)


def wanted(disk: Disk, ranges: list[tuple[int, int]]) -> bytes:
    return b"".join(disk.model[at : at + length] for at, length in ranges)


def test_a_scattered_write_that_fails_leaves_all_as_it_was() -> None:
    file = FailingChild(bytes(new_image(4 * MIB).content))
    disk = Disk(file)
    disk.write(0, b"old" * 100_000)
    disk.driver.flush()
    file.countdown = 1
    with pytest.raises(OSError):
        disk.driver.write_ranges(memoryview(bytes(131072)), [(MIB, 65536), (3 * MIB, 65536)])
    disk.check()
    disk.write_ranges(b"new" * 43690 + b"xx", [(MIB, 65536), (3 * MIB, 65536)])
    disk.check()
    disk.reopen()
    disk.check()
    assert disk.driver.check("none").leaks == 0


def test_only_the_ends_of_a_write_are_copied() -> None:
    backing = MemoryChild(b"below" * MIB)
    reads: list[tuple[int, int]] = []
    plain = backing.read

    def recorded(buffer: memoryview, offset: int) -> None:
        reads.append((offset, len(buffer)))
        plain(buffer, offset)

    backing.read = recorded  # type: ignore[method-assign]
    disk = open_qcow2(new_image(4 * MIB), backing)
    write(disk, 100, b"x" * (10 * CLUSTER))
    assert reads == [(0, 100), (10 * CLUSTER + 100, CLUSTER - 100)]
    expected = bytearray(backing.content[: 4 * MIB])
    expected[100 : 100 + 10 * CLUSTER] = b"x" * (10 * CLUSTER)
    assert read(disk) == expected


@pytest.mark.parametrize("refcount_bits", [1, 8, 64])
def test_refcount_blocks_and_tables_grow(refcount_bits: int) -> None:
    disk = Disk(new_image(12 * MIB, cluster_size=512, refcount_bits=refcount_bits))
    chance = random.Random(1)
    for offset in range(0, 12 * MIB, 3 * MIB):
        disk.write(offset, chance.randbytes(1000) * 3000)
    disk.reopen()
    disk.check()


# -- mapping ---------------------------------------------------------------------------------


def test_map() -> None:
    disk = open_qcow2(new_image(GIB))
    write(disk, CLUSTER, b"x" * 2 * CLUSTER)
    disk.write_zeroes(8 * CLUSTER, 3 * CLUSTER)
    found = disk.map(0, GIB)
    kinds = [(extent.kind, extent.length) for extent in found]
    assert kinds == [
        (ExtentKind.UNALLOCATED, CLUSTER),
        (ExtentKind.DATA, 2 * CLUSTER),
        (ExtentKind.UNALLOCATED, 5 * CLUSTER),
        (ExtentKind.ZERO, 3 * CLUSTER),
        (ExtentKind.UNALLOCATED, GIB - 11 * CLUSTER),
    ]
    assert disk.map(CLUSTER + 10, 20) == [Extent(ExtentKind.DATA, 20)]


def test_map_offers_the_host_file(tmp_path: Path) -> None:
    path = tmp_path / "a.qcow2"
    path.write_bytes(new_image(MIB).content)
    file = open_file(path)
    disk = open_qcow2(DriverEdge(file))
    write(disk, CLUSTER, b"where?" * 20_000)
    disk.flush()
    extent = disk.map(CLUSTER + 6, 60)[0]
    assert extent.kind == ExtentKind.DATA
    assert os.pread(extent.host, 60, extent.host_offset) == b"where?" * 10
    disk.close()
    file.close()


def test_map_asks_the_file_once_however_scattered_the_clusters_lie() -> None:
    file = MemoryChild(bytes(new_image(8 * MIB).content))
    disk = open_qcow2(file)
    for first in (0, 1):  # neighbours of the guest's lie in different halves of the file
        for cluster in range(first, 128, 2):
            write(disk, cluster * CLUSTER, b"d" * CLUSTER)
    asked: list[tuple[int, int]] = []
    plain = file.map

    def recorded(offset: int, length: int) -> list[Extent]:
        asked.append((offset, length))
        return plain(offset, length)

    file.map = recorded  # type: ignore[method-assign]
    assert [run.kind for run in disk.map(0, 8 * MIB)] == [ExtentKind.DATA]
    assert len(asked) == 1
    asked.clear()
    disk.map(CLUSTER, 7 * MIB)  # what lies further in front is asked for beside
    (before, length), (after, _) = sorted(asked)
    assert before + length == after


def test_map_of_a_petabyte_is_one_extent_at_once() -> None:
    disk = open_qcow2(new_image(1 << 50, cluster_size=2 * MIB))
    assert disk.map(0, 1 << 50) == [Extent(ExtentKind.UNALLOCATED, 1 << 50)]
    assert lines_of(lambda: disk.map(0, 1 << 50)) < 200  # 536,870,912 clusters


# -- zeroes and discards -----------------------------------------------------------------------


def test_zeroing_whole_tables_goes_by_tables() -> None:
    disk = open_qcow2(new_image(64 * GIB))

    def zero_and_discard() -> None:
        disk.write_zeroes(0, 64 * GIB, True)
        disk.flush()
        disk.discard(0, 64 * GIB)
        disk.flush()

    assert lines_of(zero_and_discard) < 150_000  # 1,048,576 clusters in 128 tables, twice
    assert disk.map(0, 64 * GIB) == [Extent(ExtentKind.ZERO, 64 * GIB)]


def test_zeroes_without_fallback() -> None:
    disk = Disk(new_image(MIB), MemoryChild(b"b" * MIB))
    disk.driver.write_zeroes(CLUSTER, CLUSTER, no_fallback=True)
    disk.model[CLUSTER : 2 * CLUSTER] = bytes(CLUSTER)
    with pytest.raises(OSError) as caught:
        disk.driver.write_zeroes(3 * CLUSTER, CLUSTER + 1, no_fallback=True)
    assert caught.value.errno == ENOTSUP
    disk.check()


def test_zeroes_keep_or_give_up_clusters() -> None:
    file = new_image(MIB)
    disk = open_qcow2(file)
    write(disk, 0, b"x" * MIB)
    disk.write_zeroes(0, MIB, may_unmap=False)
    disk.flush()
    length = file.length()
    write(disk, 0, b"y" * MIB)  # into the same clusters
    disk.flush()
    assert file.length() == length
    disk.write_zeroes(0, MIB, may_unmap=True)
    disk.flush()
    disk.flush()
    assert sum(size for _, size in file.discards) == MIB


def test_discard_is_ignored_unless_asked_for() -> None:
    file = new_image(MIB)
    disk = open_qcow2(file, unmap=False)
    write(disk, 0, b"x" * MIB)
    disk.discard(0, MIB)
    disk.flush()
    assert read(disk) == b"x" * MIB
    assert not file.discards


@pytest.mark.parametrize("passed", [True, False])
def test_discards_reach_the_file(passed: bool) -> None:
    file = new_image(MIB)
    disk = open_qcow2(file, options={"pass_discard_request": passed})
    write(disk, 0, b"x" * MIB)
    disk.discard(CLUSTER, 4 * CLUSTER)
    assert not file.discards  # not before the tables no longer refer to the clusters, durably
    disk.flush()
    assert [size for _, size in file.discards] == ([4 * CLUSTER] if passed else [])


def test_a_discard_shows_nothing_of_the_backing_file() -> None:
    below = MemoryChild(b"b" * MIB)
    for version in (2, 3):
        disk = open_qcow2(new_image(MIB, version=version), below)
        write(disk, 0, b"x" * MIB)
        disk.discard(0, MIB)
        assert read(disk) == (bytes(MIB) if version == 3 else b"x" * MIB)


# -- size --------------------------------------------------------------------------------------


def test_growth_hides_a_longer_backing_file() -> None:
    disk = Disk(new_image(100 * 512), MemoryChild(b"b" * MIB))
    disk.truncate(200 * 512)
    disk.check()
    disk.truncate(2 * MIB)
    disk.check()
    disk.reopen()
    disk.check()


def test_what_was_cut_off_stays_away() -> None:
    disk = Disk(new_image(MIB))
    disk.write(0, b"x" * MIB)
    disk.truncate(CLUSTER + 512)
    disk.truncate(MIB)
    disk.check()


def test_sizes_that_are_refused() -> None:
    disk = open_qcow2(new_image(MIB, cluster_size=512))
    with pytest.raises(RequestError, match=r"^The new size must be a multiple of 512$"):
        disk.truncate(1000)
    with pytest.raises(RequestError, match=r"^Failed to grow the L1 table: File too large$"):
        disk.truncate(1 << 40)
    disk = open_qcow2(new_image(512, version=2), MemoryChild(b"b" * MIB))
    with pytest.raises(RequestError, match=r"^Failed to zero out new clusters: .*not supported$"):
        disk.truncate(MIB)
    assert disk.length() == 512
