"""A node's writes are noted in its bitmaps, each once it has ended."""

from __future__ import annotations

import errno

import pytest
from msgspec import structs

from monitor.engine.bitmap import DirtyBitmap
from monitor.engine.drivers.base import Extent, ExtentKind, Reservation
from monitor.engine.graph import edit
from monitor.engine.graph.graph import Graph
from monitor.engine.graph.node import Node
from monitor.engine.graph.transaction import Transaction
from tests.support.graphs import Events, LayerDriver, add, run


def attach(graph: Graph, node: Node, bitmap: DirtyBitmap) -> None:
    with Transaction() as transaction:
        edit.attach_bitmap(transaction, node, bitmap)
        graph.commit(transaction)


def detach(graph: Graph, node: Node, bitmap: DirtyBitmap) -> None:
    with Transaction() as transaction:
        edit.detach_bitmap(transaction, node, bitmap)
        graph.commit(transaction)


def test_writes_zeroes_and_discards_are_noted() -> None:
    async def work() -> None:
        graph = Graph(Events())
        node = add(graph, "n0")
        named, own = DirtyBitmap(1 << 20, 512, "b0"), DirtyBitmap(1 << 20, 4096)
        attach(graph, node, named)
        attach(graph, node, own)
        assert [*node.bitmaps] == [named, own]
        assert node.bitmaps.get("b0") is named
        assert node.bitmaps.named() == [named]
        node.write(memoryview(b"x" * 600), 512)
        node.write_zeroes(8192, 512, False, False)
        node.discard(1 << 19, 1024)
        node.read(memoryview(bytearray(512)), 0)
        assert list(named.areas()) == [(512, 1024), (8192, 512), (1 << 19, 1024)]
        assert list(own.areas()) == [(0, 4096), (8192, 4096), (1 << 19, 4096)]
        detach(graph, node, named)
        node.write(memoryview(b"x"), 65536)
        assert named.next_dirty(65536, 1 << 17) is None
        assert own.next_dirty(65536) == 65536

    run(work())


def test_a_discard_that_is_ignored_is_not_noted() -> None:
    async def work() -> None:
        graph = Graph(Events())
        node = add(graph, "n0")
        bitmap = DirtyBitmap(1 << 20, 512, "b0")
        attach(graph, node, bitmap)
        node.flags = structs.replace(node.flags, unmap=False)
        node.wire()
        node.discard(0, 1 << 20)
        assert not bitmap.count

    run(work())


class ReservingDriver(LayerDriver):
    """Offers 1 KiB at a time, and compresses."""

    def map_for_write(self, offset: int, length: int) -> Reservation | None:
        return Reservation([Extent(ExtentKind.DATA, 1024, 3, 0)], lambda: None, lambda: None)

    def write_compressed(self, buffer: memoryview, offset: int) -> None:
        self.write(buffer, offset)


@pytest.mark.parametrize("end", ["commit", "abort"])
def test_what_goes_past_the_driver_is_noted_when_it_has_ended(end: str) -> None:
    async def work() -> None:
        graph = Graph(Events())
        node = add(graph, "n0", ReservingDriver(1 << 20))
        bitmap = DirtyBitmap(1 << 20, 512, "b0")
        attach(graph, node, bitmap)
        reserved = node.map_for_write(4096, 65536)
        assert reserved is not None
        assert bitmap.count == 0
        getattr(reserved, end)()
        assert list(bitmap.areas()) == [(4096, 1024)]
        node.write_compressed(memoryview(b"x" * 512), 0)
        assert list(bitmap.areas()) == [(0, 512), (4096, 1024)]
        node.write_ranges(memoryview(b"x" * 1024), ((8192, 512), (65536, 512)))
        assert list(bitmap.areas(8192)) == [(8192, 512), (65536, 512)]

    run(work())


class FailingDriver(LayerDriver):
    """Looks, as each write begins, whether it is dirty already; then fails."""

    bitmap: DirtyBitmap
    dirty_at_start: int | None = None

    def write(self, buffer: memoryview, offset: int) -> None:
        self.dirty_at_start = self.bitmap.count
        raise OSError(errno.EIO, "no")

    def write_zeroes(
        self, offset: int, length: int, may_unmap: bool = False, no_fallback: bool = False
    ) -> None:
        raise OSError(errno.EIO, "no")

    def discard(self, offset: int, length: int) -> None:
        raise OSError(errno.EIO, "no")


def test_it_is_noted_after_the_request_failed_too() -> None:
    async def work() -> None:
        graph = Graph(Events())
        driver = FailingDriver(1 << 20)
        node = add(graph, "n0", driver)
        driver.bitmap = DirtyBitmap(1 << 20, 512, "b0")
        attach(graph, node, driver.bitmap)
        with pytest.raises(OSError, match="no"):
            node.write(memoryview(b"x"), 0)
        assert driver.dirty_at_start == 0
        assert driver.bitmap.count == 512
        with pytest.raises(OSError, match="no"):
            node.write_zeroes(512, 512, False, False)
        with pytest.raises(OSError, match="no"):
            node.discard(1024, 512)
        assert driver.bitmap.count == 3 * 512

    run(work())


class MeetingDriver(LayerDriver):
    """Somebody resets and reads the area while a write of it is under way."""

    bitmap: DirtyBitmap
    seen = b""

    def write(self, buffer: memoryview, offset: int) -> None:
        self.bitmap.reset(offset, 512)
        read = bytearray(1)
        super().read(memoryview(read), offset)
        self.seen = bytes(read)
        super().write(buffer, offset)


def test_a_job_that_resets_and_then_reads_loses_no_write() -> None:
    async def work() -> None:
        graph = Graph(Events())
        driver = MeetingDriver(1 << 20)
        node = add(graph, "n0", driver)
        driver.bitmap = DirtyBitmap(1 << 20, 512, "b0")
        attach(graph, node, driver.bitmap)
        node.write(memoryview(b"x" * 512), 0)
        assert driver.seen == b"\0"
        assert list(driver.bitmap.areas()) == [(0, 512)]

    run(work())


def test_bitmaps_follow_a_resize() -> None:
    async def work() -> None:
        graph = Graph(Events())
        node = add(graph, "n0")
        bitmap = DirtyBitmap(1 << 20, 512, "b0")
        attach(graph, node, bitmap)
        bitmap.set(0, 1 << 20)
        node.truncate(4096)
        node.truncate(8192)
        assert list(bitmap.areas()) == [(0, 4096)]
        assert bitmap.size == 8192

    run(work())


def test_a_failed_transaction_leaves_the_bitmaps_as_they_were() -> None:
    async def work() -> None:
        graph = Graph(Events())
        node = add(graph, "n0")
        old = DirtyBitmap(1 << 20, 512, "old")
        attach(graph, node, old)
        with pytest.raises(ZeroDivisionError), Transaction() as transaction:
            edit.attach_bitmap(transaction, node, DirtyBitmap(1 << 20, 512, "new"))
            edit.detach_bitmap(transaction, node, old)
            raise ZeroDivisionError
        assert [*node.bitmaps] == [old]
        assert "new" not in node.bitmaps

    run(work())
