"""Recordings: entries, and when the news of jobs is told."""

from __future__ import annotations

import asyncio
from pathlib import Path

from monitor.shell.record import Entry, FileRecorder, Masker, Recorder
from tests.support.fake_engine import FakeEngine, job
from tests.support.typist import Typist


def recorded(engine: FakeEngine) -> tuple[Typist, list[Entry]]:
    entries: list[Entry] = []
    session = Typist(engine)
    session.recorder = Recorder(engine, entries.append)
    return session, entries


def test_an_entry_holds_what_was_printed_and_whether_it_failed() -> None:
    async def main() -> None:
        session, entries = recorded(FakeEngine())
        assert await session.enter("echo one ")
        assert not await session.enter("bogus")
        assert await session.enter("!bogus") is False
        assert await session.enter("")
        assert [entry.failed for entry in entries] == [False, True, True, False]
        assert entries[0].all_lines() == ["one"]
        assert entries[1].all_lines() == [
            "Error: unknown command: 'bogus'", "bogus", "^^^^^", "[failed]"
        ]  # fmt: skip
        assert entries[3].all_lines() == []

    asyncio.run(main())


def test_what_happens_is_told_at_the_end_of_the_command() -> None:
    async def main() -> None:
        engine = FakeEngine()
        session, entries = recorded(engine)
        for name in ("s0", "s1", "s2"):
            engine.start(job(name, status="created"))
        engine.end("s1")
        engine.end("s0", error="Input/output error")
        await session.enter("echo two have ended")
        engine.end("s2")
        engine.emit("X_BLKMON_NODE_DROPPED", node_name="n0")
        await session.enter("wait s2")
        await session.enter("-wait s0")
        assert entries[0].lines == [
            "two have ended",
            "Job 's1' (stream) completed",
            "Job 's0' (stream) failed: Input/output error",
        ]
        assert entries[1].lines == [
            "Job 's2' completed",  # by wait itself, and by nobody else
            "Node 'n0' was dropped: nothing uses it",
        ]
        assert entries[2].lines == ["Error: Job 's0' failed: Input/output error"]

    asyncio.run(main())


def test_an_engine_that_is_recorded_goes_by_steps() -> None:
    async def main() -> None:
        engine = FakeEngine()
        session, _ = recorded(engine)
        assert engine.by_steps
        session.close()
        assert not engine.by_steps

    asyncio.run(main())


def test_a_dropped_node_is_told() -> None:
    async def main() -> None:
        engine = FakeEngine()
        session, entries = recorded(engine)
        engine.emit("X_BLKMON_NODE_DROPPED", node_name="n0")
        await session.enter("echo x")
        assert entries[0].lines == ["x", "Node 'n0' was dropped: nothing uses it"]

    asyncio.run(main())


def test_a_file_has_prompts_and_masks(tmp_path: Path) -> None:
    path = tmp_path / "r.blkmon"

    async def main() -> None:
        engine = FakeEngine()
        session = Typist(engine)
        session.record(str(path), ["drive id=d0"])
        await session.enter('echo {\n  "a": 1\n}')
        await session.enter("echo # no comment")
        await session.enter("echo #block007 and [..]")
        await session.enter("bogus")
        await session.enter("record stop")
        await session.enter("echo not recorded")

    asyncio.run(main())
    lines = path.read_text().splitlines()
    assert lines[0] == "drive id=d0"
    assert "blkmon> echo {" in lines
    assert '......>   "a": 1' in lines
    assert "blkmon> echo [NODE:n1] and [..]" in lines
    assert lines[-4:] == ["Error: unknown command: 'bogus'", "bogus", "^^^^^", "[failed]"]
    assert not any("record" in line for line in lines)


def test_masks_of_a_recording() -> None:
    masker = Masker("/home/me")
    assert masker.output("d0 (#block004): /home/me/a.img") == "d0 ([NODE:n1]): [PATH:here]/a.img"
    assert masker.output("#block005 on #block004") == "[NODE:n2] on [NODE:n1]"
    assert masker.output("# x") == "\\# x"
    masker.bound = {"NODE:top": "#block009", "NODE:n3": "else"}
    assert masker.output("#block009 #block010") == "[NODE:top] [NODE:n4]"


def test_a_recorder_replaces_no_file(tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_text("precious")

    async def main() -> None:
        session = Typist(FakeEngine())
        assert not await session.enter(f"record {path}")
        assert session.shown == [f"Error: Cannot record into '{path}': File exists"]
        assert not await session.enter("record stop")

    asyncio.run(main())
    assert path.read_text() == "precious"


def test_a_detached_command_keeps_its_own_entry() -> None:
    """At the prompt a second command may begin while a first one still runs."""

    async def main() -> None:
        engine = FakeEngine()
        session, entries = recorded(engine)
        engine.start(job("s0"))
        waiting = asyncio.create_task(session.enter("wait s0"))
        await asyncio.sleep(0)
        await session.enter("echo meanwhile")
        engine.end("s0")
        await waiting
        assert [entry.text for entry in entries] == ["echo meanwhile", "wait s0"]
        assert entries[0].lines == ["meanwhile"]

    asyncio.run(main())


def test_the_recorder_closes_its_file(tmp_path: Path) -> None:
    async def main() -> None:
        recorder = FileRecorder(str(tmp_path / "r"), FakeEngine())
        recorder.close()

    asyncio.run(main())
