"""The plugin in a repository of somebody else's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

STORY = "# Fine.\nblkmon> echo {}\nhello\n"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "good.blkmon").write_text(STORY.format("hello"))
    (tmp_path / "script.blkmon").write_text("echo no transcript\n")
    return tmp_path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "pytest", *arguments]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=60)


def test_each_transcript_is_one_test(repository: Path) -> None:
    ended = run(repository, "-v", "-n", "2")
    assert ended.returncode == 0, ended.stdout
    assert "good.blkmon::replay" in ended.stdout
    assert "1 passed" in ended.stdout


def test_a_failure_is_a_diff(repository: Path) -> None:
    (repository / "bad.blkmon").write_text(STORY.format("goodbye"))
    ended = run(repository)
    assert ended.returncode == 1
    assert "bad.blkmon:3: the replay differs" in ended.stdout
    assert "\n-hello\n+goodbye\n" in ended.stdout
    assert "Traceback" not in ended.stdout
    assert "1 failed, 1 passed" in ended.stdout


def test_what_cannot_be_played_says_why(repository: Path) -> None:
    (repository / "bad.blkmon").write_text("imag a raw 1M\n" + STORY)
    ended = run(repository)
    assert "bad.blkmon:1: Error: 'imag' is no fixture" in ended.stdout
