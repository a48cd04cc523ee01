"""The contract's corners: allocation, mapping, discards, size, reopening, facts, failures."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from errno import EFBIG, EIO, ENOSPC, ENOTSUP, EROFS
from pathlib import Path
from typing import Any

import pytest

from monitor.engine.drivers.base import Extent, ExtentKind, OpenFlags
from monitor.engine.drivers.qcow2 import CreateOptions, create_image
from monitor.engine.errors import RequestError
from tests.support.children import Flush, MemoryChild, RecordingChild, Write
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


# -- creating ----------------------------------------------------------------------------------

V3 = "(use version=v3 or greater)"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"size": 1000}, "Image size must be a multiple of 512 bytes"),
        ({"cluster_size": 256}, "Cluster size must be a power of two between 512 and 2048k"),
        ({"cluster_size": 3000}, "Cluster size must be a power of two between 512 and 2048k"),
        ({"cluster_size": 4 * MIB}, "Cluster size must be a power of two between 512 and 2048k"),
        ({"backing_fmt": "raw"}, "Backing format cannot be used without backing file"),
        (
            {"refcount_bits": 3},
            "Refcount width must be a power of two and may not exceed 64 bits",
        ),
        (
            {"refcount_bits": 128},
            "Refcount width must be a power of two and may not exceed 64 bits",
        ),
        (
            {"refcount_bits": 0},
            "Refcount width must be a power of two and may not exceed 64 bits",
        ),
        (
            {"version": 2, "refcount_bits": 8},
            "Different refcount widths than 16 bits require compatibility level 1.1 or above " + V3,
        ),
        (
            {"version": 2, "lazy_refcounts": True},
            f"Lazy refcounts only supported with compatibility level 1.1 and above {V3}",
        ),
        (
            {"version": 2, "compression_type": "zstd"},
            "Non-zlib compression type is only supported with compatibility level 1.1 and above "
            + V3,
        ),
        (
            {"preallocation": "metadata", "backing_file": "b", "backing_fmt": "raw"},
            "Backing file and preallocation can only be used at the same time if extended_l2 is on",
        ),
        (
            {"size": 1 << 40, "cluster_size": 512},
            "Could not resize image: Failed to grow the L1 table: File too large",
        ),
        (
            {"size": (1 << 63) - 512},
            "Could not resize image: offset(9223372036854775296) exceeds "
            "maximum(9223372035781033984)",
        ),
        (
            {"backing_file": "x" * 1024, "backing_fmt": "raw"},
            f"Could not assign backing file '{'x' * 1024}' with format 'raw': Invalid argument",
        ),
        (
            {"backing_file": "x" * 400, "backing_fmt": "raw", "cluster_size": 512},
            f"Could not assign backing file '{'x' * 400}' with format 'raw': "
            "No space left on device",
        ),
    ],
)
def test_options_that_are_refused(options: dict[str, Any], text: str) -> None:
    file = MemoryChild()
    with pytest.raises(RequestError) as caught:
        create_image(file, CreateOptions(**({"size": MIB} | options)))
    assert str(caught.value) == text
    assert not file.content


# -- life --------------------------------------------------------------------------------------


def test_read_only_then_read_write() -> None:
    file = RecordingChild(bytes(new_image(MIB).content))
    disk = open_qcow2(file)
    write(disk, 0, b"x")
    change = disk.prepare_reopen(OpenFlags(read_only=True, unmap=True))
    assert change is not None
    assert isinstance(file.events[-1], Flush)
    assert read(open_qcow2(file, read_only=True), 0, 1) == b"x"
    change.commit()
    file.events.clear()
    with pytest.raises(OSError) as caught:
        write(disk, 0, b"y")
    assert caught.value.errno == EROFS
    disk.flush()
    assert not file.events
    back = disk.prepare_reopen(OpenFlags(unmap=True))
    assert back is not None
    back.commit()
    write(disk, 0, b"z")
    disk.close()
    assert read(open_qcow2(file), 0, 1) == b"z"


def test_an_unchanged_image_is_not_touched() -> None:
    file = RecordingChild(bytes(new_image(MIB).content))
    disk = open_qcow2(file)
    read(disk)
    disk.close()
    assert not file.events


def test_importing_the_driver_is_cheap() -> None:
    script = (
        "import sys; import monitor.engine.drivers.qcow2; "
        "sys.exit(any(m in sys.modules for m in ('numpy', 'zstandard')))"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"cache_size": 10, "l2_cache_size": 1, "refcount_cache_size": 2},
            "cache-size, l2-cache-size and refcount-cache-size may not be set at the same time",
        ),
        ({"cache_size": 10, "l2_cache_size": 11}, "l2-cache-size may not exceed cache-size"),
        (
            {"l2_cache_entry_size": 1000},
            "L2 cache entry size must be a power of two between 512 and the cluster size (65536)",
        ),
    ],
)
def test_cache_options_that_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(RequestError) as caught:
        open_qcow2(new_image(MIB), options=options)
    assert str(caught.value) == text


def test_a_small_cache_is_enough() -> None:
    disk = Disk(new_image(8 * MIB, cluster_size=512))
    disk.driver.close()
    disk.driver = open_qcow2(disk.file, options={"cache_size": 4096})
    chance = random.Random(3)
    for _ in range(300):
        disk.write(chance.randrange(8 * MIB - 3000), chance.randbytes(3000))
    disk.check()
    disk.reopen()
    disk.check()


# -- failures ----------------------------------------------------------------------------------


class FailingChild(MemoryChild):
    """Fails the n-th change from now on, once."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.countdown = -1
        self.errno = ENOSPC

    def _count(self) -> None:
        self.countdown -= 1
        if self.countdown == 0:
            raise OSError(self.errno, os.strerror(self.errno))

    def write(self, buffer: memoryview, offset: int) -> None:
        self._count()
        super().write(buffer, offset)

    def flush(self) -> None:
        self._count()
        super().flush()


@pytest.mark.parametrize("cluster_size", [512, 65536])
@pytest.mark.parametrize("countdown", range(1, 25))
def test_a_failure_anywhere_loses_only_what_failed(countdown: int, cluster_size: int) -> None:
    file = FailingChild(bytes(new_image(2 * MIB, cluster_size=cluster_size).content))
    disk = Disk(file)
    reports: list[str] = []
    disk.driver.on_corrupt = lambda *report: reports.append(report[3])
    chance = random.Random(countdown)
    disk.write(0, chance.randbytes(MIB))
    disk.driver.flush()
    file.countdown = countdown
    file.errno = chance.choice([ENOSPC, EIO, EFBIG])
    unsure: list[tuple[int, int]] = []
    for _ in range(6):
        offset, length = chance.randrange(MIB + 500_000), chance.choice([100, 5000, 200_000])
        data = chance.randbytes(length)
        try:
            disk.write(offset, data)
        except OSError:
            unsure.append((offset, length))
        try:
            disk.driver.flush()
        except OSError:
            continue  # the next one carries all of it
    assert not reports
    for offset, length in unsure:
        disk.write(offset, chance.randbytes(length))
    disk.check()
    disk.reopen()
    disk.check()


@pytest.mark.parametrize("request_", ["a cluster", "several", "compressed"])
def test_a_failed_write_whose_clusters_cannot_be_given_back_holds_up_no_others(
    request_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The block of refcounts cannot be read: those clusters leak, and no more. What other requests
    give back is used again."""
    file = new_image(4 * MIB)
    disk = open_qcow2(file)
    write(disk, 0, bytes(range(256)) * 256)

    def fail(*args: object) -> None:
        raise OSError(EIO, os.strerror(EIO))

    data = os.urandom(100) * 5000
    with monkeypatch.context() as patch:
        patch.setattr(file, "write", fail)
        patch.setattr(disk._image.refcounts, "release", fail)
        with pytest.raises(OSError, match="Input/output error"):
            match request_:
                case "a cluster":
                    write(disk, MIB, data[:100])
                case "several":
                    write(disk, MIB, data)
                case "compressed":
                    disk.write_compressed(memoryview(data[:CLUSTER]), MIB)
    disk.discard(0, CLUSTER)
    disk.flush()
    size = file.length()
    write(disk, 2 * MIB, data[:CLUSTER])
    disk.flush()
    assert file.length() == size
