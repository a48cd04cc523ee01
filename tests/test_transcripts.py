"""Every file of transcripts/ is a test by itself (``monitor.pytest_plugin``).

Here: each can fail, each changes something and looks at it, and each is the same each time.
"""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.shell.masks import ANY_LINES
from monitor.shell.replay import Played, replay_file
from monitor.shell.transcript import Block, is_free, parse_transcript

STORIES = sorted((Path(__file__).parent.parent / "transcripts").glob("*.blkmon"))
CONCURRENT = [path for path in STORIES if path.stem in ("jobs-in-steps", "parallel-jobs")]
MASK = re.compile(r"\[\w[\w.]*(?::\w+)?\]|\[\.\.\]")


def test_there_are_stories_enough() -> None:
    assert len(STORIES) >= 20


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_a_story_changes_bytes_and_checks_them(path: Path) -> None:
    text = path.read_text()
    assert re.search(r"\b(write|discard|create|zero) ", text), "a story changes bytes"
    last = parse_transcript(text, str(path)).blocks[-4:]
    looks = ("read -P", "read -q -P", "check ", "compare ")
    assert any(look in block.text for block in last for look in looks), "it ends in a check"


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_every_line_of_expected_text_counts(path: Path) -> None:
    """It replays; and what it printed then does not match any expectation with one other character
    (three in each line, others in each: all of them would take minutes)."""
    replayed = replay_file(str(path))
    if replayed.differs:
        pytest.fail(replayed.diff(), pytrace=False)
    assert len(replayed.played) == len(replayed.transcript.blocks)
    for played in replayed.played:
        for changed in _mutants(played.block):
            assert not _matches(played, changed), "\n".join(changed)


def _matches(played: Played, expected: list[str]) -> bool:
    return Block(0, [], expected).match(played.actual, played.bindings) is not None


def _mutants(block: Block) -> Iterator[list[str]]:
    """The expected lines, each time with one other character of what they say."""
    for number, line in enumerate(block.expected):
        if is_free(line) or line == ANY_LINES:
            continue
        masked = {at for mask in MASK.finditer(line) for at in range(*mask.span())}
        plain = [at for at in range(len(line)) if at not in masked]
        first = (block.line + number) % max(1, len(plain) // 3)
        for at in itertools.islice(plain, first, None, max(1, len(plain) // 3)):
            other = "x" if line[at] != "x" else "y"
            changed = line[:at] + other + line[at + 1 :]
            yield [*block.expected[:number], changed, *block.expected[number + 1 :]]


@pytest.fixture
def load() -> Iterator[None]:
    """A process for each processor, and threads that take turns ten times as often."""
    interval = sys.getswitchinterval()
    hog = [sys.executable, "-I", "-c", "while True: pass"]
    hogs = [subprocess.Popen(hog) for _ in range(os.cpu_count() or 1)]
    sys.setswitchinterval(interval / 10)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        for process in hogs:
            process.kill()
            process.wait()


@pytest.mark.usefixtures("load")
@pytest.mark.parametrize("path", CONCURRENT, ids=lambda path: path.stem)
def test_concurrent_jobs_replay_alike_under_load(path: Path) -> None:
    for _ in range(3):
        replayed = replay_file(str(path))
        assert not replayed.differs, replayed.diff()
