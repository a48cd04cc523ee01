"""Every file of transcripts/ is a test, and each of them can fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.shell.masks import ANY_LINES
from monitor.shell.replay import replay_file
from monitor.shell.transcript import is_free, parse_transcript

STORIES = sorted((Path(__file__).parent.parent / "transcripts").glob("*.blkmon"))


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_transcript(path: Path) -> None:
    replayed = replay_file(str(path))
    if replayed.differs:
        pytest.fail(replayed.diff(), pytrace=False)


def test_there_are_stories_enough() -> None:
    assert len(STORIES) >= 8


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_a_story_changes_bytes_and_checks_them(path: Path) -> None:
    text = path.read_text()
    assert "write -" in text
    last = parse_transcript(text, str(path)).blocks[-4:]
    assert any("read -P" in block.text for block in last), "a story ends in a check"


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_every_line_of_expected_text_counts(path: Path) -> None:
    """One changed character anywhere in what is expected no longer matches what was printed.

    The replay above shows that the expectation holds; here its own text, masks filled in, stands
    for the output.
    """
    for block in parse_transcript(path.read_text(), str(path)).blocks:
        lines = [line for line in block.expected if not is_free(line)]
        if not lines or any("[" in line or line == ANY_LINES for line in lines):
            continue
        assert block.match(lines, {}) is not None
        for number, line in enumerate(lines):
            for at in range(len(line)):
                other = "x" if line[at] != "x" else "y"
                changed = [*lines]
                changed[number] = line[:at] + other + line[at + 1 :]
                assert block.match(changed, {}) is None, changed[number]
