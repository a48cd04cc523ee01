"""What a transcript's line stands for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.shell.masks import escape, filled_in, match_line, match_lines

LINE = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=30)


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        ("wrote 65536 bytes", "wrote 65536 bytes"),
        ("id [..] end", "id anything at all end"),
        ("[..]", ""),
        ("64 KiB, 1 ops; [TIME] ([RATE] and [RATE])",
         "64 KiB, 1 ops; 00.00 sec (1.203 GiB/sec and 19709.4210 ops/sec)"),
        ("64 KiB, 1 ops; [TIME] ([RATE] and [RATE])",
         "64 KiB, 1 ops; 0:00:00.13 (512 bytes/sec and inf ops/sec)"),
        ("size [SIZE]", "size 1.5 GiB"),
        ("size [SIZE]", "size 65536 bytes"),
        ("size [SIZE]", "size 64k"),
        ("node [NODE] and [NODE]", "node #block001 and n0"),
        ("[NODE:a] above [NODE:a]", "n0 above n0"),
        ("\\[..] as it stands", "[..] as it stands"),
        ("\\\\", "\\"),
        ("a.c (x)*", "a.c (x)*"),
    ],
)  # fmt: skip
def test_a_line_stands_for(expected: str, actual: str) -> None:
    assert match_line(expected, actual, {}) is not None


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        ("wrote 65536 bytes", "wrote 65537 bytes"),
        ("[TIME]", "soon"),
        ("[RATE]", "64 KiB"),
        ("[SIZE]", "large"),
        ("[NODE] and x", "two words and x"),
        ("[NODE:a] above [NODE:a]", "n0 above n1"),
        ("\\[..]", "anything"),
        ("a.c", "abc"),
        ("[WHAT]", "anything"),
    ],
)
def test_a_line_does_not_stand_for(expected: str, actual: str) -> None:
    assert match_line(expected, actual, {}) is None


def test_a_name_binds_at_its_first_use() -> None:
    bound = match_line("d0 ([NODE:top]): a", "d0 (#block004): a", {})
    assert bound == {"NODE:top": "#block004"}
    assert match_line("[NODE:top] is open", "#block004 is open", bound) == bound
    assert match_line("[NODE:top] is open", "#block005 is open", bound) is None
    assert filled_in("blockdev-del node-name=[NODE:top]", bound) == (
        "blockdev-del node-name=#block004"
    )


def test_an_unbound_name_in_a_command_stays_to_be_seen() -> None:
    assert filled_in("x [NODE:a] [TIME] [..]", {}) == "x [NODE:a] [TIME] [..]"


def test_a_bound_name_decides_where_a_wider_mask_ends() -> None:
    bound = {"PATH:a": "x y"}
    assert match_line("[PATH:a] y [PATH:b]", "x y y z", bound) == {**bound, "PATH:b": "z"}
    assert match_line("[PATH:b] [PATH:a]", "x y x y", bound) == {**bound, "PATH:b": "x y"}


@pytest.mark.parametrize(
    ("expected", "actual", "matches"),
    [
        (["a", "...", "c"], ["a", "c"], True),
        (["a", "...", "c"], ["a", "b", "b", "c"], True),
        (["...", "c", "..."], ["b", "c"], True),
        (["a", "...", "c"], ["a", "b"], False),
        (["..."], [], True),
        ([], ["a"], False),
        (["a"], [], False),
        (["...", "[NODE:x]", "again [NODE:x]"], ["p", "n1", "n2", "again n2"], True),
        (["...", "[NODE:x]", "...", "again [NODE:x]"], ["n1", "n2", "n3", "again n4"], False),
        (["\\..."], ["a", "b"], False),
        (["\\..."], ["..."], True),
    ],
)
def test_any_lines(expected: list[str], actual: list[str], matches: bool) -> None:
    assert (match_lines(expected, actual, {}) is not None) == matches


def test_many_open_ends_are_looked_at_once() -> None:
    lines = ["x"] * 60
    assert match_lines([*["...", "x"] * 20, "y"], lines, {}) is None


@given(LINE)
def test_an_escaped_line_matches_itself(line: str) -> None:
    assert match_line(escape(line), line, {}) == {}


@given(st.sampled_from(["# x", "#", "...", "[failed]", "blkmon> x", "......> ", "\\", "[..]"]))
def test_what_would_be_read_as_something_else_is_escaped(line: str) -> None:
    assert escape(line) == "\\" + line


@given(LINE, LINE)
def test_an_escaped_line_matches_nothing_else(line: str, other: str) -> None:
    assert (match_line(escape(line), other, {}) is not None) == (line == other)
