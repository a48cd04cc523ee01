"""Transcripts as text: what is cut where, and what an update may touch."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.shell.fixtures import parse_fixtures
from monitor.shell.transcript import Block, TranscriptError, parse_transcript, updated

STORY = """\
# A story.
image a.qcow2 qcow2 1M cluster_size=64k
    write -P 1 0 64k

blkmon> drive_add 0 if=none,id=d0,file=a.qcow2
OK
# What a comment says is free.
blkmon> blockdev-add {
......>   "driver": "null-co"
......> }
Error: wrong
[failed]

blkmon>
"""


def test_a_transcript_is_cut_at_its_prompts() -> None:
    transcript = parse_transcript(STORY, "s")
    assert transcript.lines == STORY.splitlines()
    assert [block.line for block in transcript.blocks] == [5, 8, 14]
    assert transcript.blocks[1].text == 'blockdev-add {\n  "driver": "null-co"\n}'
    assert transcript.blocks[2].text == ""
    assert transcript.blocks[0].match(["OK"], {}) is not None
    assert transcript.blocks[0].match(["OK "], {}) is None
    assert transcript.blocks[1].match(["Error: wrong", "", "[failed]"], {}) is not None


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("# nothing\n", 1, "no command"),
        ("blkmon> a\nout\n......> b\n", 3, "a continued line without its command"),
        ("......> b\n", 1, "a continued line without its command"),
    ],
)
def test_what_is_no_transcript(text: str, line: int, reason: str) -> None:
    with pytest.raises(TranscriptError) as caught:
        parse_transcript(text, "s")
    assert (caught.value.line, caught.value.reason[: len(reason)]) == (line, reason)


def test_fixtures() -> None:
    head = (
        "image a.qcow2 qcow2 1M cluster_size=4k,compat=0.10\n"
        "    write -P 1 0 64k\n\twrite 64k 64k\n"
        "image b.qcow2 qcow2 backing=a.qcow2 backing-format=qcow2\n"
        "drive if=none,id=d0,file=b.qcow2\nblockdev {}\n"
        "file setup.blkmon\n    # a comment\n\n    echo 'x'\n      y\n\n"
    )
    fixtures = parse_fixtures(parse_transcript(head + "blkmon> quit\n", "s"))
    first, second = (image.request() for image in fixtures.images)
    assert (first.filename, first.size) == ("a.qcow2", 1 << 20)
    assert first.options == "cluster_size=4k,compat=0.10"
    assert [c for _, c in fixtures.images[0].contents] == ["write -P 1 0 64k", "write 64k 64k"]
    assert (second.backing_file, second.backing_format) == ("a.qcow2", "qcow2")
    assert fixtures.disks == [(5, "drive", "if=none,id=d0,file=b.qcow2"), (6, "blockdev", "{}")]
    (file,) = fixtures.files
    assert (file.line, file.name) == (7, "setup.blkmon")
    assert file.lines == ["# a comment", "echo 'x'", "  y"]


@pytest.mark.parametrize(
    "line",
    ["imag a raw 1M", "    write 0 1k", "Something", "image /tmp/a raw 1M", "file ../a",
     "image b/../../a raw 1M"],
)  # fmt: skip
def test_what_is_no_fixture(line: str) -> None:
    with pytest.raises(TranscriptError, match="s:1: Error: "):
        parse_fixtures(parse_transcript(f"{line}\nblkmon> quit\n", "s"))


def _updated(expected: Sequence[str], actual: Sequence[str]) -> list[str]:
    return updated(expected, actual, actual, {})


@pytest.mark.parametrize(
    ("expected", "actual", "new"),
    [
        (["a"], ["b"], ["b"]),
        (["a", "x [..]", "c"], ["a", "x 1", "d"], ["a", "x [..]", "d"]),
        (["x [..]"], ["new", "x 1"], ["new", "x [..]"]),
        (["# why", "a", "", "# end", ""], ["b"], ["# why", "b", "", "# end", ""]),
        (["a", "...", "z"], ["a", "b", "c", "y"], ["a", "..."]),
        (["a", "gone"], ["a"], ["a"]),
        ([], ["a"], ["a"]),
        (["a", ""], [], [""]),
        (["[NODE:a]", "[NODE:a]"], ["n1", "n2"], ["[NODE:a]", "n2"]),
        (
            ["[NODE:a]", "# b", "[NODE:a]", "[..]"],
            ["n1", "n2", "x"],
            ["[NODE:a]", "# b", "n2", "[..]"],
        ),
    ],
)
def test_an_update_keeps_what_still_matches(
    expected: list[str], actual: list[str], new: list[str]
) -> None:
    assert _updated(expected, actual) == new


LINES = st.lists(st.sampled_from(["a", "b", "c", "x 1", "x 2"]), max_size=6)
PATTERNS = st.lists(
    st.sampled_from(["a", "b", "c", "x [..]", "...", "# note", "", "[NODE:m]"]), max_size=6
)


@given(PATTERNS, LINES)
def test_an_update_matches_and_a_second_changes_nothing(
    expected: list[str], actual: list[str]
) -> None:
    new = _updated(expected, actual)
    assert Block(1, [], new).match(actual, {}) is not None
    assert _updated(new, actual) == new
    assert [line for line in new if line == "# note"] == [e for e in expected if e == "# note"]


@given(PATTERNS, LINES)
def test_what_matches_is_not_touched(expected: list[str], actual: list[str]) -> None:
    if Block(1, [], expected).match(actual, {}) is not None:
        assert _updated(expected, actual) == expected
