"""Which events become a line above the prompt, and what it says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from monitor.shell.announce import Announcer, folded
from tests.support.fake_engine import MIB, FakeEngine, job


def heard(play: Callable[[FakeEngine], None]) -> list[str]:
    """The lines for what ``play`` does with an engine."""

    async def run() -> list[str]:
        engine = FakeEngine()
        announcer = Announcer(engine.jobs)
        lines: list[str | None] = []
        engine.subscribe(lambda event: lines.append(announcer.line(event)))
        play(engine)
        return [line for line in lines if line is not None]

    return asyncio.run(run())


def stream(engine: FakeEngine) -> None:
    engine.start(job("s0", status="created"))
    engine.move("s0", "running")


def test_a_job_that_completes_says_so_once() -> None:
    def play(engine: FakeEngine) -> None:
        stream(engine)
        engine.move("s0", "paused")
        engine.move("s0", "running")
        engine.end("s0")

    assert heard(play) == ["Job 's0' (stream) completed"]


def test_a_failure_says_why() -> None:
    def play(engine: FakeEngine) -> None:
        stream(engine)
        engine.end("s0", error="Input/output error")

    assert heard(play) == ["Job 's0' (stream) failed: Input/output error"]


@pytest.mark.parametrize(
    ("kind", "advice"),
    [
        ("backup", "; drive-backup with on-target-error=stop waits for room"),
        ("mirror", "; drive-mirror with on-target-error=stop waits for room"),
        ("commit", "; block-commit with on-error=stop waits for room"),
        ("stream", "; block-stream with on-error=stop waits for room"),
        ("create", ""),
    ],
)
def test_a_full_disk_need_not_be_the_end(kind: str, advice: str) -> None:
    """The request that has the option is named: a job of ``drive_backup`` has no such option."""

    def play(engine: FakeEngine) -> None:
        engine.start(job("s0", type=kind, status="created"))
        engine.end("s0", error="No space left on device")

    assert heard(play) == [f"Job 's0' ({kind}) failed: No space left on device{advice}"]


def test_cancelled() -> None:
    def play(engine: FakeEngine) -> None:
        stream(engine)
        engine.end("s0", cancelled=True)

    assert heard(play) == ["Job 's0' (stream) was cancelled"]


def test_ready_says_how_to_finish() -> None:
    def play(engine: FakeEngine) -> None:
        engine.start(job("m0", type="mirror"))
        engine.move("m0", "ready")
        engine.move("m0", "standby")
        engine.move("m0", "ready")  # resumed: nothing new

    assert heard(play) == ["Job 'm0' (mirror) is ready: block_job_complete m0 finishes it"]


def test_a_job_that_is_kept_says_how_to_be_rid_of_it() -> None:
    def play(engine: FakeEngine) -> None:
        engine.start(job("c0", type="create"))
        engine.move("c0", "concluded", error="File exists", verbs=frozenset({"dismiss"}))

    assert heard(play) == ["Job 'c0' (create) failed: File exists; job-dismiss id=c0 forgets it"]


def test_pending_matters_only_when_it_waits_for_a_person() -> None:
    def play(engine: FakeEngine) -> None:
        engine.start(job("s0"))
        engine.move("s0", "pending", verbs=frozenset({"finalize"}))
        engine.emit("BLOCK_JOB_PENDING", type="stream", id="s0")

    assert heard(play) == ["Job 's0' (stream) is pending: job-finalize id=s0 lets it finish"]


def test_a_job_that_is_no_block_job_tells_its_error_by_itself() -> None:
    def play(engine: FakeEngine) -> None:
        engine.start(job("c0", type="create"))
        engine.move("c0", "aborting", error="File exists")
        engine.move("c0", "concluded", error="File exists")

    assert heard(play) == ["Job 'c0' (create) failed: File exists"]


@pytest.mark.parametrize(("action", "lines"), [("stop", 1), ("ignore", 0), ("report", 0)])
def test_io_errors_are_told_when_the_job_waits_for_a_person(action: str, lines: int) -> None:
    def play(engine: FakeEngine) -> None:
        for _ in range(3):
            engine.emit("BLOCK_JOB_ERROR", device="s0", operation="write", action=action)

    assert heard(play) == lines * 3 * [
        "Job 's0' stopped at a write error; block_job_resume s0 tries again"
    ]


def test_a_job_that_stops_at_an_error_says_which() -> None:
    def play(engine: FakeEngine) -> None:
        engine.start(job("b0", type="backup", stopped="write error: No space left on device"))
        engine.emit("BLOCK_JOB_ERROR", device="b0", operation="write", action="stop")

    assert heard(play) == [
        "Job 'b0' (backup) stopped at a write error: No space left on device; "
        "block_job_resume b0 tries again"
    ]


def test_a_ready_job_that_is_cancelled_completes_and_changes_nothing() -> None:
    def play(engine: FakeEngine) -> None:
        engine.start(job("m0", type="mirror"))
        engine.move("m0", "ready", left=True)
        engine.end("m0")

    assert heard(play)[-1] == "Job 'm0' (mirror) completed: the copy is whole, and not put to use"


def test_dropped_node() -> None:
    def play(engine: FakeEngine) -> None:
        engine.emit("X_BLKMON_NODE_DROPPED", node_name="ov")

    assert heard(play) == ["Node 'ov' was dropped: nothing uses it"]


def test_events_of_other_servers_are_shown_as_they_are() -> None:
    def play(engine: FakeEngine) -> None:
        engine.emit("BLOCK_WRITE_THRESHOLD", node_name="n0", amount_exceeded=MIB)

    assert heard(play) == ["event BLOCK_WRITE_THRESHOLD node-name=n0 amount-exceeded=1048576"]


def test_what_was_heard_of_a_job_is_forgotten_with_it() -> None:
    def play(engine: FakeEngine) -> None:
        stream(engine)
        engine.end("s0", error="No space left on device")
        stream(engine)
        engine.end("s0")

    assert heard(play)[-1] == "Job 's0' (stream) completed"


@pytest.mark.parametrize(
    ("columns", "lines"),
    [
        (80, ["Job 'a  b' completed"]),
        (12, ["Job 'a  b'", "  completed"]),
        (0, ["Job 'a  b'", "  completed"]),
    ],
)
def test_a_line_is_broken_between_words(columns: int, lines: list[str]) -> None:
    assert folded("Job 'a  b' completed", columns).split("\n") == lines
