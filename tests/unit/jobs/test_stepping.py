"""Jobs by steps: nothing goes on but what is let."""

from __future__ import annotations

import math
import random
import threading
from typing import Any

import pytest

from monitor.engine.clock import EPOCH, TICK, HostClock, ManualClock
from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import JobNotActive
from monitor.engine.jobs import stepping
from monitor.engine.jobs.pausing import JobCancelled, Pausing
from monitor.engine.schema.job import (
    BlockJobCancel,
    BlockJobPause,
    BlockJobResume,
    BlockJobSetSpeed,
)
from monitor.engine.schema.stream import BlockStream
from tests.support.graphs import run
from tests.support.layers import layer, overlay, put

MIB = 1 << 20


class Bench:
    """Chains of 4 MiB in memory on an engine that goes by steps."""

    def __init__(self, *chains: str) -> None:
        self.engine = EmbeddedEngine()
        self.engine.go_by_steps(True)
        self.events: list[str] = []
        self.copied: list[tuple[str, int]] = []
        self.engine.subscribe(lambda event: self.events.append(_short(event.name, event.data)))
        for name in chains:
            base = layer(self.engine.graph, f"{name}-base", 4 * MIB, None)
            put(base, 0, b"b" * 4 * MIB)
            layer(self.engine.graph, name, 4 * MIB, base)
            overlay(base).before = self._note(name)

    def _note(self, name: str) -> Any:
        def before(operation: str, offset: int, length: int) -> None:
            if operation == "read":
                self.copied.append((name, offset // MIB))

        return before

    async def stream(self, name: str, **options: Any) -> None:
        await self.engine.execute(BlockStream(job_id=f"s-{name}", device=name, **options))
        await self.engine.rest()

    def at(self, job: str) -> tuple[str, int]:
        found = {each.id: each for each in self.engine.jobs()}[job]
        return found.status, found.current // MIB


def _short(name: str, data: Any) -> str:
    if name == "JOB_STATUS_CHANGE":
        return f"{data['id']} {data['status']}"
    return f"{name} {data.get('device')}"


def test_a_job_goes_on_in_steps_only() -> None:
    async def main() -> None:
        bench = Bench("a")
        await bench.stream("a")
        assert bench.at("s-a") == ("running", 0)
        for number in range(1, 4):
            snapshot = await bench.engine.step("s-a")
            assert snapshot.current == number * MIB
            assert bench.at("s-a") == ("running", number)
            assert len(bench.copied) == number
        assert (await bench.engine.step("s-a")).current == 4 * MIB
        assert (await bench.engine.step("s-a")).status == "null"
        with pytest.raises(JobNotActive):
            await bench.engine.step("s-a")

    run(main())


def test_jobs_take_turns() -> None:
    async def main() -> list[Any]:
        bench = Bench("a", "b")
        await bench.stream("a")
        await bench.stream("b")
        await bench.engine.go_on(["s-a", "s-b"], None)
        assert bench.engine.jobs() == []
        return [*bench.copied, *bench.events]

    first = run(main())
    assert first[:4] == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    for _ in range(3):
        assert run(main()) == first


def test_waiting_for_one_lets_the_others_go_on() -> None:
    async def main() -> None:
        bench = Bench("a", "b")
        await bench.stream("a")
        await bench.stream("b")
        await bench.engine.step("s-b")
        await bench.engine.go_on(["s-b"], None)
        assert "s-b null" in bench.events
        assert bench.at("s-a")[0] == "running"
        assert bench.at("s-a")[1] > 0

    run(main())


def test_a_sleep_takes_no_time() -> None:
    """At 1 MiB a second the fourth piece begins after three seconds; the clock says so."""

    async def main() -> None:
        bench = Bench("a")
        began = bench.engine.clock.monotonic()
        await bench.stream("a", speed=MIB)
        await bench.engine.go_on(["s-a"], timeout=2.0)
        assert bench.engine.clock.monotonic() == began + 2.0
        assert bench.at("s-a") == ("running", 2)
        await bench.engine.go_on(["s-a"], None)
        assert bench.engine.jobs() == []
        assert 3.0 < bench.engine.clock.monotonic() - began < 4.1
        assert bench.engine.clock.wall() < EPOCH + 5

    run(main())


def test_verbs_take_effect_without_a_step() -> None:
    async def main() -> None:
        bench = Bench("a")
        engine = bench.engine
        await bench.stream("a", speed=1)
        await engine.step("s-a")
        await engine.execute(BlockJobPause(device="s-a"))
        await engine.rest()
        assert bench.at("s-a")[0] == "paused"
        before = engine.jobs()
        assert await engine.step("s-a") == before[0]
        await engine.go_on(["s-a"], None)
        assert engine.jobs() == before
        await engine.execute(BlockJobSetSpeed(device="s-a", speed=0))
        await engine.execute(BlockJobResume(device="s-a"))
        await engine.rest()
        assert engine.jobs()[0].current == before[0].current
        await engine.step("s-a")
        assert engine.jobs()[0].current > before[0].current
        await engine.execute(BlockJobCancel(device="s-a"))
        await engine.rest()
        assert engine.jobs() == []
        assert bench.events[-3:] == ["BLOCK_JOB_CANCELLED s-a", "s-a concluded", "s-a null"]

    run(main())


def test_let_free_it_goes_on_by_itself() -> None:
    async def main() -> None:
        bench = Bench("a")
        await bench.stream("a")
        bench.engine.go_by_steps(False)
        assert (await bench.engine.job_ended("s-a")).error is None
        assert bench.events[-1] == "s-a null"

    run(main())


def test_the_end_does_not_wait_for_steps() -> None:
    async def main() -> None:
        bench = Bench("a")
        await bench.stream("a")
        await bench.engine.shut_down()
        assert bench.engine.jobs() == []

    run(main())


def test_a_step_of_a_free_job_is_waited_for() -> None:
    async def main() -> None:
        bench = Bench("a")
        bench.engine.go_by_steps(False)
        gate = threading.Event()
        overlay(bench.engine.graph.nodes["a-base"]).before = lambda *request: gate.wait(10)
        await bench.engine.execute(BlockStream(job_id="s-a", device="a"))
        gate.set()
        for _ in range(20):
            snapshot = await bench.engine.step("s-a")
            if snapshot.status == "null":
                return
            assert snapshot.current > 0 or snapshot.status != "running"
        pytest.fail("it does not end")

    run(main())


def test_what_nothing_wakes_is_not_waited_for() -> None:
    """A job that sleeps until somebody kicks it: ``go_on`` comes back all the same."""

    async def main() -> None:
        bench = Bench("a")
        await bench.stream("a")
        job = bench.engine.job_table.find("s-a")
        assert job is not None
        job.limit.delay = lambda: math.inf  # type: ignore[attr-defined]
        await bench.engine.go_on(["s-a"], None)
        assert bench.at("s-a") == ("running", 0)
        await bench.engine.step("s-a")
        await bench.engine.shut_down()

    run(main())


def test_a_job_that_something_else_holds_up_is_at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        bench = Bench("a")
        held = threading.Event()
        overlay(bench.engine.graph.nodes["a-base"]).before = lambda *request: held.wait(10)
        await bench.stream("a")
        with monkeypatch.context() as patched:
            patched.setattr(stepping, "_STUCK", 0.05)
            await bench.engine.step("s-a")  # which gets nowhere, and comes back
        assert bench.at("s-a") == ("running", 0)
        held.set()
        await bench.engine.go_on(["s-a"], None)
        assert bench.engine.jobs() == []

    run(main())


@pytest.mark.parametrize("seed", range(5))
def test_each_leave_is_for_one_pause_point(seed: int) -> None:
    """Whatever else changes meanwhile, and however often."""
    chance = random.Random(seed)
    stood = threading.Semaphore(0)
    passed = 0
    pausing = Pausing(ManualClock(), lambda number: None, lambda changes, at: stood.release())
    pausing.hold(True)

    def work() -> None:
        nonlocal passed
        try:
            while True:
                if chance.random() < 0.5:
                    pausing.point()
                else:
                    pausing.sleep(lambda: 0.0)
                passed += 1
        except JobCancelled:
            pass

    thread = threading.Thread(target=work)
    thread.start()
    for number in range(200):
        while True:
            assert stood.acquire(timeout=10)
            if passed == number:
                break
        for disturb in chance.sample([pausing.kick, pausing.pause_user, pausing.pause_drain], 2):
            disturb()
        if pausing.drains:
            pausing.resume_drain()
        pausing.resume_user()
        assert passed == number
        pausing.let_go()
        # It has passed when it stands at the next point.
        while passed == number:
            assert stood.acquire(timeout=10)
        stood.release()
    pausing.cancel()
    thread.join(10)
    assert not thread.is_alive()
    assert passed == 200


def test_a_clock_that_stands() -> None:
    clock = HostClock()
    clock.stand(True)
    began = clock.monotonic()
    clock.tick()
    assert clock.monotonic() == began + TICK
    event = threading.Event()
    assert not clock.wait(event, 60)
    assert clock.monotonic() == began + TICK + 60
    event.set()
    assert clock.wait(event, 60)
    assert clock.wall() == EPOCH + TICK + 60
    clock.stand(False)
    assert clock.monotonic() >= began + TICK + 60
    assert clock.wall() > EPOCH + 1e8
