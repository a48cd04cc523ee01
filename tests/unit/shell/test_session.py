"""What all sessions share: marks, sourced files, errors as text, our own mistakes."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.engine.errors import MonitorError
from monitor.shell import log
from monitor.shell.human import HumanLines
from monitor.shell.texts import printable
from tests.support.fake_engine import FakeEngine
from tests.support.typist import Typist, typed


@given(st.text())
def test_what_is_shown_cannot_drive_a_terminal(text: str) -> None:
    shown = printable(text)
    assert not any((ord(c) < 32 and c not in "\n\t") or 0x7F <= ord(c) < 0xA0 for c in shown)
    assert printable(shown) == shown


def test_several_commands_of_a_line_end_at_the_first_that_fails() -> None:
    async def work(session: Typist) -> None:
        assert not await session.enter("echo 1 ; block_job_cancel s9 ; echo 2")
        assert await session.enter("echo 3 ; -block_job_cancel s9 ; echo 4")

    failure = "Error: Block job 's9' not found"
    assert [text.split("\n")[0] for text in typed(work)] == ["1", failure, "3", failure, "4"]


def test_a_line_that_must_fail_and_does_not() -> None:
    async def work(session: Typist) -> None:
        assert not await session.enter("!echo fine")

    assert typed(work) == ["fine", "Error: The command was to fail and did not"]


def test_quit_is_the_last_command_of_a_line() -> None:
    async def work(session: Typist) -> None:
        assert await session.enter("echo 1 ; quit ; echo 2")
        assert session.quitting

    assert typed(work) == ["1"]


def test_mistakes_of_a_sourced_file_name_their_places(tmp_path: Path) -> None:
    script = tmp_path / "s"
    script.write_text("echo no\nbogus\ninfo nothing\n")

    async def work(session: Typist) -> None:
        assert not await session.enter(f"source {script}")

    (shown,) = typed(work)
    lines = shown.split("\n")
    assert lines[0] == f"Error: {script}:2:1: unknown command: 'bogus'"
    assert lines[1:3] == ["bogus", "^^^^^"]
    assert lines[3].startswith(f"{script}:3:6: unknown command: 'info nothing'")


def test_a_command_of_a_sourced_file_is_shown_with_its_caret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("inner").write_text("echo in\nblock_job_cancel s9\necho not reached\n")
    Path("outer").write_text("source inner\n")

    async def work(session: Typist) -> None:
        await session.enter("source outer")

    said = [
        "Error: inner:2: Block job 's9' not found",
        "block_job_cancel s9",
        "                 ^^",
        "there are no jobs now",
        "sourced at outer:1",
    ]
    assert typed(work) == ["in", "\n".join(said)]


def test_files_that_source_each_other_say_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a").write_text("echo in a\nsource b\n")
    Path("b").write_text("source a\n")

    async def work(session: Typist) -> None:
        await session.enter("source a")
        await session.enter("source missing")

    assert typed(work) == [
        "in a",
        "Error: b:1: 'a' is being run already\nsourced at a:2",
        "Error: Could not open 'missing': No such file or directory",
    ]


def test_a_mistake_of_ours_goes_to_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    async def work(session: Typist) -> None:
        async def execute(request: object) -> None:
            raise ZeroDivisionError("a bug")

        session.engine.execute = execute  # type: ignore[assignment, method-assign]
        assert not await session.enter("query-version")
        assert await session.enter("echo on")

    written = tmp_path / "blkmon" / "log"
    line = f"Error: internal error: ZeroDivisionError: a bug (details are in {written})"
    assert typed(work) == [line, "on"]
    assert "ZeroDivisionError: a bug" in written.read_text()
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    assert stat.S_IMODE(written.parent.stat().st_mode) == 0o700


def test_the_log_is_begun_anew_when_it_is_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(log, "LIMIT", 10)
    log.log_failure(ValueError("first"))
    log.log_failure(ValueError("second"))
    assert "first" in (tmp_path / "blkmon" / "log.old").read_text()
    assert "first" not in (tmp_path / "blkmon" / "log").read_text()


def test_a_log_that_cannot_be_written_is_not_pointed_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "blkmon").write_text("a file where the folder should be")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    error: MonitorError = log.log_failure(ValueError("lost"))
    assert str(error) == "internal error: ValueError: lost"


def test_lines_of_the_human_monitor_end_as_qemus_do() -> None:
    async def main() -> list[str]:
        asked: list[str] = []
        human = HumanLines(FakeEngine(), lambda: asked.append("quit"))
        answers = [await human(line) for line in ("echo a", "bogus", "", "quit")]
        return answers + asked

    assert asyncio.run(main()) == ["a\r\n", "unknown command: 'bogus'\r\n", "", "", "quit"]
