"""Limits of drives: how long requests wait, alone, beside others, and when limits change."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import pytest

from monitor.engine.clock import HostClock, ManualClock
from monitor.engine.throttle import Limit, Limits, ThrottleGroup, Throttles


class Drives:
    """A group on a clock that stands: whoever waits makes time pass."""

    def __init__(self, limits: Limits) -> None:
        self.clock = HostClock()
        self.clock.stand(True)
        self.group = ThrottleGroup("g", self.clock)
        self.group.configure(limits)
        self.group.take_in(self)
        self._began = self.clock.monotonic()

    def takes(self, length: int, *, writes: bool = False) -> float:
        """Seconds, since the beginning, at which the request may go."""
        self.group.enter(self, length, writes=writes)
        return round(self.clock.monotonic() - self._began, 6)


def test_a_tenth_of_a_second_is_saved_up_and_a_request_goes_whole() -> None:
    drives = Drives(Limits({"bps": Limit(1000)}))
    assert [drives.takes(1000) for _ in range(3)] == [0.0, 0.9, 1.9]


def test_reads_and_writes_have_limits_of_their_own() -> None:
    drives = Drives(Limits({"bps_rd": Limit(1000), "iops_wr": Limit(10)}))
    assert [drives.takes(1000) for _ in range(2)] == [0.0, 0.9]
    assert [drives.takes(10**9, writes=True) for _ in range(4)] == [0.9, 0.9, 0.9 + 0.1, 1.1]


def test_a_large_request_counts_as_several() -> None:
    drives = Drives(Limits({"iops": Limit(10)}, op_size=4096))
    assert [drives.takes(length) for length in (40960, 4096, 512)] == [0.0, 0.9, 1.0]


def test_a_burst_lasts_as_long_as_it_says() -> None:
    """A second at ten times the rate, then at the rate; without a length one second."""
    drives = Drives(Limits({"iops": Limit(10, 100)}))
    assert [drives.takes(1) for _ in range(101)] == [0.0] * 101
    assert [drives.takes(1) for _ in range(2)] == [0.1, 0.2]


def test_a_long_burst_is_no_faster_than_it_says() -> None:
    drives = Drives(Limits({"iops": Limit(10, 100, 2)}))
    times = [drives.takes(1) for _ in range(300)]
    assert times[:11] == [0.0] * 11
    assert times[11:14] == [0.01, 0.02, 0.03]
    steps = [round(after - before, 6) for before, after in itertools.pairwise(times)]
    assert set(steps[250:]) == {0.1}


def test_nothing_waits_without_limits() -> None:
    drives = Drives(Limits())
    assert [drives.takes(10**12) for _ in range(3)] == [0.0, 0.0, 0.0]


class Waiting:
    """Requests on threads of their own, on a clock that the test moves."""

    def __init__(self, group: ThrottleGroup, clock: ManualClock) -> None:
        self.group = group
        self.clock = clock
        self.went: list[str] = []
        self._threads: list[threading.Thread] = []

    def begin(self, name: str, length: int, *, writes: bool = False) -> None:
        """Returns once the request has gone or waits in the queue."""

        def work() -> None:
            self.group.enter(name, length, writes=writes)
            self.went.append(name)

        self.group.take_in(name)
        before = self.queued(writes) + len(self.went)
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()
        self.until(lambda: self.queued(writes) + len(self.went) > before)

    def queued(self, writes: bool) -> int:
        return len(self.group._queues[writes])

    def until(self, holds: object) -> None:
        assert callable(holds)
        while not holds():
            threading.Event().wait(0.001)

    def end(self) -> None:
        self.group.let_go()
        self.clock.wake()
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()


@pytest.fixture
def waiting() -> Iterator[Waiting]:
    clock = ManualClock()
    group = ThrottleGroup("g", clock)
    group.configure(Limits({"bps_rd": Limit(1000)}))
    made = Waiting(group, clock)
    yield made
    made.end()


@pytest.mark.timeout(60)
def test_first_come_first_served(waiting: Waiting) -> None:
    for name in ("a", "b", "c"):
        waiting.begin(name, 1000)
    waiting.begin("w", 1000, writes=True)
    assert waiting.went == ["a", "w"]
    waiting.clock.advance(0.9)
    waiting.until(lambda: len(waiting.went) == 3)
    waiting.clock.advance(1.0)
    waiting.until(lambda: len(waiting.went) == 4)
    assert waiting.went == ["a", "w", "b", "c"]


@pytest.mark.timeout(60)
def test_new_limits_are_those_of_who_waits(waiting: Waiting) -> None:
    waiting.begin("a", 10**9)
    waiting.begin("b", 1)
    waiting.begin("c", 1)
    assert waiting.went == ["a"]
    waiting.group.configure(Limits())
    waiting.until(lambda: len(waiting.went) == 3)


@pytest.mark.timeout(60)
def test_who_leaves_waits_no_longer_and_the_others_do(waiting: Waiting) -> None:
    for name in ("a", "b", "c", "b"):
        waiting.begin(name, 10**9)
    waiting.group.release("b")
    waiting.until(lambda: len(waiting.went) == 3)
    assert waiting.went == ["a", "b", "b"]
    assert waiting.queued(False) == 1


@pytest.mark.timeout(60)
def test_who_comes_to_limits_that_are_no_longer_its_own_does_not_wait(waiting: Waiting) -> None:
    """It was on its way when its drive left the group."""
    for name in ("a", "b"):
        waiting.begin(name, 10**9)
    waiting.group.release("a")
    waiting.group.enter("a", 10**9, writes=False)
    assert waiting.queued(False) == 1


@pytest.mark.timeout(60)
def test_longer_than_the_host_can_wait() -> None:
    group = ThrottleGroup("g", HostClock())
    group.configure(Limits({"bps": Limit(1)}))
    group.take_in("a")
    group.enter("a", 1 << 62, writes=True)
    waits = Waiting(group, ManualClock())
    waits.begin("a", 1, writes=True)
    group.release("a")
    waits.end()
    assert waits.went == ["a"]


def test_a_group_is_there_while_it_has_members() -> None:
    throttles = Throttles(ManualClock())
    first, second = throttles.join("g", "a"), throttles.join("g", "b")
    assert first is second
    throttles.leave(first, "a")
    assert throttles.join("g", "c") is first
    throttles.leave(first, "c")
    throttles.leave(first, "b")
    assert throttles.join("g", "a") is not first
