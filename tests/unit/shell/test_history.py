"""The history file: private, shared, bounded, and never in the way."""

from __future__ import annotations

import asyncio
import multiprocessing
from pathlib import Path

import pytest

from monitor.shell import history as module
from monitor.shell.history import StateHistory, history_path


def entries(path: Path) -> list[str]:
    """What a new shell finds, oldest first."""
    return list(StateHistory(path).load_history_strings())[::-1]


def write(path: Path, *lines: str) -> None:
    history = StateHistory(path)
    for line in lines:
        history.append_string(line)
    history.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "blkmon" / "history"


def test_kept_for_the_next_session_in_order(path: Path) -> None:
    write(path, "info block", 'x(\n  "a"\n)', "ünï ✓", "+plus", "")
    assert entries(path) == ["info block", 'x(\n  "a"\n)', "ünï ✓", "+plus", ""]


def test_only_the_user_may_read_it(path: Path) -> None:
    write(path, "quit")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_file_that_became_readable_is_closed_again(path: Path) -> None:
    write(path, "a")
    path.chmod(0o644)
    write(path, "b")
    assert path.stat().st_mode & 0o777 == 0o600


def test_line_with_a_blank_before_it_is_not_written(path: Path) -> None:
    write(path, " secret", "open")
    assert entries(path) == ["open"]


def _many(path: Path, name: str) -> None:
    write(path, *(f"{name} {number}" for number in range(200)))


def test_two_shells_lose_and_mix_nothing(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    shells = [context.Process(target=_many, args=(path, name)) for name in "ab"]
    for shell in shells:
        shell.start()
    for shell in shells:
        shell.join()
    found = entries(path)
    for name in "ab":
        assert [e for e in found if e.startswith(name)] == [f"{name} {n}" for n in range(200)]
    assert len(found) == 400


def test_file_stays_bounded_and_keeps_the_latest(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT", 1000)
    monkeypatch.setattr(module, "LIMIT", 2000)
    write(path, *(f"line {number}" for number in range(500)))
    assert path.stat().st_size < 2100
    found = entries(path)
    assert found[-1] == "line 499"
    numbers = [int(entry.split()[1]) for entry in found]
    assert numbers == list(range(numbers[0], 500))


def test_damaged_file_gives_what_can_be_read(path: Path) -> None:
    write(path, "before")
    with path.open("ab") as file:
        file.write(b"\xff\x00 rubbish\n+half\xff line")
    assert entries(path)[0] == "before"


def test_unusable_place_is_told_once_and_the_session_goes_on(tmp_path: Path) -> None:
    (tmp_path / "blkmon").write_text("a file where the folder should be")
    history = StateHistory(tmp_path / "blkmon" / "history")
    errors: list[OSError] = []
    history.failed = errors.append
    history.append_string("one")
    history.append_string("two")
    history.close()
    assert len(errors) == 1
    assert history.get_strings() == ["one", "two"]


def test_missing_file_is_an_empty_history(path: Path) -> None:
    async def load() -> list[str]:
        return [text async for text in StateHistory(path).load()]

    assert asyncio.run(load()) == []


def test_place_follows_the_desktop_specification(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/var/state")
    assert history_path() == Path("/var/state/blkmon/history")
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/u")
    assert history_path() == Path("/home/u/.local/state/blkmon/history")
