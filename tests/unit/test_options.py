"""The command line: the short way of reading it, and argparse's, which says what it means."""

from __future__ import annotations

import contextlib
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.options import Options, parse_arguments, usual_options
from monitor.usage import parse_all

WORDS = [
    "-c", "--command", "--drive", "-drive", "--blockdev", "--qmp", "stdio", "unix:/a", "-y",
    "--yes", "--json", "--keep-going", "--check", "--record", "--", "-", "", "a.blkmon", "quit",
    "id=d0,if=none", "--set", "A=b", "-cquit", "--command=quit", "--nbd-server", "-1",
]  # fmt: skip


def by_argparse(words: list[str]) -> Options | None:
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return parse_all(words)
    except SystemExit:
        return None


@given(st.lists(st.sampled_from(WORDS), max_size=6))
def test_the_short_way_reads_as_argparse_does(words: list[str]) -> None:
    usual = usual_options(words)
    if usual is not None:
        assert usual == by_argparse(words)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--qmp", "stdio"],
        ["a", "-c", "info block", "b", "--keep-going"],
        ["--drive", "id=d0,if=none,file=a", "--blockdev", "driver=null-co,node-name=n", "--json"],
    ],
)
def test_most_starts_go_the_short_way(words: list[str]) -> None:
    assert usual_options(words) == by_argparse(words) is not None


def test_what_is_unusual_is_argparses() -> None:
    words = ["--set", "A=b", "-c", "echo $A", "--qmp=stdio"]
    assert usual_options(words) is None
    with pytest.raises(SystemExit):
        parse_arguments(words)
    assert parse_arguments(words[:-1]).variables == [("A", "b")]
