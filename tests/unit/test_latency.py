"""Times of requests over an interval: two windows, of which the older one is told."""

from __future__ import annotations

from monitor.engine.accounting import FLUSH, READ, UNMAP, WRITE, Account
from monitor.engine.latency import Interval

S = 1_000_000_000


def test_least_most_mean_and_depth() -> None:
    interval = Interval(3, 100.0)
    for taken in (1 * S, 3 * S):
        interval.add(READ, taken, 101.0)
    interval.add(FLUSH, 7, 101.0)
    interval.add(UNMAP, 9, 101.0)  # is not kept
    told = interval.figures(102.0)
    assert told["interval_length"] == 3
    assert [told[f"{what}_rd_latency_ns"] for what in ("min", "max", "avg")] == [S, 3 * S, 2 * S]
    assert [told[f"{what}_flush_latency_ns"] for what in ("min", "max", "avg")] == [7, 7, 7]
    assert [told[f"{what}_wr_latency_ns"] for what in ("min", "max", "avg")] == [0, 0, 0]
    # The older window's end is at 102: it has just been emptied, and the other one is told, whose
    # four seconds end at 104.
    assert told["avg_rd_queue_depth"] == 4 / 2
    assert told["avg_wr_queue_depth"] == 0.0


def test_what_is_old_is_forgotten() -> None:
    interval = Interval(3, 0.0)  # windows of 4 seconds, which end at 2, 6, … and at 4, 8, …
    interval.add(WRITE, 5, 1.0)
    assert interval.figures(3.9)["max_wr_latency_ns"] == 5
    assert interval.figures(4.0)["max_wr_latency_ns"] == 0


def test_a_long_silence_empties_both_windows() -> None:
    interval = Interval(3, 0.0)
    interval.add(WRITE, 5, 1.0)
    interval.add(WRITE, 7, 1001.0)
    told = interval.figures(1001.5)
    assert (told["min_wr_latency_ns"], told["max_wr_latency_ns"]) == (7, 7)
    assert interval.figures(1003.9)["max_wr_latency_ns"] == 7
    assert interval.figures(1004.0)["max_wr_latency_ns"] == 0


def test_failed_requests_take_their_time_unless_they_are_not_to() -> None:
    account = Account()
    account.intervals = (Interval(60, 0.0),)
    counters = account.open()
    counters.has_failed(READ, 1.0, 2.0)
    account.account_failed = False
    counters.has_failed(READ, 2.0, 5.0)
    total = account.total()
    assert (total.failed[READ], total.nanoseconds[READ], total.last) == (2, S, 2.0)
    assert account.intervals[0].figures(5.0)["max_rd_latency_ns"] == S
