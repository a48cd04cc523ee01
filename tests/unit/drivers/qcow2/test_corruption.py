"""Images that contradict themselves: EIO, one report, the corrupt bit, and no damage spread."""

from __future__ import annotations

import struct
from collections.abc import Callable
from errno import EIO

import pytest

from monitor.engine.drivers.qcow2 import Qcow2Driver
from monitor.engine.drivers.qcow2.errors import CorruptForWriting
from monitor.engine.errors import RequestError
from tests.support.children import MemoryChild
from tests.support.qcow2 import new_image, open_qcow2, read, write

CLUSTER = 65536
Report = tuple[int | None, int | None, bool, str]


def number(file: MemoryChild, offset: int) -> int:
    return int.from_bytes(file.content[offset : offset + 8], "big")


def set_number(file: MemoryChild, offset: int, value: int) -> None:
    struct.pack_into(">Q", file.content, offset, value)


@pytest.fixture
def file() -> MemoryChild:
    """An image whose first three clusters hold data."""
    child = new_image(1 << 30)
    disk = open_qcow2(child)
    write(disk, 0, b"guest data" * 19000)
    disk.close()
    return child


def l1_table(file: MemoryChild) -> int:
    return number(file, 40)


def l2_table(file: MemoryChild) -> int:
    return number(file, l1_table(file)) & 0x00FFFFFFFFFFFE00


def refcount_block(file: MemoryChild) -> int:
    return number(file, number(file, 48))


def opened(file: MemoryChild, **flags: bool) -> tuple[Qcow2Driver, list[Report]]:
    disk = open_qcow2(file, **flags)
    reports: list[Report] = []
    disk.on_corrupt = lambda *report: reports.append(report)
    return disk, reports


def test_an_unaligned_data_cluster(file: MemoryChild) -> None:
    table = l2_table(file)
    set_number(file, table + 8, number(file, table + 8) + 512)
    disk, reports = opened(file)
    with pytest.raises(OSError, match="Cluster allocation offset") as caught:
        read(disk, CLUSTER, 10)
    assert caught.value.errno == EIO
    text = f"Cluster allocation offset 0x60200 unaligned (L2 offset: {table:#x}, L2 index: 0x1)"
    assert reports == [(None, None, True, text)]
    assert file.content[79] & 2  # the corrupt bit
    assert read(disk, 0, 10) == b"guest data"  # the rest can still be read
    with pytest.raises(OSError, match="corrupt"):
        write(disk, 0, b"x")
    disk.close()
    with pytest.raises(CorruptForWriting):
        open_qcow2(file)


def test_a_read_only_image_is_not_marked(file: MemoryChild) -> None:
    table = l2_table(file)
    set_number(file, table, number(file, table) + 512)
    before = bytes(file.content)
    disk, reports = opened(file, read_only=True)
    for _ in range(2):
        with pytest.raises(OSError, match="unaligned"):
            read(disk, 0, 10)
    assert [report[2] for report in reports] == [False]  # once, and not fatal
    assert file.content == before


def test_an_unaligned_l2_table(file: MemoryChild) -> None:
    set_number(file, l1_table(file), (l2_table(file) + 512) | 1 << 63)
    disk, reports = opened(file)
    with pytest.raises(OSError, match="L2 table offset"):
        read(disk, 0, 10)
    text = f"L2 table offset {l2_table(file):#x} unaligned (L1 index: 0)"
    assert reports[0][3] == text


def test_an_l2_table_outside_of_the_file(file: MemoryChild) -> None:
    set_number(file, l1_table(file), 1 << 50 | 1 << 63)
    disk, reports = opened(file)
    with pytest.raises(OSError, match="outside of the file"):
        read(disk, 0, 10)
    assert reports[0][0] == 1 << 50


def test_data_outside_of_the_file(file: MemoryChild) -> None:
    set_number(file, l2_table(file), 1 << 50 | 1 << 63)
    disk, reports = opened(file)
    for length in (10, 2 * CLUSTER):
        with pytest.raises(OSError, match="outside of the file"):
            read(disk, 0, length)
    assert [report[2] for report in reports] == [False]


def test_a_zero_cluster_in_version_2() -> None:
    file = new_image(1 << 20, version=2)
    disk = open_qcow2(file)
    write(disk, 0, b"x" * CLUSTER)
    disk.close()
    set_number(file, l2_table(file), number(file, l2_table(file)) | 1)
    disk, reports = opened(file)
    with pytest.raises(OSError, match="Zero cluster entry found in pre-v3 image"):
        read(disk, 0, 10)
    assert reports


@pytest.mark.parametrize(
    ("where", "name"),
    [
        (l1_table, "active L1 table"),
        (l2_table, "active L2 table"),
        (lambda f: number(f, 48), "refcount table"),
        (refcount_block, "refcount block"),
    ],
    ids=["L1", "L2", "refcount table", "refcount block"],
)
@pytest.mark.parametrize("length", [100, 3 * CLUSTER])
def test_a_data_cluster_on_metadata(
    file: MemoryChild, where: Callable[[MemoryChild], int], name: str, length: int
) -> None:
    target = where(file)
    set_number(file, l2_table(file), target | 1 << 63)
    before = bytes(file.content)
    disk, reports = opened(file)
    with pytest.raises(OSError, match="Preventing invalid write on metadata"):
        write(disk, 0, b"x" * length)
    text = f"Preventing invalid write on metadata (overlaps with {name})"
    assert (reports[0][2], reports[0][3]) == (True, text)
    assert file.content[80:] == before[80:]  # but for the corrupt bit


@pytest.mark.parametrize("structure", ["header", "L1", "L2", "refcount block"])
def test_metadata_that_counts_as_free(file: MemoryChild, structure: str) -> None:
    """The next allocation would take it."""
    offset = {
        "header": 0,
        "L1": l1_table(file),
        "L2": l2_table(file),
        "refcount block": refcount_block(file),
    }[structure]
    counter = refcount_block(file) + (offset // CLUSTER) * 2
    file.content[counter : counter + 2] = bytes(2)
    before = bytes(file.content)
    disk, reports = opened(file)
    with pytest.raises(OSError, match="Preventing invalid write on metadata"):
        write(disk, 900 << 20, b"x" * 100)
    assert reports[0][2]
    assert file.content[80:] == before[80:]


def test_structures_on_one_another(file: MemoryChild) -> None:
    set_number(file, l1_table(file) + 8, refcount_block(file) | 1 << 63)
    before = bytes(file.content)
    disk, _ = opened(file)
    with pytest.raises(OSError, match="Metadata structures overlap"):
        write(disk, 0, b"x")
    assert file.content[80:] == before[80:]


def test_an_unaligned_refcount_block(file: MemoryChild) -> None:
    set_number(file, number(file, 48), refcount_block(file) + 512)
    disk, reports = opened(file)
    with pytest.raises(OSError, match="Refblock offset"):
        write(disk, 900 << 20, b"x")
    assert reports[0][3].startswith("Refblock offset 0x20200 unaligned (reftable index: 0)")


def test_a_refcount_block_outside_of_the_file(file: MemoryChild) -> None:
    set_number(file, number(file, 48), 1 << 50)
    disk, _ = opened(file)
    with pytest.raises(OSError, match="outside of the file"):
        write(disk, 900 << 20, b"x")


@pytest.mark.parametrize("compression", ["zlib", "zstd"])
@pytest.mark.parametrize("data", [b"", b"\0" * 4096, b"\xff" * 4096, b"\x78\x9c" * 2048])
def test_damaged_compressed_data(compression: str, data: bytes) -> None:
    file = new_image(1 << 20, compression_type=compression)
    disk = open_qcow2(file)
    write(disk, 0, b"x" * CLUSTER)
    disk.close()
    host = number(file, l2_table(file)) & 0x00FFFFFFFFFFFE00
    file.content[host : host + CLUSTER] = data.ljust(CLUSTER, b"\0")
    set_number(file, l2_table(file), 1 << 62 | 7 << 54 | host)
    disk, _ = opened(file)
    with pytest.raises(OSError) as caught:
        read(disk, 0, 10)
    assert caught.value.errno == EIO


def test_a_dirty_image_that_is_damaged_besides(file: MemoryChild) -> None:
    set_number(file, 72, 1)
    set_number(file, l1_table(file), (l2_table(file) + 512) | 1 << 63)
    with pytest.raises(RequestError, match="Could not repair dirty image: Input/output error"):
        open_qcow2(file)
    assert read(open_qcow2(file, read_only=True), 1 << 29, 10) == bytes(10)


@pytest.mark.parametrize("structure", [l1_table, l2_table, refcount_block])
def test_metadata_is_never_given_to_the_host(
    file: MemoryChild, structure: Callable[[MemoryChild], int]
) -> None:
    """A guest cluster that is said to lie there is discarded, and nothing but its entry changes."""
    at = structure(file)
    set_number(file, l2_table(file) + 8, at | 1 << 63)
    disk, _ = opened(file)
    disk.discard(0, 2 * CLUSTER)
    disk.flush()
    assert read(disk, 0, 2 * CLUSTER) == bytes(2 * CLUSTER)
    disk.close()
    assert not any(offset <= at < offset + length for offset, length in file.discards)
