"""Scripts on an engine without disks: order, failures, and jobs at the end."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable

from monitor.language.variables import Scope
from monitor.shell.script import ScriptOptions, ScriptSession, Source, parse_sources
from monitor.shell.status import Status
from tests.support.effort import lines_of
from tests.support.fake_engine import FakeEngine, job

Work = Callable[[ScriptSession, FakeEngine], Awaitable[None]]


def run(work: Work, **options: bool) -> tuple[Status, str, str]:
    """Status, stdout and stderr of a session on a fake engine."""

    async def main() -> tuple[Status, str, str]:
        engine = FakeEngine()
        out, err = io.StringIO(), io.StringIO()
        session = ScriptSession(engine, ScriptOptions(**options), out, err)
        await work(session, engine)
        session.close()
        return session.status, out.getvalue(), err.getvalue()

    return asyncio.run(main())


async def lines(text: str) -> AsyncIterator[str]:
    for line in text.splitlines(keepends=True):
        yield line


def test_a_line_is_not_read_before_the_one_before_it_has_been_answered() -> None:
    log: list[str] = []

    async def work(session: ScriptSession, engine: FakeEngine) -> None:
        async def watched() -> AsyncIterator[str]:
            for line in ("echo 1\n", "echo 2\n"):
                log.append(session._out.getvalue())  # type: ignore[attr-defined]
                yield line

        await session.run_pipe(watched())

    run(work)
    assert log == ["", "1\n"]


def test_bytes_that_are_no_text_are_spelled_out() -> None:
    async def work(session: ScriptSession, engine: FakeEngine) -> None:
        await session.run_pipe(lines("b\udcff\n"))

    assert run(work)[2].startswith("<stdin>:1: Error: unknown command: 'b\\xff'\n")


def test_a_dropped_node_is_a_note_with_the_place() -> None:
    async def work(session: ScriptSession, engine: FakeEngine) -> None:
        engine.emit("X_BLKMON_NODE_DROPPED", node_name="n0")
        engine.emit("JOB_STATUS_CHANGE", id="s0", status="running")

    assert run(work) == (0, "", "blkmon: Node 'n0' was dropped: nothing uses it\n")


def test_at_the_end_a_job_that_runs_is_waited_for() -> None:
    async def work(session: ScriptSession, engine: FakeEngine) -> None:
        engine.start(job("s0"))
        finishing = asyncio.create_task(session.finish())
        await asyncio.sleep(0)
        assert not finishing.done()
        engine.end("s0")
        await finishing

    assert run(work) == (Status.OK, "", "")


def test_at_the_end_a_job_that_fails_gives_4() -> None:
    async def work(session: ScriptSession, engine: FakeEngine) -> None:
        engine.start(job("s0"))
        engine.start(job("s1"))
        finishing = asyncio.create_task(session.finish())
        await asyncio.sleep(0)
        engine.end("s1", error="No space left on device")
        engine.end("s0")
        await finishing

    status, _, err = run(work)
    assert status == Status.JOB_FAILED
    assert err == "blkmon: Error: Job 's1' failed: No space left on device\n"


def test_a_job_that_failed_unseen_gives_4_too() -> None:
    async def work(session: ScriptSession, engine: FakeEngine) -> None:
        engine.start(job("s0"))
        engine.end("s0", error="Input/output error")
        await session.run_pipe(lines("echo meanwhile\n"))
        await session.finish()

    assert run(work)[0] == Status.JOB_FAILED


def test_at_the_end_a_job_that_needs_a_command_is_cancelled_and_said_so() -> None:
    async def work(session: ScriptSession, engine: FakeEngine) -> None:
        engine.start(job("m0", type="mirror"))
        engine.move("m0", "ready", verbs=frozenset({"cancel", "complete"}))
        await session.finish()
        assert engine.jobs() == []

    status, _, err = run(work)
    assert status == Status.OK
    verbs = "block_job_complete or block_job_cancel"
    assert err == f"blkmon: Job 'm0' is ready, only {verbs} ends it: cancelled\n"


def test_at_the_end_a_job_that_stands_still_has_failed() -> None:
    """A full disk stopped it, say, and nobody is left who could resume it."""

    async def work(session: ScriptSession, engine: FakeEngine) -> None:
        engine.start(job("b0", type="backup"))
        engine.move("b0", "paused", verbs=frozenset({"cancel", "resume"}))
        await session.finish()
        assert engine.jobs() == []

    status, _, err = run(work)
    assert status == Status.JOB_FAILED
    assert err == ("blkmon: Error: Job 'b0' failed: it stood still, and no command resumed it\n")


def test_a_job_that_was_cancelled_is_no_failure() -> None:
    async def work(session: ScriptSession, engine: FakeEngine) -> None:
        engine.start(job("s0"))
        await session.run_pipe(lines("block_job_cancel s0\n"))
        await session.finish()

    assert run(work) == (Status.OK, "", "")


def test_quit_waits_for_no_job() -> None:
    async def work(session: ScriptSession, engine: FakeEngine) -> None:
        engine.start(job("s0"))
        await session.run_pipe(lines("quit\necho no\n"))
        await session.finish()
        assert len(engine.jobs()) == 1

    assert run(work) == (Status.OK, "", "")


def test_the_first_failure_decides() -> None:
    async def work(session: ScriptSession, engine: FakeEngine) -> None:
        await session.run_pipe(lines("bogus\nblock_job_cancel s9\necho on\n"))

    status, out, err = run(work, keep_going=True)
    assert (status, out) == (Status.SYNTAX, "on\n")
    assert "<stdin>:2: Error: Block job 's9' not found" in err


def test_lines_are_counted_over_continued_commands() -> None:
    async def work(session: ScriptSession, engine: FakeEngine) -> None:
        text = 'blockdev-add {\n "driver": "null-co",\n "node-name": "n0"\n}\n\n# x\nbogus\n'
        await session.run_pipe(lines(text))
        assert list(engine.nodes) == ["n0"]

    status, _, err = run(work)
    assert status == Status.SYNTAX
    assert err.startswith("<stdin>:7: Error: unknown command: 'bogus'\n")


def test_a_string_that_is_never_closed_waits_for_nothing() -> None:
    async def work(session: ScriptSession, engine: FakeEngine) -> None:
        await session.run_pipe(lines('echo "a\necho on\n'))

    status, out, err = run(work, keep_going=True)
    assert (status, out) == (Status.SYNTAX, "on\n")
    assert err == (
        '<stdin>:1: Error: this string is never closed: expected a closing quote\necho "a\n     ^\n'
    )


def test_what_is_inside_a_group_whose_head_is_wrong_is_not_run() -> None:
    async def work(session: ScriptSession, engine: FakeEngine) -> None:
        text = "transaction completion-mode=grouped (\necho in\n# {\n)\necho on\n"
        await session.run_pipe(lines(text))

    status, out, err = run(work, keep_going=True)
    assert (status, out) == (Status.SYNTAX, "on\n")
    assert err == (
        "<stdin>:1: Error: no such flag: completion-mode=grouped: "
        "expected one of: --dry-run, --grouped\n"
        "transaction completion-mode=grouped (\n            ^^^^^^^^^^^^^^^^^^^^^^^\n"
        "nothing up to its ')' is run\n"
    )


def test_a_group_that_is_never_closed_is_a_mistake_at_the_end() -> None:
    async def work(session: ScriptSession, engine: FakeEngine) -> None:
        await session.run_pipe(lines("echo 1\n\ntransaction(\nquit\n"))

    status, out, err = run(work)
    assert (status, out) == (Status.SYNTAX, "1\n")
    assert err.startswith("<stdin>:3: Error: this group is never closed: expected ')'\n")


def test_a_command_of_many_lines_from_a_pipe_costs_its_length() -> None:
    def effort(count: int) -> int:
        async def work(session: ScriptSession, engine: FakeEngine) -> None:
            listed = ",\n".join(["1"] * count)
            await session.run_pipe(lines(f"blockdev-add x=[\n{listed}\n]\n"))

        def play() -> None:
            status, _, err = run(work)
            assert status == Status.SYNTAX
            assert err.startswith("<stdin>:")

        return lines_of(play)

    effort(1)  # what is declared is found out once
    assert effort(4_000) <= 4.1 * effort(1_000)


def test_mistakes_of_all_sources_are_told_together() -> None:
    err = io.StringIO()
    sources = [Source("a", "echo fine\nbogus"), Source.command("", 1), Source("b", "info nothing")]
    assert parse_sources(sources, Scope(), err) is None
    told = [line for line in err.getvalue().splitlines() if " Error: " in line]
    assert [line.split(" ")[0] for line in told] == ["a:2:", "b:1:"]
