"""``help`` in HMP's lines, and at length."""

from __future__ import annotations

import pytest

from monitor.commands.errors import UnknownHumanCommand
from monitor.commands.requesthelp import request_manual
from monitor.engine.schema.base import request_types
from tests.support.commands import typed

BLOCK_STREAM = (
    "block_stream device [speed [base]] -- copy data from a backing file into a block device"
)


def test_the_list_is_sorted_and_has_hmps_lines() -> None:
    text, _ = typed("help")
    lines = text.splitlines()
    assert BLOCK_STREAM in lines
    assert "help|? [cmd] -- show the help" in lines
    assert "quit|q  -- quit the emulator" in lines
    assert "info [subcommand] -- show various information about the system state" in lines
    names = [line.split("|")[0].split(" ")[0] for line in lines if " -- " in line]
    firsts = [name for name in names if name[:1].islower()]
    assert firsts == sorted(firsts)


def test_the_list_leaves_out_what_info_shows() -> None:
    assert "info block" not in typed("help")[0]


@pytest.mark.parametrize("line", ["info", "help info"])
def test_info_alone_lists_its_topics(line: str) -> None:
    lines = typed(line)[0].splitlines()
    assert lines[0] == (
        "info block [-n] [-v] [device] -- show info of one block device or all block devices "
        "(-n: show named nodes; -v: show details)"
    )
    assert "info version  -- show the version of QEMU" in lines
    assert all(line.startswith("info ") for line in lines)


@pytest.mark.parametrize("line", ["help block_stream", "? block_stream", 'help "block_stream" x'])
def test_one_command_begins_with_hmps_line(line: str) -> None:
    text, _ = typed(line)
    assert text.startswith(f"{BLOCK_STREAM}\n\n")
    assert "\nExample: block_stream d0 10M" in text


def test_an_alias_shows_the_command() -> None:
    assert typed("help q")[0].startswith("quit|q  -- quit the emulator")


def test_a_topic_of_info() -> None:
    assert typed("help info version")[0].startswith("info version  -- show the version of QEMU")


def test_a_request_shows_its_members() -> None:
    text, _ = typed("help blockdev-snapshot-sync")
    assert text.startswith("blockdev-snapshot-sync [device=…]")
    assert "  snapshot-file       the overlay's file" in text
    assert "[mode=existing|absolute-paths]" in text


def test_a_request_that_is_options_of_a_driver_shows_each_drivers() -> None:
    text, _ = typed("help blockdev-add")
    assert text.startswith("blockdev-add driver=… [key=value…]\n\n")
    shared, raw = text.index("  node-name  "), text.index("\n\ndriver=raw\n")
    assert shared < text.index("\n\ndriver=file\n") < raw
    assert text.count("  detect-zeroes") == 1
    assert "  cache.direct    optional; bypass the host's page cache (O_DIRECT); on|off" in text
    assert "  offset  optional; where the disk begins in the file, bytes" in text[raw:]


def test_every_request_has_a_manual() -> None:
    for name, request in request_types().items():
        assert request_manual(request).startswith(name)
        assert request.__doc__


@pytest.mark.parametrize(
    ("line", "unknown"), [("help nope", "nope"), ("help info nope", "info nope")]
)
def test_what_is_unknown_is_said_as_hmp_says_it(line: str, unknown: str) -> None:
    with pytest.raises(UnknownHumanCommand) as caught:
        typed(line)
    assert caught.value.text == f"unknown command: '{unknown}'"
