"""The speed limit, on a clock moved by hand."""

from __future__ import annotations

import pytest

from monitor.engine.clock import ManualClock
from monitor.engine.jobs.ratelimit import RateLimit

KIB = 1 << 10


def test_no_limit_never_waits() -> None:
    limit = RateLimit(ManualClock())
    limit.spend(1 << 40)
    assert limit.delay() == 0


def test_work_is_paid_for_afterwards() -> None:
    clock = ManualClock()
    limit = RateLimit(clock, 512 * KIB)
    assert limit.delay() == 0
    limit.spend(512 * KIB)
    assert limit.delay() == pytest.approx(1.0)
    clock.advance(0.75)
    assert limit.delay() == pytest.approx(0.25)
    clock.advance(0.25)
    assert limit.delay() == 0


def test_idle_time_saves_up_little() -> None:
    clock = ManualClock()
    limit = RateLimit(clock, 1000)
    clock.advance(3600)
    limit.spend(1100)
    assert limit.delay() == pytest.approx(1.0)  # a tenth of a second was saved up


def test_a_new_speed_counts_at_once() -> None:
    limit = RateLimit(ManualClock(), 1)
    limit.spend(512 * KIB)
    assert limit.delay() == pytest.approx(512 * KIB)
    limit.set_speed(512 * KIB)
    assert limit.delay() == pytest.approx(1.0)
    limit.set_speed(0)
    assert limit.delay() == 0
    limit.set_speed(1)
    assert limit.delay() == 0  # what was done without a limit is not owed


def test_over_time_the_speed_is_kept() -> None:
    clock = ManualClock()
    limit = RateLimit(clock, 1000)
    start, done = clock.monotonic(), 0
    while done < 50_000:
        while (wait := limit.delay()) > 0:
            clock.advance(wait)
        limit.spend(500)
        done += 500
    assert done / (clock.monotonic() - start) == pytest.approx(1000, rel=0.02)
