"""raw: a part of a file, and the guard on an image that was only guessed to be raw."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from monitor.engine import permissions
from monitor.engine.drivers.base import Driver, Extent, ExtentKind, OpenContext, OpenFlags
from monitor.engine.drivers.memory import MemoryDriver
from monitor.engine.drivers.raw import RawDriver
from monitor.engine.errors import RequestError
from monitor.engine.schema.blockdev import BlockdevOptionsRaw
from tests.support.edges import DriverEdge

MIB = 1 << 20


def raw_on(child: Driver, *, probed: bool = False, unmap: bool = True, **part: int) -> RawDriver:
    driver = RawDriver()
    driver.probed = probed
    options = BlockdevOptionsRaw(file="child", **part)
    flags = OpenFlags(unmap=unmap)
    driver.open(OpenContext(options, flags, "raw", {"file": DriverEdge(child)}))
    return driver


@pytest.mark.parametrize(
    ("part", "text"),
    [
        (
            {"offset": MIB + 1},
            "Offset (1048577) cannot be greater than size of the containing file (1048576)",
        ),
        (
            {"size": MIB + 1},
            "The sum of offset (0) and size (1048577) has to be smaller or equal to the  actual "
            "size of the containing file (1048576)",
        ),
        (
            {"offset": 512, "size": MIB},
            "The sum of offset (512) and size (1048576) has to be smaller or equal to the  actual "
            "size of the containing file (1048576)",
        ),
        ({"size": 1000}, "Specified size is not multiple of 512"),
        ({"size": -1}, "Parameter 'size' expects a non-negative number below 2^64"),
        ({"offset": -1}, "Parameter 'offset' expects a non-negative number below 2^64"),
    ],
)
def test_parts_that_are_refused(part: dict[str, int], text: str) -> None:
    with pytest.raises(RequestError) as caught:
        raw_on(MemoryDriver(MIB), **part)
    assert caught.value.text == text


@pytest.mark.parametrize(
    ("part", "length"),
    [
        ({}, MIB),
        ({"offset": 1000}, MIB - 1000),
        ({"offset": MIB}, 0),
        ({"offset": MIB, "size": 0}, 0),
        ({"size": 0}, 0),
        ({"offset": 512, "size": 1024}, 1024),
    ],
)
def test_length(part: dict[str, int], length: int) -> None:
    assert raw_on(MemoryDriver(MIB), **part).length() == length


def test_length_follows_a_file_that_shrinks() -> None:
    child = MemoryDriver(MIB)
    part, rest = raw_on(child, offset=4096, size=8192), raw_on(child, offset=4096)
    child.truncate(8192)
    assert (part.length(), rest.length()) == (4096, 4096)
    child.truncate(512)
    assert (part.length(), rest.length()) == (0, 0)


def test_nothing_around_the_part_is_shown_or_touched() -> None:
    child = MemoryDriver(data=b"\xa5" * 4096)
    driver = raw_on(child, offset=512, size=1024)
    buffer = bytearray(b"\xee" * 2048)
    driver.read(memoryview(buffer), 512)
    assert buffer == b"\xa5" * 512 + bytes(1536)
    driver.read(memoryview(buffer), 5000)
    assert buffer == bytes(2048)
    requests: tuple[Callable[[], None], ...] = (
        lambda: driver.write(memoryview(bytes(513)), 512),
        lambda: driver.write_zeroes(0, 1025),
        lambda: driver.discard(1024, 1),
    )
    for request in requests:
        with pytest.raises(OSError, match="No space left on device") as caught:
            request()
        assert caught.value.errno == errno.ENOSPC
    driver.write_zeroes(0, 1024)
    assert child.contents() == b"\xa5" * 512 + bytes(1024) + b"\xa5" * 2560


def test_a_flush_of_a_part_reaches_the_file() -> None:
    seen: list[str] = []
    child = MemoryDriver(MIB, before=lambda operation, *_: seen.append(operation))
    raw_on(child, offset=512).flush()
    assert seen == ["flush"]


def test_resizing() -> None:
    child = MemoryDriver(MIB)
    raw_on(child, offset=512).truncate(1024)
    assert child.length() == 1536
    with pytest.raises(RequestError, match="Cannot resize fixed-size raw disks"):
        raw_on(child, size=512).truncate(1024)
    with pytest.raises(RequestError, match="Disk size too large for the chosen offset"):
        raw_on(child, offset=512).truncate((1 << 63) - 512)


def test_graph_may_go_past_it_only_when_it_does_nothing() -> None:
    child = MemoryDriver(MIB)
    assert raw_on(child).passes_to() == "file"
    assert raw_on(child, offset=0).passes_to() == "file"
    assert raw_on(child, offset=1).passes_to() is None
    assert raw_on(child, size=512).passes_to() is None
    assert raw_on(child, probed=True).passes_to() is None


def test_permissions() -> None:
    """QEMU: a filter's without a part; with one, RESIZE is not shared, and nothing is added."""
    read, write, resize = permissions.CONSISTENT_READ, permissions.WRITE, permissions.RESIZE
    child = MemoryDriver(MIB)
    whole, part = raw_on(child), raw_on(child, size=512)
    taken, shared = read | write, permissions.ALL & ~write
    assert whole.child_permissions("file", taken, shared, True) == (taken, shared)
    assert part.child_permissions("file", taken, shared, True) == (taken, shared & ~resize)
    assert part.child_permissions("file", taken | resize, shared, True)[0] == taken | resize


def test_discards_pass_only_when_asked() -> None:
    """`discard=ignore`, the default, holds whatever the file below would do."""
    child = MemoryDriver(data=b"\xab" * 8192)
    driver = raw_on(child, unmap=False)
    driver.discard(0, 4096)
    assert child.contents() == b"\xab" * 8192
    driver.write_zeroes(0, 4096, True)
    assert child.allocated_bytes() == 8192
    change = driver.prepare_reopen(OpenFlags(unmap=True))
    assert change is not None
    change.abort()
    driver.discard(4096, 4096)
    assert child.contents() == bytes(4096) + b"\xab" * 4096
    change.commit()
    assert driver.prepare_reopen(OpenFlags(unmap=True)) is None
    driver.discard(4096, 4096)
    driver.write_zeroes(0, 4096, True)
    assert child.contents() == bytes(8192)
    assert child.allocated_bytes() == 0


class Overlay(MemoryDriver):
    """A file node that has a backing image of its own."""

    def map(self, offset: int, length: int) -> list[Extent]:
        return [Extent(ExtentKind.UNALLOCATED, length // 2), Extent(ExtentKind.ZERO, length // 2)]


def test_map_leaves_nothing_to_a_backing_image_that_it_does_not_have() -> None:
    runs = raw_on(Overlay(MIB), offset=512).map(0, 1024)
    assert runs == [Extent(ExtentKind.DATA, 512), Extent(ExtentKind.ZERO, 512)]


# -- the guard -------------------------------------------------------------------------------

HEADERS = [
    b"QFI\xfb\0\0\0\x03",
    b"QFI\xfb\0\0\0\x01",
    b"KDMV",
    b"COWD",
    b"# Disk DescriptorFile\nversion=1\n",
    b"vhdxfile",
    b"conectix",
    b"LUKS\xba\xbe\0\x01",
    b"QED\0",
    b"WithoutFreeSpace",
]


def assert_refused(driver: RawDriver, data: bytes, offset: int) -> None:
    with pytest.raises(PermissionError) as caught:
        driver.write(memoryview(data), offset)
    assert caught.value.errno == errno.EPERM


@pytest.mark.parametrize("header", HEADERS, ids=repr)
def test_header_of_another_format(header: bytes) -> None:
    child = MemoryDriver(data=b"\xab" * 4096)
    driver = raw_on(child, probed=True)
    for data in (header, header.ljust(512, b"\0"), header.ljust(4096, b"\0")):
        if header.startswith(b"#") and data == header:
            continue  # what follows makes it no descriptor
        assert_refused(driver, data, 0)
        assert child.contents() == b"\xab" * 4096
    driver.write(memoryview(header), 512)  # harmless there
    driver.probed = False
    driver.write(memoryview(header), 0)  # and for one who said "raw"


def test_header_in_two_halves() -> None:
    driver = raw_on(MemoryDriver(4096), probed=True)
    driver.write(memoryview(b"dxfile"), 2)
    assert_refused(driver, b"vh", 0)


def test_header_completed_by_zeroes() -> None:
    child = MemoryDriver(data=b"QED" + b"\x01" * 4093)
    driver = raw_on(child, probed=True)
    for length in (1, 509):
        with pytest.raises(PermissionError):
            driver.write_zeroes(3, length)
    driver.discard(3, 600)
    assert child.contents() == b"QED" + b"\x01" * 509 + bytes(91) + b"\x01" * 3493
    driver.write_zeroes(0, 4096)
    assert child.contents() == bytes(4096)


def test_ordinary_first_sector() -> None:
    child = MemoryDriver(4096)
    driver = raw_on(child, probed=True)
    driver.write(memoryview(b"\xeb\x63\x90"), 0)  # a boot sector
    driver.write(memoryview(b"\x55\xaa" + b"x" * 100), 510)
    assert child.contents()[:3] == b"\xeb\x63\x90"
    assert child.contents()[510:612] == b"\x55\xaa" + b"x" * 100
