"""A job's life with a job made for it: what its thread does is in the test's hands."""

from __future__ import annotations

import asyncio
import errno
import itertools
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.engine.clock import ManualClock
from monitor.engine.errors import Refused, RequestError
from monitor.engine.graph.graph import Graph
from monitor.engine.graph.node import Node
from monitor.engine.graph.transaction import Transaction
from monitor.engine.jobs.block import BlockJob
from monitor.engine.jobs.errors import (
    CannotComplete,
    InvalidJobId,
    JobAlreadyPaused,
    JobIdInUse,
    JobNotPaused,
)
from monitor.engine.jobs.group import JobGroup
from monitor.engine.jobs.manager import Jobs
from monitor.engine.jobs.state import TRANSITIONS, VERBS, Status, Verb, VerbRefused
from tests.support.graphs import Events, add, run


class Toy(BlockJob):
    """Does ``steps`` in turn, a pause point before each, and notes what is called when."""

    type = "stream"

    def __init__(self, bench: Bench, job_id: str | None, *steps: Callable[[], None], **how: bool):
        self.steps = steps
        self.calls: list[str] = []
        self.failing: dict[str, Exception] = {}
        self.nodes: list[Node] = []
        super().__init__(job_id, bench.graph, bench.clock, **how)

    def run(self) -> None:
        for step in self.steps:
            self.pause_point()
            step()
        self._call("run")

    def change_graph(self, transaction: Transaction) -> None:
        self._call("change_graph")

    def prepare(self) -> None:
        self._call("prepare")

    def commit(self) -> None:
        self._call("commit")

    def abort(self) -> None:
        self._call("abort")

    async def clean(self) -> None:
        self._call("clean")

    def drains_for_end(self) -> list[Node]:
        return self.nodes

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.failing:
            raise self.failing[name]


class Bench:
    """A graph, its jobs and what was reported."""

    def __init__(self) -> None:
        self.events = Events()
        self.clock = ManualClock()
        self.graph = Graph(self.events)
        self.jobs = Jobs(self.graph, self.clock)

    def toy(self, job_id: str | None, *steps: Callable[[], None], **how: bool) -> Toy:
        return self.jobs.add(Toy(self, job_id, *steps, **how))

    def told(self, job: Toy) -> list[str]:
        """The job's events in short: statuses, and names of others."""
        short = []
        for name, data in self.events:
            if data.get("id", data.get("device")) == job.id:
                short.append(data["status"] if name == "JOB_STATUS_CHANGE" else name)
        return short

    async def until(self, job: Toy, status: Status) -> None:
        while job.status is not status:
            changed = asyncio.Event()
            job._watchers.add(changed)
            await changed.wait()
            job._watchers.discard(changed)


class Gate:
    """A step that tells that it was reached and goes on when it is told to."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()

    def __call__(self) -> None:
        self.reached.set()
        assert self.open.wait(10)

    async def wait(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self.reached.wait, 10)


WELL = [
    "created", "running", "waiting", "pending", "BLOCK_JOB_COMPLETED", "concluded", "null",
]  # fmt: skip


def test_a_job_that_ends_well() -> None:
    async def main() -> None:
        bench = Bench()
        job = bench.toy("j0")
        assert job.snapshot().status == "created"
        job.start()
        assert (await bench.jobs.ended("j0")).status == "null"
        assert bench.told(job) == WELL
        assert job.calls == ["run", "change_graph", "prepare", "commit", "clean"]
        assert bench.jobs.find("j0") is None

    run(main())


def test_ids() -> None:
    async def main() -> None:
        bench = Bench()
        bench.jobs.check_id("j0")
        for bad in ("", "0j", "a b", "ä", "-a"):
            with pytest.raises(InvalidJobId, match=f"Invalid job ID '{bad}'"):
                bench.jobs.check_id(bad)
        bench.toy("j0")
        with pytest.raises(JobIdInUse, match="Job ID 'j0' already in use"):
            bench.jobs.check_id("j0")

    run(main())


def test_a_job_without_a_name_is_not_seen() -> None:
    async def main() -> None:
        bench = Bench()
        gate = Gate()
        job = bench.toy(None, gate)
        job.start()
        assert bench.jobs.snapshots() == []
        assert bench.jobs.find("") is None
        gate.open.set()
        await job.settled()
        assert bench.events == []
        assert job.status is Status.NULL

    run(main())


def test_it_waits_for_finalize_and_dismiss() -> None:
    async def main() -> None:
        bench = Bench()
        job = bench.toy("j0", auto_finalize=False, auto_dismiss=False)
        job.start()
        assert (await bench.jobs.ended("j0")).status == "pending"
        assert bench.told(job) == [*WELL[:4], "BLOCK_JOB_PENDING"]
        assert job.calls == ["run"]
        await job.group.finalize()
        assert job.status is Status.CONCLUDED
        assert bench.told(job)[5:] == ["BLOCK_JOB_COMPLETED", "concluded"]
        assert bench.jobs.snapshots()[0].verbs == {"dismiss"}
        await bench.jobs.dismiss(job)
        assert bench.told(job)[7:] == ["null"]

    run(main())


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.ENOSPC, "?"), "No space left on device"),
        (Refused("The image is not what it was"), "The image is not what it was"),
    ],
)
def test_a_failed_run(error: Exception, text: str) -> None:
    async def main() -> None:
        bench = Bench()
        job = bench.toy("j0", auto_dismiss=False)
        job.failing["run"] = error
        job.start()
        snapshot = await bench.jobs.ended("j0")
        assert (snapshot.status, snapshot.error) == ("concluded", text)
        assert bench.told(job) == [
            "created", "running", "aborting", "BLOCK_JOB_COMPLETED", "concluded",
        ]  # fmt: skip
        assert bench.events[-2][1]["error"] == text
        assert job.calls == ["run", "abort", "clean"]

    run(main())


@pytest.mark.parametrize("step", ["change_graph", "prepare"])
def test_a_failed_end(step: str) -> None:
    async def main() -> None:
        bench = Bench()
        job = bench.toy("j0", auto_dismiss=False)
        job.failing[step] = OSError(errno.EIO, "?")
        job.start()
        assert (await bench.jobs.ended("j0")).error == "Input/output error"
        assert bench.told(job) == [
            *WELL[:4], "aborting", "BLOCK_JOB_COMPLETED", "concluded",
        ]  # fmt: skip
        assert job.calls[-3:] == [step, "abort", "clean"]

    run(main())


def test_a_bug_fails_the_job_with_one_line(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        bench = Bench()
        job = bench.toy("j0", lambda: [][0], auto_dismiss=False)  # type: ignore[func-returns-value]
        job.start()
        error = (await bench.jobs.ended("j0")).error
        assert error is not None
        assert error.startswith("internal error: stream job 'j0'")
        assert "\n" not in error

    with caplog.at_level(logging.ERROR):
        run(main())
    assert "IndexError" in caplog.text


def test_pausing_and_resuming() -> None:
    async def main() -> None:
        bench = Bench()
        gate, last = Gate(), Gate()
        job = bench.toy("j0", gate, last)
        job.start()
        await gate.wait()
        with pytest.raises(JobNotPaused):
            job.user_resume()
        job.user_pause()
        with pytest.raises(JobAlreadyPaused):
            job.user_pause()
        assert job.status is Status.RUNNING  # its thread has not reached a pause point
        assert job.paused
        assert job.busy
        gate.open.set()
        assert (await bench.jobs.ended("j0")).status == "paused"
        assert not job.busy
        assert "resume" in job.verbs()
        assert "pause" not in job.verbs()
        assert not last.reached.is_set()
        job.user_resume()
        assert job.status is Status.RUNNING
        last.open.set()
        await job.settled()
        assert bench.told(job) == ["created", "running", "paused", "running", *WELL[2:]]

    run(main())


def test_a_pause_that_ends_before_the_pause_point_is_no_pause() -> None:
    async def main() -> None:
        bench = Bench()
        gate = Gate()
        job = bench.toy("j0", gate, lambda: None)
        job.start()
        await gate.wait()
        job.user_pause()
        job.user_resume()
        gate.open.set()
        await job.settled()
        assert bench.told(job) == WELL

    run(main())


def test_a_late_word_about_an_old_pause_is_not_believed() -> None:
    async def main() -> None:
        bench = Bench()
        gate = Gate()
        job = bench.toy("j0", gate)
        job.start()
        await gate.wait()
        job.user_pause()
        seen = job._pausing.number
        job.user_resume()
        job.user_pause()
        job._parked(seen)  # it was about the first pause; the thread is in its step
        assert job.status is Status.RUNNING
        job.user_resume()
        gate.open.set()
        await job.settled()

    run(main())


def test_a_drained_section_pauses_and_the_user_does_too() -> None:
    async def main() -> None:
        bench = Bench()
        gate, second = Gate(), Gate()
        node = add(bench.graph, "n0")
        job = bench.toy("j0", gate, second)
        bench.graph.add_client(job, node, 0, 15, "main node")
        job.start()
        await gate.wait()
        async with bench.graph.drained(node):
            gate.open.set()
            await bench.until(job, Status.PAUSED)
            job.user_pause()
            assert not second.reached.is_set()
        assert job.status is Status.PAUSED  # the user's reason holds
        async with bench.graph.drained(node):
            job.user_resume()
            assert job.status is Status.PAUSED  # and now the section's
        assert job.status is Status.RUNNING
        second.open.set()
        await job.settled()

    run(main())


CANCELLED = ["aborting", "BLOCK_JOB_CANCELLED", "concluded", "null"]


def test_cancelling_a_running_job() -> None:
    async def main() -> None:
        bench = Bench()
        gate, never = Gate(), Gate()
        job = bench.toy("j0", gate, never)
        job.start()
        await gate.wait()
        job.user_cancel(force=False)
        gate.open.set()
        await job.settled()
        assert not never.reached.is_set()
        assert bench.told(job) == ["created", "running", *CANCELLED]
        assert job.calls == ["abort", "clean"]
        assert job.error_text == "Operation canceled"

    run(main())


def test_cancelling_a_paused_job() -> None:
    async def main() -> None:
        bench = Bench()
        job = bench.toy("j0", lambda: None)
        job.start()
        job.user_pause()
        await bench.jobs.ended("j0")
        job.user_cancel(force=True)
        await job.settled()
        assert bench.told(job) == ["created", "running", "paused", "running", *CANCELLED]

    run(main())


def test_cancelling_a_pending_job() -> None:
    async def main() -> None:
        bench = Bench()
        job = bench.toy("j0", auto_finalize=False)
        job.start()
        await bench.jobs.ended("j0")
        job.user_cancel(force=False)
        await job.settled()
        assert bench.told(job) == [*WELL[:4], "BLOCK_JOB_PENDING", *CANCELLED]
        assert job.calls == ["run", "abort", "clean"]

    run(main())


def test_a_cancel_counts_until_the_turn_is_had() -> None:
    async def main() -> None:
        bench = Bench()
        job = bench.toy("j0")
        async with bench.graph.turn:
            job.start()
            await bench.until(job, Status.PENDING)
            job.user_cancel(force=True)
        await job.settled()
        assert bench.told(job) == [*WELL[:4], *CANCELLED]

    run(main())


def test_verbs_wait_for_an_end_under_way() -> None:
    async def main() -> None:
        bench = Bench()
        gate = Gate()
        job = bench.toy("j0")
        job.prepare = gate  # type: ignore[method-assign]
        job.start()
        await gate.wait()
        verb = asyncio.ensure_future(bench.jobs.find_at_rest("j0"))
        await asyncio.sleep(0)
        assert not verb.done()
        gate.open.set()
        assert await verb is None
        assert bench.told(job) == WELL

    run(main())


def test_a_job_cancelled_before_it_began() -> None:
    async def main() -> None:
        bench = Bench()
        job = bench.toy("j0")
        job.cancel(force=True)
        await job.settled()
        assert bench.told(job) == ["created", "aborting", "concluded", "null"]
        assert job.calls == ["abort", "clean"]

    run(main())


def test_a_sleeping_job_hears_everything_at_once() -> None:
    """The clock stands still throughout."""

    async def main() -> None:
        bench = Bench()
        job: Toy
        job = bench.toy("j0", lambda: job.sleep(job.limit.delay), lambda: job.sleep(lambda: 1e9))
        job.set_speed(1)
        job.limit.spend(1 << 30)
        job.start()
        job.user_pause()
        assert (await bench.jobs.ended("j0")).status == "paused"
        job.user_resume()
        job.set_speed(0)  # ends the first sleep
        job.user_cancel(force=False)
        await job.settled()
        assert bench.told(job)[-4:] == CANCELLED

    run(main())


def test_verbs_in_the_wrong_state_change_nothing() -> None:
    async def main() -> None:
        bench = Bench()
        job = bench.toy("j0", auto_finalize=False)
        job.start()
        await bench.jobs.ended("j0")
        told = bench.told(job)
        for verb in (job.user_pause, job.user_complete, lambda: job.set_speed(1)):
            with pytest.raises(VerbRefused):
                verb()
        assert bench.told(job) == told
        assert job.verbs() == {"cancel", "finalize"}
        await job.group.finalize()

    run(main())


# Ready


class ToyMirror(Toy):
    """Is ready at once and ends when it is completed, or cancelled without force."""

    type = "mirror"
    can_complete = True
    completed = False

    def run(self) -> None:
        self.become_ready()
        self.sleep(lambda: 0 if self.completed or self.cancel_requested else 1e9)

    def complete(self) -> None:
        self.completed = True

    def soft_cancel(self) -> bool:
        return self.ready


async def ready_job(bench: Bench) -> ToyMirror:
    job = bench.jobs.add(ToyMirror(bench, "j0"))
    with pytest.raises(VerbRefused, match="state 'created' cannot accept command verb 'complete'"):
        job.user_complete()
    job.start()
    assert (await bench.jobs.ended("j0")).status == "ready"
    return job


def test_ready_until_completed() -> None:
    async def main() -> None:
        bench = Bench()
        job = await ready_job(bench)
        assert "complete" in job.verbs()
        job.user_pause()
        await bench.until(job, Status.STANDBY)
        job.user_complete()  # it hears of it when it is resumed
        assert job.status is Status.STANDBY
        job.user_resume()
        await job.settled()
        assert bench.told(job) == [
            "created", "running", "ready", "BLOCK_JOB_READY", "standby", "ready", *WELL[2:],
        ]  # fmt: skip

    run(main())


def test_a_ready_job_may_end_well_when_it_is_cancelled() -> None:
    async def main() -> None:
        bench = Bench()
        job = await ready_job(bench)
        job.user_cancel(force=False)
        with pytest.raises(CannotComplete, match="The active block job 'j0' cannot be completed"):
            job.user_complete()
        await job.settled()
        assert bench.told(job)[-5:] == WELL[2:]

    run(main())


def test_a_ready_job_is_cancelled_by_force() -> None:
    async def main() -> None:
        bench = Bench()
        job = await ready_job(bench)
        job.user_cancel(force=True)
        await job.settled()
        assert bench.told(job)[-4:] == CANCELLED

    run(main())


# All of it at random

MOVES = st.sampled_from(
    ["pause", "resume", "cancel", "set-speed", "complete", "finalize", "dismiss", "step", "look"]
)


@given(st.lists(MOVES, max_size=25), st.booleans(), st.booleans())
def test_any_verbs_at_any_time(moves: list[str], auto_finalize: bool, auto_dismiss: bool) -> None:
    """Each verb is taken exactly when the tables say so, and what happens stays inside them."""

    async def main() -> None:
        bench = Bench()
        gates = [Gate() for _ in range(3)]
        job = bench.toy("j0", *gates, auto_finalize=auto_finalize, auto_dismiss=auto_dismiss)
        job.start()
        closed = list(gates)
        for move in moves:
            if move == "step" and closed:
                closed.pop(0).open.set()
            elif move == "look":
                await as_far_as_it_can(job, closed)
            elif move not in ("step", "look"):
                await try_verb(bench, job, Verb(move))
        for gate in closed:
            gate.open.set()
        await bench.jobs.cancel_all()
        assert job.status is Status.NULL
        walk = [Status(name) for name in bench.told(job) if name.islower()]
        assert walk[0] is Status.CREATED
        assert all(b in TRANSITIONS[a] for a, b in itertools.pairwise(walk))
        assert job.calls.count("clean") == 1
        assert ("commit" in job.calls) != ("abort" in job.calls)

    run(main())


async def as_far_as_it_can(job: Toy, closed: list[Gate]) -> None:
    """Until the job's thread stands: at a gate, at a pause point, or at its end."""
    standing = (Status.PAUSED, Status.STANDBY)
    async with asyncio.timeout(10):
        while not (job.run_is_over or job.status in standing):
            if closed and closed[0].reached.is_set():
                return
            await asyncio.sleep(0)


async def try_verb(bench: Bench, job: Toy, verb: Verb) -> None:
    at_rest = await bench.jobs.find_at_rest("j0")
    if at_rest is None:
        assert job.status is Status.NULL
        return
    status, user_paused = job.status, job.user_paused
    verbs: dict[Verb, Callable[[], Any]] = {
        Verb.PAUSE: job.user_pause,
        Verb.RESUME: job.user_resume,
        Verb.CANCEL: lambda: job.user_cancel(force=True),
        Verb.SET_SPEED: lambda: job.set_speed(5),
        Verb.COMPLETE: job.user_complete,
        Verb.FINALIZE: lambda: job.check(verb),
        Verb.DISMISS: lambda: job.check(verb),
    }
    taken = status in VERBS[verb]
    if verb in (Verb.PAUSE, Verb.RESUME):
        taken = taken and user_paused == (verb is Verb.RESUME)
    try:
        verbs[verb]()
        if verb is Verb.FINALIZE:
            await job.group.finalize()
        elif verb is Verb.DISMISS:
            await bench.jobs.dismiss(job)
    except RequestError:
        assert not taken
        assert job.status is status
        assert job.user_paused == user_paused
    else:
        assert taken


# Groups


def grouped(bench: Bench, *jobs: Toy) -> None:
    group = JobGroup(bench.jobs)
    for job in jobs:
        group.add(job)


def test_a_group_ends_together() -> None:
    async def main() -> None:
        bench = Bench()
        gate = Gate()
        one, two = bench.toy("one"), bench.toy("two", gate)
        grouped(bench, one, two)
        one.start()
        two.start()
        await bench.until(one, Status.WAITING)
        gate.open.set()
        await one.settled()
        await two.settled()
        assert bench.told(one) == bench.told(two) == WELL
        assert one.calls == two.calls == ["run", "change_graph", "prepare", "commit", "clean"]

    run(main())


@pytest.mark.parametrize("step", ["run", "prepare"])
def test_one_failure_aborts_the_group(step: str) -> None:
    async def main() -> None:
        bench = Bench()
        one, two, gate = bench.toy("one"), bench.toy("two"), Gate()
        two.steps = (gate,)
        grouped(bench, one, two)
        one.start()
        two.start()
        two.failing[step] = OSError(errno.EIO, "?")
        gate.open.set()
        await one.settled()
        await two.settled()
        assert bench.told(one)[-4:] == CANCELLED
        assert bench.told(two)[-4:] == ["aborting", "BLOCK_JOB_COMPLETED", "concluded", "null"]
        assert "commit" not in one.calls + two.calls
        assert one.calls[-2:] == two.calls[-2:] == ["abort", "clean"]

    run(main())


def test_one_cancel_cancels_the_group() -> None:
    async def main() -> None:
        bench = Bench()
        gate = Gate()
        one, two = bench.toy("one"), bench.toy("two", gate, lambda: None)
        grouped(bench, one, two)
        one.start()
        two.start()
        await gate.wait()
        await bench.until(one, Status.WAITING)
        one.user_cancel(force=True)
        assert one.status is Status.WAITING  # the other is still at work
        gate.open.set()
        await one.settled()
        await two.settled()
        assert bench.told(one)[-4:] == bench.told(two)[-4:] == CANCELLED

    run(main())


def test_one_finalize_is_enough_for_the_group() -> None:
    async def main() -> None:
        bench = Bench()
        one, two = bench.toy("one", auto_finalize=False), bench.toy("two")
        grouped(bench, one, two)
        one.start()
        two.start()
        assert (await bench.jobs.ended("two")).status == "pending"
        await two.group.finalize()
        assert bench.told(two) == WELL
        assert one.status is Status.NULL

    run(main())


def test_cancel_all_ends_everything() -> None:
    async def main() -> None:
        bench = Bench()
        gate = Gate()
        running = bench.toy("running", gate, lambda: None)
        bench.toy("paused", lambda: None)
        bench.toy("pending", auto_finalize=False)
        bench.toy("concluded", auto_dismiss=False)
        bench.toy("created")
        for name in ("running", "paused", "pending", "concluded"):
            job = bench.jobs.find(name)
            assert job
            job.start()
            if name == "paused":
                job.user_pause()
        for name in ("paused", "pending", "concluded"):
            await bench.jobs.ended(name)
        end = asyncio.ensure_future(bench.jobs.cancel_all())
        await gate.wait()
        assert not end.done()
        gate.open.set()
        await end
        assert bench.jobs.visible() == []
        assert bench.told(running)[-4:] == CANCELLED

    run(main())
