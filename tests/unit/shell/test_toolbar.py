"""The toolbar's rows at any width, and when it looks at the jobs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit.formatted_text import to_plain_text
from prompt_toolkit.utils import get_cwidth

from monitor.commands.render import rate_text, time_text
from monitor.engine.api import JobSnapshot
from monitor.shell.toolbar import INTERVAL, LiveJobs, job_rows
from tests.support.fake_engine import MIB, job


def rows(jobs: list[JobSnapshot], width: int = 80, most: int = 4) -> list[str]:
    text = to_plain_text(job_rows(jobs, width, most))
    return text.split("\n") if text else []


def test_row_says_what_a_person_asks_of_a_job() -> None:
    running = job("s0", current=26 * MIB, rate=10.0 * MIB)
    assert rows([running]) == [" s0  stream  running   40%  ━━━━━━━━────────────  10.0 MiB/s  0:04"]


def test_columns_stand_below_each_other() -> None:
    shown = rows(
        [job("s0", current=MIB, rate=1.0), job("long-name", type="mirror", status="ready")]
    )
    assert shown[0].index("running") == shown[1].index("ready")


@pytest.mark.parametrize("status", ["concluded", "null"])
def test_what_has_ended_is_not_shown(status: str) -> None:
    assert rows([job(status=status)]) == []


def test_no_rate_for_a_job_that_stands_still() -> None:
    assert "MiB/s" not in rows([job(status="paused", rate=5.0 * MIB)])[0]


def test_no_time_is_left_to_a_job_that_only_a_cancel_ends() -> None:
    shown = rows([job("b0", type="backup", current=MIB, rate=1.0 * MIB, endless=True)])
    assert shown[0].endswith("─  waiting for cancel")


def test_what_a_job_waits_for_stands_where_others_have_figures() -> None:
    shown = rows(
        [
            job("s0", current=26 * MIB, rate=10.0 * MIB),
            job("m0", type="mirror", status="ready", verbs=frozenset({"complete"})),
            job(
                "b0", type="backup", status="paused", verbs=frozenset({"resume"}),
                stopped="write error: No space left on device",
            ),
        ],
        width=100,
    )  # fmt: skip
    assert [row.rpartition("─  ")[2] for row in shown] == [
        "10.0 MiB/s  0:04",
        "waiting for complete",
        "write error: No space left on device",
    ]
    narrow = rows([job("m0", status="ready", verbs=frozenset({"complete"}))], width=60)
    assert narrow == [" m0  stream  ready    0%  waiting for complete"]


def test_what_a_job_stopped_at_shows_in_narrow_windows_too() -> None:
    stopped = job("bk", type="backup", status="paused", stopped="write error: No space left")
    assert rows([stopped], 72) == [" bk  backup  paused    0%  write error: No space left"]
    assert rows([stopped], 40) == [" bk  backup  paused    0%  write error:…"]
    assert rows([stopped], 36) == [" bk  backup  paused    0%"]


def test_long_names_are_whole_where_there_is_room_and_told_apart_where_not() -> None:
    jobs = [job(f"backup-of-the-disk-{n}", type="backup") for n in (1, 2)]
    assert rows(jobs, width=60) == [
        " backup-of-the-disk-1  backup  running    0%",
        " backup-of-the-disk-2  backup  running    0%",
    ]
    assert rows(jobs, width=40) == [
        " backup-o…-disk-1  backup  running    0%",
        " backup-o…-disk-2  backup  running    0%",
    ]


def test_jobs_beyond_the_room_are_counted_and_named() -> None:
    shown = rows([job(f"s{i}") for i in range(6)])
    assert len(shown) == 4
    assert shown[-1] == " +3 more: s3, s4, s5"


def test_as_many_jobs_as_rows_need_no_overflow() -> None:
    assert len(rows([job(f"s{i}") for i in range(4)])) == 4


def test_forty_columns_keep_state_percentage_rate_and_time() -> None:
    (row,) = rows([job("s0", current=26 * MIB, rate=10.0 * MIB)], width=40)
    assert row == " s0 stream running  40% 10.0 MiB/s 0:04"


def test_one_row_is_only_the_count() -> None:
    assert rows([job(f"s{i}") for i in range(9)], most=1) == [
        " +9 more: s0, s1, s2, s3, s4, s5, s6, s7, s8"
    ]


names = st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=40)
jobs = st.builds(
    lambda name, current, rate, status: job(name, current=current, rate=rate, status=status),
    names,
    st.integers(0, 64 * MIB),
    st.none() | st.floats(0.01, 1e15),
    st.sampled_from(["created", "running", "paused", "ready", "aborting"]),
)


@given(st.lists(jobs, max_size=8), st.integers(1, 200))
def test_never_wider_than_the_window(live: list[JobSnapshot], width: int) -> None:
    shown = rows(live, width)
    assert len(shown) == min(len(live), 4)
    assert all(get_cwidth(row) <= width for row in shown)


def test_figures() -> None:
    assert [rate_text(r) for r in (None, 5.0, 999.0, 1023 * 1024.0, 3.5 * (1 << 30))] == [
        "",
        "5 B/s",
        "999 B/s",
        "1.0 MiB/s",
        "3.5 GiB/s",
    ]
    assert [time_text(s) for s in (None, 0, 12.4, 61, 3723, 1e9)] == [
        "",
        "0:00",
        "0:12",
        "1:01",
        "1:02:03",
        ">99h",
    ]


class FakeTimer:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0
        self.planned: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None], /) -> None:
        self.planned.append((self.now + delay, callback))

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while due := [item for item in self.planned if item[0] <= end + 1e-9]:
            when, callback = item = min(due, key=lambda item: item[0])
            self.planned.remove(item)
            self.now = when
            callback()
        self.now = end


class Watched:
    """A ``LiveJobs`` with everything around it in the test's hands."""

    def __init__(self) -> None:
        self.jobs: list[JobSnapshot] = []
        self.timer = FakeTimer()
        self.looks = self.redraws = 0
        self.live = LiveJobs(self._look, self._redraw, self.timer)

    def _look(self) -> list[JobSnapshot]:
        self.looks += 1
        return self.jobs

    def _redraw(self) -> None:
        self.redraws += 1


def test_nothing_happens_without_jobs() -> None:
    watched = Watched()
    watched.live.poke()
    watched.timer.advance(60)
    assert (watched.looks, watched.redraws) == (1, 0)
    assert not watched.live.any


def test_a_storm_of_events_is_ten_looks_a_second() -> None:
    watched = Watched()
    for step in range(1000):
        watched.jobs = [job(current=step * 64 * 1024)]
        watched.live.poke()
        watched.timer.advance(0.001)
    assert 9 <= watched.redraws <= 11
    assert watched.looks <= 11


def test_redraws_only_what_reads_differently() -> None:
    watched = Watched()
    watched.jobs = [job()]
    watched.live.poke()
    watched.timer.advance(1)
    assert watched.redraws == 1
    watched.jobs = [job(current=1)]  # still 0 %
    watched.timer.advance(1)
    assert watched.redraws == 1
    watched.jobs = [job(current=MIB)]
    watched.timer.advance(1)
    assert watched.redraws == 2


def test_goes_when_the_last_job_has_ended_and_then_rests() -> None:
    watched = Watched()
    watched.jobs = [job()]
    watched.live.poke()
    watched.timer.advance(1)
    watched.jobs = []
    watched.timer.advance(2 * INTERVAL)
    assert watched.redraws == 2
    assert watched.live.rows(80) == []
    looks = watched.looks
    watched.timer.advance(60)
    assert watched.looks == looks
