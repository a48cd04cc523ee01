"""What a mirror's filter does with guests' requests that it hands on (``write-blocking``)."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from monitor.engine.bitmap import DirtyBitmap
from monitor.engine.drivers.active_writes import ActiveWrites, Sides
from tests.support.children import MemoryChild
from tests.support.spin import until

SIZE = 1 << 20
UNIT = 4096
CLUSTER = 65536


class Target(MemoryChild):
    """Has nothing in its clusters yet. Keeps the ranges that are written to; writes wait while the
    gate is shut."""

    def __init__(self) -> None:
        super().__init__(bytes(SIZE))
        self.written: list[tuple[int, int]] = []
        self.zeroed: list[tuple[int, int, bool]] = []
        self.gate = threading.Event()
        self.gate.set()

    def write(self, buffer: memoryview, offset: int) -> None:
        self.written.append((offset, len(buffer)))
        assert self.gate.wait(20)
        super().write(buffer, offset)

    def write_zeroes(
        self, offset: int, length: int, may_unmap: bool = False, no_fallback: bool = False
    ) -> None:
        self.zeroed.append((offset, length, may_unmap))


class Both:
    """A source and a target with ``ActiveWrites`` between, all in step."""

    def __init__(self, *, cluster: int = 1, unmap: bool = True) -> None:
        self.source, self.target = MemoryChild(b"s" * SIZE), Target()
        self.bitmap = DirtyBitmap(SIZE, UNIT)
        self.moved = 0
        sides = Sides(
            self.source,
            self.target,
            self.shows,
            lambda start, end: True,
            unmap,
            self._count,
            self._fail,
        )
        self.active = ActiveWrites(self.bitmap, sides, cluster)
        self.active.begin()

    def shows(self, offset: int, length: int) -> Iterator[tuple[int, int, bool]]:
        """Zeroes but for the last 100 bytes: what a discard leaves."""
        yield offset, length - 100, True
        yield offset + length - 100, 100, False

    def _count(self, count: int) -> None:
        self.moved += count

    def _fail(self, error: OSError) -> None:
        raise AssertionError from error


def test_a_part_of_a_new_cluster_is_written_with_what_lies_around() -> None:
    both = Both(cluster=CLUSTER)
    both.active.write(memoryview(b"guest"), CLUSTER + 100)
    assert both.target.written == [(CLUSTER, CLUSTER)]
    both.active.write(memoryview(bytes(2 * CLUSTER)), CLUSTER // 2)
    assert both.target.written[1:] == [(0, CLUSTER), (2 * CLUSTER, CLUSTER), (CLUSTER, CLUSTER)]
    assert both.target.content[: 3 * CLUSTER] == both.source.content[: 3 * CLUSTER]


def test_requests_in_one_cluster_wait_for_each_other() -> None:
    """Also in different units: what the second writes is in what the first reads around it, or
    comes after it."""
    both = Both(cluster=CLUSTER)
    both.target.gate.clear()
    threads = [
        threading.Thread(target=both.active.write, args=(memoryview(b"guest"), offset))
        for offset in (0, 3 * UNIT)
    ]
    for count, thread in enumerate(threads):
        thread.start()
        until(lambda: both.active.ranges.in_flight > count)  # noqa: B023
    until(lambda: bool(both.target.written))
    assert both.source.content[3 * UNIT : 3 * UNIT + 5] == b"sssss"
    both.target.gate.set()
    for thread in threads:
        thread.join(20)
    assert both.target.content[:CLUSTER] == both.source.content[:CLUSTER]


def test_a_unit_that_holds_more_that_is_dirty_is_left_to_the_job() -> None:
    both = Both()
    both.bitmap.set(0, 1)
    both.active.write(memoryview(bytes(2 * UNIT)), 100)
    assert both.target.written == [(UNIT, UNIT + 100)]
    assert list(both.bitmap.areas(0, SIZE)) == [(0, UNIT)]
    assert both.moved == UNIT + 100


@pytest.mark.parametrize("unmap", [True, False])
def test_zeroes_and_discards_are_handed_on(unmap: bool) -> None:
    """Storage is given back where the job may, and for zeroes the guest wants it too. What a
    discard left is copied."""
    both = Both(unmap=unmap)
    both.active.write_zeroes(0, 5000, True, False)
    both.active.write_zeroes(UNIT, 5000, False, False)
    both.active.discard(3 * UNIT, 5000)
    assert both.target.zeroed == [(0, 5000, unmap), (UNIT, 5000, False), (3 * UNIT, 4900, unmap)]
    assert both.target.written == [(3 * UNIT + 4900, 100)]
    assert both.source.discards == [(3 * UNIT, 5000)]


def test_it_begins_when_earlier_requests_have_ended() -> None:
    both = Both()
    both.active.on = False
    with both.active.ranges.hold(0, UNIT, exclusive=True):
        beginning = threading.Thread(target=both.active.begin)
        beginning.start()
        until(lambda: both.active.ranges.in_flight == 2)
        assert not both.active.on
    beginning.join(20)
    assert both.active.on
