"""The copy engine by itself: how much is under way, on how many threads, and what fails."""

from __future__ import annotations

import errno
import mmap
import os
import threading
from typing import Any

import pytest

from monitor.engine.clock import ManualClock
from monitor.engine.graph.client import Client
from monitor.engine.jobs.carrying import CHUNK, MEMORY, MOST_WRITERS, Carrier
from monitor.engine.jobs.copying import BUFFERED_WRITERS, DEPTH, Piece
from monitor.engine.jobs.progress import Progress
from monitor.engine.jobs.ratelimit import RateLimit

PIECES = 100


class StandIn(Client):
    """What a carrier asks of its job."""

    paused = False

    def __init__(self, speed: int = 0, action: str = "report") -> None:
        super().__init__("j")
        self.clock = ManualClock()
        self.limit = RateLimit(self.clock, speed)
        self.action = action
        self.judged: list[tuple[int, str]] = []
        self.progress = Progress(self.clock)

    @property
    def speed(self) -> int:
        return self.limit.speed

    def sleep(self, delay: Any) -> None:
        while seconds := delay():
            self.clock.advance(seconds)

    def pause_point(self) -> None:
        """Nobody pauses it."""

    def error_action(self, error: OSError, side: str) -> str:
        self.judged.append((error.errno or 0, side))
        return self.action


class Told(list[int]):
    """A target, as what it was told to expect."""

    def expect(self, length: int) -> None:
        self.append(length)


class Recorded:
    """A plan of ``PIECES`` pieces that watches what is under way.

    ``together``: so many pieces must be in their ``work`` at the same time, or it fails.
    """

    grain = 64 << 10

    def __init__(self, together: int = 1, bad: range | None = None) -> None:
        self.planned = 0
        self.finished: list[tuple[int, int]] = []
        self.passed_over: list[int] = []
        self.asked: set[int] = set()
        self.threads: set[str] = set()
        self.buffers: set[int] = set()
        self.most_planned = self.most_working = 0
        self._working = 0
        self._lock = threading.Lock()
        self._meeting = threading.Barrier(together)
        self._bad = bad

    def next(self, most: int) -> Piece | None:
        self.asked.add(most)
        if self.planned == PIECES:
            return None
        piece = Piece(self.planned * most, most, copy=True)
        self.planned += 1
        self.most_planned = max(self.most_planned, self.planned - len(self.finished))
        return piece

    def work(self, piece: Piece, buffer: memoryview) -> None:
        with self._lock:
            self._working += 1
            self.most_working = max(self.most_working, self._working)
            self.threads.add(threading.current_thread().name + str(threading.get_ident()))
            self.buffers.add(len(buffer))
        try:
            self._meeting.wait(20)
            if self._is_bad(piece):
                piece.side = "write"
                raise OSError(errno.EIO, "injected")
        finally:
            with self._lock:
                self._working -= 1

    def _is_bad(self, piece: Piece) -> bool:
        end = piece.offset + piece.length
        return bool(self._bad and piece.offset < self._bad.stop and end > self._bad.start)

    def done(self, piece: Piece) -> None:
        self.finished.append((piece.offset, piece.length))

    def ignored(self, piece: Piece, error: OSError) -> None:
        self.passed_over.append(piece.offset)


def carry(job: StandIn, plan: Recorded, **options: Any) -> list[int]:
    """What the target was told to expect."""
    stand_in: Any = job
    told = Told()
    with Carrier(stand_in, plan, told, **{"writers": BUFFERED_WRITERS, **options}) as carrier:
        carrier.run()
    return told


@pytest.mark.parametrize("left", [1 << 30, 100 << 20, 20 << 20])
def test_the_target_hears_what_comes(left: int) -> None:
    job = StandIn()
    job.progress.set_remaining(left)
    told = carry(job, Recorded())
    assert told[0] == min(left, 128 << 20)
    assert told[-1] == 0  # no more comes
    assert 0 not in told[:-1]
    assert len(told) <= 2 + PIECES * CHUNK // (16 << 20)


def test_the_target_hears_nothing_of_little() -> None:
    job = StandIn()
    job.progress.set_remaining(1 << 20)
    assert carry(job, Recorded()) == []


def test_a_target_that_expects_more_hears_that_the_job_has_failed() -> None:
    job, told = StandIn(), Told()
    job.progress.set_remaining(1 << 30)
    stand_in: Any = job
    with (
        pytest.raises(OSError, match="injected"),
        Carrier(stand_in, Recorded(bad=range(CHUNK)), told, writers=2) as carrier,
    ):
        carrier.run()
    assert told[-1] == 0
    assert job.lanes == []


@pytest.mark.parametrize("writers", [1, BUFFERED_WRITERS, MOST_WRITERS])
def test_pieces_are_carried_out_side_by_side(writers: int) -> None:
    """Each waits at a barrier for as many others as there are threads."""
    plan = Recorded(together=writers)
    carry(StandIn(), plan, writers=writers)
    assert plan.most_working == len(plan.threads) == writers
    assert plan.finished == [(number * CHUNK, CHUNK) for number in range(PIECES)]


def test_the_planner_looks_so_far_ahead_and_no_further() -> None:
    plan = Recorded()
    carry(StandIn(), plan)
    assert plan.most_planned == DEPTH
    assert plan.asked == {CHUNK}


def test_under_a_speed_limit_one_piece_is_under_way_and_is_a_small_one() -> None:
    plan, job = Recorded(), StandIn(speed=1 << 20)
    began = job.clock.monotonic()
    carry(job, plan, limited_chunk=64 << 10)
    assert plan.most_planned == plan.most_working == 1
    assert plan.asked == {64 << 10}
    assert job.clock.monotonic() - began == pytest.approx(PIECES / 16)


@pytest.mark.parametrize(
    ("buffer", "threads"), [(CHUNK, 4), (MEMORY // 4, 4), (MEMORY // 2, 2), (MEMORY * 2, 1)]
)
def test_large_buffers_mean_fewer_threads(buffer: int, threads: int) -> None:
    plan = Recorded(together=threads)
    carry(StandIn(), plan, writers=MOST_WRITERS, buffer=buffer)
    assert len(plan.threads) == threads
    assert plan.buffers == {buffer}


def test_one_bad_place_costs_a_grain() -> None:
    """The piece that failed is done again in parts, in its place in the order; what is judged, by
    the side that it failed at, is the part that fails."""
    bad = 5 * CHUNK + 3 * Recorded.grain
    plan, job = Recorded(bad=range(bad, bad + 512)), StandIn(action="ignore")
    carry(job, plan)
    assert job.judged == [(errno.EIO, "write")]
    assert plan.passed_over == [bad]
    assert sum(length for _, length in plan.finished) == PIECES * CHUNK - Recorded.grain
    assert plan.finished == sorted(plan.finished)


def test_a_large_piece_is_narrowed_down_a_few_parts_at_a_time() -> None:
    """So that whoever cancels the job waits for a few of them only."""

    class Fine(Recorded):
        grain = 4096

    bad = 5 * CHUNK + 3 * Fine.grain
    plan, job = Fine(bad=range(bad, bad + 512)), StandIn(action="ignore")
    carry(job, plan)
    assert job.judged == [(errno.EIO, "write")]
    assert plan.passed_over == [bad]
    assert len(plan.finished) == PIECES - 1 + 15 + 15
    assert sum(length for _, length in plan.finished) == PIECES * CHUNK - Fine.grain


def test_one_bad_part_of_a_scattered_piece() -> None:
    """The others are copied, also those that were to be copied with it."""

    class Scattered(Recorded):
        grain = 4096
        covered = 0

        def next(self, most: int) -> Piece | None:
            piece = super().next(most)
            if piece is not None:
                piece.parts = [(piece.offset + at, 4096) for at in range(0, most, 16384)]
            return piece

        def _is_bad(self, piece: Piece) -> bool:
            return any(offset == bad for offset, _ in piece.parts)

        def done(self, piece: Piece) -> None:
            self.finished += piece.parts
            self.covered += piece.length

    bad = 5 * CHUNK + 3 * 16384
    plan, job = Scattered(), StandIn(action="ignore")
    carry(job, plan)
    assert job.judged == [(errno.EIO, "write")]
    assert plan.passed_over == [bad]
    assert len(plan.finished) == PIECES * CHUNK // 16384 - 1
    assert plan.finished == sorted(plan.finished)
    assert all(length == 4096 for _, length in plan.finished)
    assert plan.covered == PIECES * CHUNK - 16384  # with the gaps, each of them once


@pytest.mark.parametrize("action", ["ignore", "report"])
def test_an_error_that_passes_is_judged_all_the_same(action: str) -> None:
    """No part of the piece fails any more: it is told of the first, and nothing is counted of the
    piece before."""

    class Once(Recorded):
        def _is_bad(self, piece: Piece) -> bool:
            found = super()._is_bad(piece)
            if found:
                self._bad = None
            return found

    bad = 5 * CHUNK + 3 * Recorded.grain
    plan, job = Once(bad=range(bad, bad + 512)), StandIn(action=action)
    if action == "ignore":
        carry(job, plan)
        assert plan.passed_over == [5 * CHUNK]
        assert sum(length for _, length in plan.finished) == PIECES * CHUNK - Recorded.grain
    else:
        with pytest.raises(OSError, match="injected"):
            carry(job, plan)
        assert plan.finished == [(number * CHUNK, CHUNK) for number in range(5)]
    assert job.judged == [(errno.EIO, "write")]


def test_a_reported_error_ends_it_and_nothing_is_begun_after_it() -> None:
    bad = 5 * CHUNK
    plan, job = Recorded(bad=range(bad, bad + 1)), StandIn()
    with pytest.raises(OSError, match="injected"):
        carry(job, plan)
    assert plan.planned <= 5 + DEPTH
    assert job.lanes == []  # every thread has given its lane back


def test_a_bug_in_a_plan_is_no_error_of_a_disk() -> None:
    class Broken(Recorded):
        def work(self, piece: Piece, buffer: memoryview) -> None:
            raise ZeroDivisionError

    job = StandIn(action="ignore")
    with pytest.raises(ZeroDivisionError):
        carry(job, Broken())
    assert job.judged == []


def test_no_memory_for_a_buffer_is_the_jobs_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, length: int) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    job = StandIn()
    monkeypatch.setattr(mmap, "mmap", refuse)
    with pytest.raises(OSError, match="Cannot allocate memory"):
        carry(job, Recorded())
    assert not job.lanes


def test_a_thread_that_cannot_begin_leaves_none_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[threading.Thread] = []
    start = threading.Thread.start

    def limited(thread: threading.Thread) -> None:
        if begun:
            raise RuntimeError("can't start new thread")
        begun.append(thread)
        start(thread)

    job = StandIn()
    monkeypatch.setattr(threading.Thread, "start", limited)
    with pytest.raises(OSError, match="Resource temporarily unavailable"):
        carry(job, Recorded())
    begun[0].join(20)
    assert not begun[0].is_alive()
    assert not job.lanes
