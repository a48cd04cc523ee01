"""``wait``: ends of jobs, told once, early or late."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from monitor.commands.errors import JobFailed, JobStandsStill, WaitTimedOut
from monitor.commands.outcomes import CANCELLED, MAX_KEPT, Outcomes, outcomes_of
from monitor.engine.errors import JobNotActive
from tests.support.commands import AnsweringEngine, FakeSession, run
from tests.support.fake_engine import FakeEngine, job


def waited(
    line: str, *jobs: str, then: Callable[[FakeEngine], None] = lambda engine: None
) -> FakeSession:
    """The session after ``line``, with ``jobs`` running before it and ``then`` happening in it."""

    async def work() -> FakeSession:
        engine = AnsweringEngine()
        outcomes_of(engine)
        for name in jobs:
            engine.start(job(name))
        session = FakeSession(engine)
        asyncio.get_running_loop().call_soon(then, engine)
        await session.type(line)
        return session

    return run(work())


def after(events: Callable[[FakeEngine], None]) -> Callable[[str], Awaitable[FakeSession]]:
    """Types lines after ``events`` have happened."""

    async def type_line(line: str) -> FakeSession:
        engine = AnsweringEngine()
        outcomes_of(engine)
        events(engine)
        session = FakeSession(engine)
        await session.type(line)
        return session

    return type_line


def test_a_job_completes() -> None:
    session = waited("wait s0", "s0", then=lambda engine: engine.end("s0"))
    assert session.text == "Job 's0' completed"


def test_the_answer_as_data() -> None:
    async def work() -> object:
        engine = AnsweringEngine()
        outcomes_of(engine)
        engine.start(job("s0"))
        engine.end("s0")
        answer = await FakeSession(engine).type("wait s0")
        return answer.data if answer else None

    assert run(work()) == [{"job": "s0", "result": "completed"}]


def test_a_cancelled_job_is_no_error() -> None:
    session = waited("wait s0", "s0", then=lambda engine: engine.end("s0", cancelled=True))
    assert session.text == "Job 's0' was cancelled"


def test_a_failed_job_is() -> None:
    with pytest.raises(JobFailed) as caught:
        waited("wait s0", "s0", then=lambda engine: engine.end("s0", error="Input/output error"))
    assert caught.value.text == "Job 's0' failed: Input/output error"


def test_a_job_that_ended_before_anyone_waited() -> None:
    def events(engine: FakeEngine) -> None:
        engine.start(job("s0"))
        engine.end("s0")

    assert run(after(events)("wait s0")).text == "Job 's0' completed"


@pytest.mark.parametrize("line", ["wait s0", "wait", "wait all"])
def test_a_failure_before_anyone_waited(line: str) -> None:
    def events(engine: FakeEngine) -> None:
        engine.start(job("s0"))
        engine.end("s0", error="No space left on device")

    with pytest.raises(JobFailed) as caught:
        run(after(events)(line))
    assert caught.value.job == "s0"


def test_a_failure_is_told_once_by_wait_for_all() -> None:
    async def work() -> str:
        engine = AnsweringEngine()
        outcomes_of(engine)
        engine.start(job("s0"))
        engine.end("s0", error="x")
        session = FakeSession(engine)
        with pytest.raises(JobFailed):
            await session.type("wait")
        await session.type("wait")
        return session.text

    assert run(work()) == ""


def test_all_jobs_are_waited_for_and_told_of() -> None:
    def events(engine: FakeEngine) -> None:
        engine.end("b")
        engine.end("a")

    assert waited("wait all", "a", "b", then=events).lines == [
        "Job 'a' completed",
        "Job 'b' completed",
    ]


def test_one_failure_among_others_leaves_the_others_told() -> None:
    session: list[FakeSession] = []

    async def work() -> None:
        engine = AnsweringEngine()
        outcomes_of(engine)
        for name in "ab":
            engine.start(job(name))
        session.append(FakeSession(engine))
        engine.end("a", error="x")
        engine.end("b")
        await session[0].type("wait a b")

    with pytest.raises(JobFailed):
        run(work())
    assert session[0].lines == ["Job 'b' completed"]


@pytest.mark.parametrize(
    ("status", "way_on"),
    [
        ("ready", "block_job_complete m0 finishes it"),
        ("pending", "job-finalize id=m0 lets it finish"),
    ],
)
def test_a_job_that_takes_a_verb_to_end(status: str, way_on: str) -> None:
    session = waited("wait m0", "m0", then=lambda engine: engine.move("m0", status))
    assert session.text == f"Job 'm0' is {status}: {way_on}"


def test_jobs_that_ended_while_nobody_waited_are_told_once_and_in_order() -> None:
    async def work() -> None:
        engine = AnsweringEngine()
        outcomes_of(engine)
        for name in "abc":
            engine.start(job(name, status="created"))
        engine.end("c")
        engine.end("a", cancelled=True)
        session = FakeSession(engine)
        asyncio.get_running_loop().call_soon(engine.end, "b")
        await session.type("wait")
        assert session.lines == ["Job 'a' was cancelled", "Job 'b' completed", "Job 'c' completed"]
        await session.type("wait")
        assert len(session.lines) == 3

    run(work())


def test_a_wait_that_times_out_tells_of_what_did_end() -> None:
    async def work() -> None:
        engine = AnsweringEngine()
        outcomes_of(engine)
        for name in "ab":
            engine.start(job(name, status="created"))
        engine.end("b")
        session = FakeSession(engine)
        with pytest.raises(WaitTimedOut) as caught:
            await session.type("wait a b --timeout 0")
        assert (session.lines, caught.value.job) == (["Job 'b' completed"], "a")

    run(work())


def test_a_job_without_events_of_its_own_tells_by_its_error() -> None:
    def ending(error: str | None) -> Callable[[FakeEngine], None]:
        return lambda engine: engine.start(job("c0", status="concluded", error=error))

    assert run(after(ending(None))("wait c0")).text == "Job 'c0' completed"
    assert run(after(ending(CANCELLED))("wait c0")).text == "Job 'c0' was cancelled"
    with pytest.raises(JobFailed):
        run(after(ending("File exists"))("wait c0"))


@pytest.mark.parametrize(
    ("block", "resume"), [(True, "block_job_resume s0"), (False, "job-resume id=s0")]
)
def test_a_paused_job_is_not_waited_for(block: bool, resume: str) -> None:
    class Paused(AnsweringEngine):
        async def job_ended(self, job_id: str):  # type: ignore[no-untyped-def]
            return job(job_id, status="paused", paused=True, block=block)

    async def work() -> None:
        await FakeSession(Paused()).type("wait s0")

    with pytest.raises(JobStandsStill) as caught:
        run(work())
    assert caught.value.text == f"Job 's0' is paused: {resume} lets it go on"


def test_a_timeout_leaves_the_job_running() -> None:
    engines: list[FakeEngine] = []
    with pytest.raises(WaitTimedOut) as caught:
        waited("wait s0 --timeout 0", "s0", then=engines.append)
    assert caught.value.text == "Job 's0' has not ended after 0 s"
    assert [running.id for running in engines[0].jobs()] == ["s0"]


def test_an_unknown_job() -> None:
    with pytest.raises(JobNotActive):
        waited("wait nope", "s0")


def test_nothing_to_wait_for() -> None:
    assert waited("wait").text == ""


def test_a_new_job_of_the_same_name_is_another_one() -> None:
    async def work() -> None:
        engine = AnsweringEngine()
        outcomes = Outcomes(engine)
        engine.start(job("s0"))
        engine.end("s0", error="x")
        engine.start(job("s0", status="created"))
        assert outcomes.of("s0") is None

    run(work())


def test_outcomes_are_kept_within_bounds() -> None:
    async def work() -> None:
        engine = AnsweringEngine()
        outcomes = Outcomes(engine)
        for number in range(MAX_KEPT + 1):
            outcomes.record(f"j{number}", "completed")
        assert outcomes.of("j0") is None
        assert outcomes.of(f"j{MAX_KEPT}") is not None

    run(work())


def test_an_engine_has_one_memory_of_outcomes() -> None:
    async def work() -> None:
        engine = AnsweringEngine()
        assert outcomes_of(engine) is outcomes_of(engine)
        assert outcomes_of(engine) is not outcomes_of(AnsweringEngine())

    run(work())
