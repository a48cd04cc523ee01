"""Progress and its rate, on a clock moved by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.engine.clock import ManualClock
from monitor.engine.jobs.progress import WINDOW, Progress


def test_nothing_is_known_at_first() -> None:
    progress = Progress(ManualClock())
    assert (progress.current, progress.total, progress.rate()) == (0, 0, None)


def test_remaining_is_counted_from_here() -> None:
    progress = Progress(ManualClock())
    progress.advance(10)
    progress.set_remaining(90)
    assert (progress.current, progress.total) == (10, 100)


def test_the_rate_is_that_of_the_last_seconds() -> None:
    clock = ManualClock()
    progress = Progress(clock)
    progress.set_remaining(10_000)
    for _ in range(40):
        clock.advance(0.5)
        progress.advance(50)
    assert progress.rate() == pytest.approx(100, rel=0.15)
    for _ in range(20):
        clock.advance(0.5)
        progress.advance(5)
    assert progress.rate() == pytest.approx(10, rel=0.15)


def test_what_was_measured_before_a_change_of_speed_is_forgotten() -> None:
    clock = ManualClock()
    progress = Progress(clock)
    progress.set_remaining(1000)
    progress.advance(100)
    clock.advance(1)
    progress.forget_rate()
    assert progress.rate() is None
    progress.advance(1)
    clock.advance(1)
    progress.advance(1)
    assert progress.rate() == 2


def test_a_job_that_stands_still_has_rate_zero() -> None:
    clock = ManualClock()
    progress = Progress(clock)
    progress.set_remaining(100)
    clock.advance(1)
    progress.advance(50)
    assert progress.rate() == 50
    clock.advance(WINDOW)
    progress.rate()
    clock.advance(WINDOW)
    assert progress.rate() == 0


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("advance"), st.integers(0, 1 << 40)),
            st.tuples(st.just("set_remaining"), st.integers(0, 1 << 40)),
            st.tuples(st.just("wait"), st.integers(0, 100)),
        )
    )
)
def test_it_never_runs_backwards(steps: list[tuple[str, int]]) -> None:
    clock = ManualClock()
    progress = Progress(clock)
    for step, number in steps:
        before = progress.current
        if step == "wait":
            clock.advance(number / 10)
        else:
            getattr(progress, step)(number)
        assert before <= progress.current <= progress.total
        rate = progress.rate()
        assert rate is None or rate >= 0
