"""null: sizes, latency, and what the block map promises."""

from __future__ import annotations

import pytest

from monitor.engine.drivers.base import Extent, ExtentKind, OpenContext, OpenFlags
from monitor.engine.drivers.null import NullAioDriver, NullCoDriver
from monitor.engine.errors import RequestError
from monitor.engine.schema.blockdev import BlockdevOptionsNullAio, BlockdevOptionsNullCo


def opened(driver: NullCoDriver | None = None, **options: int | bool) -> NullCoDriver:
    driver = driver or NullCoDriver()
    chosen = BlockdevOptionsNullCo(**options)  # type: ignore[arg-type]
    driver.open(OpenContext(chosen, OpenFlags(), "null", {}))
    return driver


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"size": -1}, "Parameter 'size' expects a non-negative number below 2^64"),
        ({"size": (1 << 63) - 1}, "Could not refresh total sector count: File too large"),
        ({"latency_ns": 1 << 63}, "latency-ns is invalid"),
        ({"latency_ns": -1}, "latency-ns is invalid"),
    ],
)
def test_refusals(options: dict[str, int], text: str) -> None:
    with pytest.raises(RequestError) as caught:
        opened(**options)
    assert caught.value.text == text


def test_size() -> None:
    assert opened().length() == 1 << 30
    assert opened(size=0).length() == 0
    assert opened(size=12345).length() == 12345
    with pytest.raises(RequestError, match="Image format driver does not support resize"):
        opened().truncate(0)


def test_every_request_takes_the_latency() -> None:
    slept: list[float] = []
    driver = opened(NullCoDriver(sleep=slept.append), latency_ns=2_000_000)
    driver.read(memoryview(bytearray(10)), 0)
    driver.write(memoryview(bytes(10)), 0)
    driver.write_zeroes(0, 10)
    driver.flush()
    assert slept == [0.002] * 4
    slept.clear()
    opened(NullCoDriver(sleep=slept.append)).flush()
    assert slept == []


def test_map_promises_zeroes_only_when_asked() -> None:
    assert opened().map(5, 10) == [Extent(ExtentKind.DATA, 10)]
    assert opened(read_zeroes=True).map(5, 10) == [Extent(ExtentKind.ZERO, 10)]
    for driver in (opened(), opened(read_zeroes=True)):
        buffer = bytearray(b"\xee" * 10)
        driver.read(memoryview(buffer), 0)
        assert buffer == bytes(10)


def test_filename() -> None:
    """QEMU names the node by it only where the name alone says everything."""
    assert opened(latency_ns=5).filename == "null-co://"
    assert opened(size=1 << 30).filename == ""
    assert opened(read_zeroes=False).filename == ""
    driver = NullAioDriver()
    driver.open(OpenContext(BlockdevOptionsNullAio(), OpenFlags(), "null", {}))
    assert driver.filename == "null-aio://"
    assert driver.allocated_bytes() == 0
