"""The hint below an error that is about a job."""

from __future__ import annotations

import asyncio

import pytest

from monitor.commands.advice import advice
from monitor.commands.outcomes import outcomes_of
from monitor.engine.errors import JobNotActive, MonitorError, Refused, RequestError
from monitor.engine.graph.errors import NeedRootNode, NodeInUse
from monitor.engine.handlers.graph import DeviceInUse
from monitor.engine.jobs.errors import JobAlreadyPaused, JobNotFound, JobPaused
from monitor.engine.jobs.state import Status, Verb, VerbRefused
from tests.support.fake_engine import FakeEngine, job


def refused(state: str, verb: str) -> MonitorError:
    return VerbRefused("j0", state, verb)


def hint(error: MonitorError, *, kind: str = "mirror", jobs: int = 1) -> str | None:
    """The hint while jobs j0, j1, … of that kind run, and after e0 has ended and e1 failed."""

    async def work() -> str | None:
        engine = FakeEngine()
        outcomes_of(engine)
        for name in ("e0", "e1"):
            engine.start(job(name, status="created"))
        engine.end("e0")
        engine.end("e1", error="Input/output error")
        for number in range(jobs):
            engine.start(job(f"j{number}", type=kind))
        return advice(error, engine)

    return asyncio.run(work())


def test_too_early() -> None:
    error = refused("running", "complete")
    assert hint(error) == "it is not ready yet: wait j0 waits for that"
    assert hint(error, kind="backup") == "a backup job ends by itself: wait j0 waits for that"
    ended = "it is not ready: wait j0 waits until it is, or has ended"
    assert hint(error, kind="commit") == ended  # only that of an active layer becomes ready


def test_what_stops_a_job_that_is_no_block_job() -> None:
    async def work() -> str | None:
        engine = FakeEngine()
        engine.start(job("j0", type="create", block=False))
        return advice(refused("running", "dismiss"), engine)

    stops = "it has not ended: wait j0 waits for that, job-cancel id=j0 stops it"
    assert asyncio.run(work()) == stops


@pytest.mark.parametrize("verb", ["complete", "finalize", "dismiss"])
def test_a_job_that_stands_still(verb: str) -> None:
    """``wait`` fails at once there, and block_job_cancel is refused; also on its way to a pause."""

    async def work(status: str, block: bool) -> str | None:
        engine = FakeEngine()
        verbs = frozenset({"resume"})
        engine.start(job("j0", type="mirror", status=status, verbs=verbs, block=block))
        return advice(refused(status, verb), engine)

    for status in ("paused", "running"):
        assert asyncio.run(work(status, True)) == "block_job_resume j0 lets it go on"
        assert asyncio.run(work(status, False)) == "job-resume id=j0 lets it go on"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (refused("concluded", "pause"), "it has ended: job-dismiss id=j0 forgets it"),
        (refused("pending", "complete"), "job-finalize id=j0 lets it finish"),
        (
            refused("running", "finalize"),
            "it is not pending: wait j0 waits until it is, or has ended",
        ),
        (
            Refused("Invalid job ID ''"),
            "no drive shows the node, whose name the job would have: job-id= gives it one",
        ),
        (Refused("Invalid job ID '1a'"), None),
        (
            refused("running", "dismiss"),
            "it has not ended: wait j0 waits for that, block_job_cancel j0 stops it",
        ),
        (
            refused("waiting", "pause"),
            "it waits for the other jobs of its group: see info jobs",
        ),
        (JobAlreadyPaused("j0"), "block_job_resume j0 lets it go on"),
        (JobPaused("j0"), "block_job_cancel -f j0 cancels it all the same"),
        (
            Refused("Node 'd0' is busy: block device is in use by block job: mirror"),
            "that is job 'j0': wait j0, or block_job_cancel j0",
        ),
        (JobNotActive("e0"), "it has ended: it completed"),
        (JobNotFound("e1"), "it has ended: it failed: Input/output error"),
        (JobNotActive("j9"), None),  # the nearest name is told
        (Refused("Could not open 'a': Permission denied"), None),
    ],
)
def test_hints(error: MonitorError, expected: str | None) -> None:
    assert hint(error) == expected


class Busy(RequestError):
    template = "Node 'd0' is busy: block device is in use by block job: mirror"
    job: str


@pytest.mark.parametrize(
    ("status", "verb", "expected"),
    [
        ("running", "pause", ": wait j1, or block_job_cancel j1"),
        ("ready", "complete", ", which is ready: block_job_complete j1, or block_job_cancel j1"),
        ("pending", "finalize", ", which is pending: job-finalize id=j1 lets it finish"),
        (
            "paused",
            "resume",
            ", which stands still: block_job_resume j1 lets it go on, block_job_cancel -f j1 ends "
            "it",
        ),
    ],
)
def test_what_frees_a_node_goes_by_how_the_job_stands(
    status: str, verb: str, expected: str
) -> None:
    """``wait`` does nothing for a job that waits itself. Of several the error names the one."""

    async def work(error: MonitorError) -> str | None:
        engine = FakeEngine()
        engine.start(job("j0", type="mirror"))
        engine.start(job("j1", type="mirror", status=status, verbs=frozenset({verb})))
        return advice(error, engine)

    for error in (
        Busy("j1"),
        NeedRootNode("d0", "#block1", "j1"),
        DeviceInUse("d0", "j1"),
        NodeInUse("t", "j1"),
    ):
        assert asyncio.run(work(error)) == f"that is job 'j1'{expected}"


def test_a_job_that_only_a_cancel_ends_is_not_waited_for() -> None:
    async def work(error: MonitorError) -> str | None:
        engine = FakeEngine()
        engine.start(job("j0", type="backup", endless=True))
        return advice(error, engine)

    for verb in ("complete", "finalize", "dismiss"):
        ends = "it goes on until it is cancelled: block_job_cancel j0"
        assert asyncio.run(work(refused("running", verb))) == ends
    busy = "that is job 'j0', which goes on until it is cancelled: block_job_cancel j0"
    assert asyncio.run(work(Busy("j0"))) == busy


def test_a_bitmap_that_a_job_uses() -> None:
    error = Refused("Bitmap 'b0' is currently in use by another operation and cannot be used")
    assert hint(error) == "info jobs shows what may be at work on it"
    assert hint(error, jobs=0) is None  # an export uses it


def test_what_lies_above_a_node_that_is_no_root() -> None:
    assert hint(NeedRootNode("mid", "top", None)) == "node 'top' lies above it"
    assert hint(DeviceInUse("d0", None)) is None
    assert hint(NodeInUse("t", None)) is None  # by an export, perhaps


def test_which_of_several_jobs_keeps_a_node_busy_is_not_guessed() -> None:
    error = Refused("Node 'd0' is busy: block device is in use by block job: mirror")
    assert hint(error, jobs=2) == "info jobs shows them"
    assert hint(error, jobs=0) is None


def test_every_refusal_of_a_verb_that_may_come_up_has_a_hint() -> None:
    """A verb that a status does not take; the passing ones aside, where there is nothing to do."""
    passing = {Status.UNDEFINED, Status.CREATED, Status.ABORTING, Status.NULL}
    from monitor.engine.jobs.state import VERBS

    for verb in Verb:
        for status in set(Status) - VERBS[verb] - passing:
            assert hint(refused(status.value, verb.value)), (status, verb)
