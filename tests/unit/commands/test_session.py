"""``source``, ``echo``, ``record``, ``quit``."""

from __future__ import annotations

import pytest

from tests.support.commands import AnsweringEngine, FakeSession, run, typed
from tests.support.fake_engine import job


def session_after(
    line: str, *jobs: str, interactive: bool = False, says: bool = False
) -> FakeSession:
    async def work() -> FakeSession:
        engine = AnsweringEngine()
        for name in jobs:
            engine.start(job(name))
        session = FakeSession(engine, interactive=interactive, says=says)
        await session.type(line)
        return session

    return run(work())


@pytest.mark.parametrize(
    ("line", "printed"),
    [("echo", ""), ("echo chain  is ready", "chain  is ready"), ('echo "a b"', '"a b"')],
)
def test_echo_prints_the_rest_of_the_line(line: str, printed: str) -> None:
    assert typed(line)[0] == printed


def test_source_runs_a_file_in_this_session() -> None:
    assert session_after("source setup.blkmon").files == ["setup.blkmon"]


def test_a_recording_begins_and_ends() -> None:
    assert session_after("record story.txt").recordings == ["story.txt"]
    assert session_after("record stop").recordings == [None]


@pytest.mark.parametrize("line", ["quit", "q"])
def test_quit_ends_the_session(line: str) -> None:
    assert session_after(line).quit_requested


def test_quit_does_not_ask_a_script_or_without_jobs() -> None:
    assert session_after("quit", "s0").quit_requested
    quiet = session_after("quit", interactive=True)
    assert quiet.quit_requested
    assert quiet.asked == []


@pytest.mark.parametrize("says", [True, False])
def test_quit_asks_a_person_when_jobs_run(says: bool) -> None:
    session = session_after("quit", "s0", interactive=True, says=says)
    assert session.asked == ["Cancel job 's0' and quit?"]
    assert session.quit_requested is says


def test_quit_counts_the_jobs() -> None:
    assert session_after("quit", "a", "b", interactive=True).asked == ["Cancel 2 jobs and quit?"]


@pytest.mark.parametrize(
    ("ready", "others", "question"),
    [
        (
            ["m0"],
            [],
            "Job 'm0' is ready: block_job_complete m0 would use its copy. "
            "Cancel job 'm0' and quit?",
        ),
        (
            ["m0"],
            ["s0"],
            "Job 'm0' is ready: block_job_complete m0 would use its copy. Cancel 2 jobs and quit?",
        ),
        (
            ["m0", "m1"],
            [],
            "2 jobs are ready: block_job_complete would use their copies. Cancel 2 jobs and quit?",
        ),
    ],
)
def test_quit_says_which_copy_is_ready(ready: list[str], others: list[str], question: str) -> None:
    async def work() -> FakeSession:
        engine = AnsweringEngine()
        for name in ready:
            engine.start(job(name, status="ready", type="mirror"))
        for name in others:
            engine.start(job(name))
        session = FakeSession(engine, interactive=True)
        await session.type("quit")
        return session

    assert run(work()).asked == [question]


def test_jobs_that_have_ended_are_no_reason_to_ask() -> None:
    async def work() -> FakeSession:
        engine = AnsweringEngine()
        engine.start(job("c0", status="concluded"))
        session = FakeSession(engine, interactive=True)
        await session.type("quit")
        return session

    assert run(work()).asked == []
