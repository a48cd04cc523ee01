"""A job's life from its beginning to its end, with a job made for it."""

from __future__ import annotations

import errno
import logging
import threading

import pytest

from monitor.engine.errors import Refused
from monitor.engine.jobs.errors import (
    InvalidJobId,
    JobIdInUse,
)
from monitor.engine.jobs.state import Status
from tests.support.graphs import run
from tests.support.toys import WELL, Bench, Gate


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


@pytest.mark.parametrize("step", ["run", "change_graph", "prepare"])
def test_a_bug_fails_the_job_with_one_line(step: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        bench = Bench()
        job = bench.toy("j0", auto_dismiss=False)
        job.failing[step] = IndexError()
        job.start()
        error = (await bench.jobs.ended("j0")).error
        assert error is not None
        assert error.startswith("internal error: stream job 'j0'")
        assert "\n" not in error

    with caplog.at_level(logging.ERROR):
        run(main())
    assert "IndexError" in caplog.text


def no_thread(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


@pytest.mark.parametrize("drained", [False, True])
def test_a_job_without_a_thread_fails(drained: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By then it is in the graph; a backup even begins within a drained section."""

    async def main() -> None:
        bench = Bench()
        job = bench.toy("j0", auto_dismiss=False)
        if drained:
            job.gate_closed()
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_thread)
            job.start()
        assert (await bench.jobs.ended("j0")).error == "Resource temporarily unavailable"
        assert job.calls == ["abort", "clean"]
        await bench.jobs.dismiss(job)

    run(main())
