"""Requests that overlap exclude each other, and only those."""

from __future__ import annotations

import threading

import pytest

from monitor.engine.drivers.ranges import END, RangeLocks
from tests.support.spin import until


class Holder(threading.Thread):
    """Holds a range until told to let go."""

    def __init__(self, ranges: RangeLocks, start: int, end: int, *, exclusive: bool) -> None:
        super().__init__(daemon=True)
        self.ranges, self.range, self.exclusive = ranges, (start, end), exclusive
        self.holding, self.may_leave = threading.Event(), threading.Event()
        before = ranges.in_flight
        self.start()
        until(lambda: ranges.in_flight > before)  # it stands in the queue

    def run(self) -> None:
        with self.ranges.hold(*self.range, exclusive=self.exclusive):
            self.holding.set()
            self.may_leave.wait(10)

    def leave(self) -> None:
        self.may_leave.set()
        self.join(10)


@pytest.mark.parametrize(
    ("first", "second", "waits"),
    [
        ((0, 10, True), (10, 20, True), False),
        ((0, 10, True), (9, 20, False), True),
        ((0, 10, False), (9, 20, True), True),
        ((0, 10, False), (0, 10, False), False),
        ((100, END, True), (1 << 40, 1 << 41, False), True),
        ((100, END, True), (0, 100, True), False),
    ],
)
def test_who_waits(
    first: tuple[int, int, bool], second: tuple[int, int, bool], waits: bool
) -> None:
    ranges = RangeLocks()
    a = Holder(ranges, *first[:2], exclusive=first[2])
    assert a.holding.wait(10)
    b = Holder(ranges, *second[:2], exclusive=second[2])
    if waits:
        assert not b.holding.wait(0.02)
    else:
        assert b.holding.wait(10)
    a.leave()
    assert b.holding.wait(10)
    b.leave()
    assert ranges.in_flight == 0


def test_in_order_of_arrival() -> None:
    """A reader that comes after a waiting writer waits for it: nobody starves."""
    ranges = RangeLocks()
    first = Holder(ranges, 0, 10, exclusive=False)
    assert first.holding.wait(10)
    writer = Holder(ranges, 0, 10, exclusive=True)
    late = Holder(ranges, 0, 10, exclusive=False)
    elsewhere = Holder(ranges, 10, 20, exclusive=True)
    assert elsewhere.holding.wait(10)
    first.leave()
    assert writer.holding.wait(10)
    assert not late.holding.wait(0.02)
    writer.leave()
    assert late.holding.wait(10)
    late.leave()
    elsewhere.leave()


def test_a_failed_request_leaves() -> None:
    ranges = RangeLocks()
    with pytest.raises(OSError, match="disk"), ranges.hold(0, 10, exclusive=True):
        raise OSError("disk")
    with ranges.hold(0, 10, exclusive=True):
        assert ranges.in_flight == 1
