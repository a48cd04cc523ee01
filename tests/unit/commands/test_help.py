"""``help`` in HMP's lines, and at length."""

from __future__ import annotations

import re

import pytest

from monitor.commands.errors import UnknownHumanCommand
from monitor.commands.help import NothingFound, manual
from monitor.commands.registry import commands
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


def test_commands_of_two_words_are_listed_and_found() -> None:
    assert "bitmap doctor device -- " in typed("help")[0]
    assert typed("help bitmap")[0].startswith("bitmap doctor device -- ")
    assert typed("help bitmap doctor")[0].startswith("NAME\n    bitmap doctor - ")


def test_apropos_keeps_its_columns_and_says_what_a_command_does() -> None:
    lines = typed("apropos snapshot")[0].splitlines()
    kinds = {re.search(r"  +(command|request) ", line).start(1) for line in lines}  # type: ignore[union-attr]
    assert len(kinds) == 1
    (found,) = (line for line in lines if line.startswith("snapshot_blkdev "))
    assert found.endswith("  initiates a live snapshot of device")


@pytest.mark.parametrize("line", ["info", "help info"])
def test_info_alone_lists_its_topics(line: str) -> None:
    lines = typed(line)[0].splitlines()
    assert (
        "info block [-n] [-v] [device] -- show info of one block device or all block devices "
        "(-n: show named nodes; -v: show details)"
    ) in lines
    assert "info version  -- show the version of QEMU" in lines
    assert all(line.startswith("info ") for line in lines)


SECTIONS = ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES", "EXIT STATUS"]


@pytest.mark.parametrize("line", ["help block_stream", "? block_stream", 'help "block_stream" x'])
def test_one_command_in_sections(line: str) -> None:
    text, _ = typed(line)
    assert [title for title in text.split("\n") if title.isupper()] == SECTIONS
    assert text.startswith(
        "NAME\n    block_stream - copy data from a backing file into a block device\n\n"
        "SYNOPSIS\n    block_stream device [speed [base]]\n\n"
    )
    assert "\nEXAMPLES\n    block_stream d0 10M\n" in text
    assert "\n    speed          at most so many bytes a second; 0 for no limit" in text


@pytest.mark.parametrize("name", sorted({c.name for c in commands().values()}))
def test_every_command_has_every_section_that_a_person_looks_for(name: str) -> None:
    titles = [title for title in manual(commands()[name]).split("\n") if title.isupper()]
    assert set(titles) >= {"NAME", "SYNOPSIS", "OPTIONS", "EXAMPLES", "EXIT STATUS"}


def test_an_alias_shows_the_command() -> None:
    assert typed("help q")[0].startswith("NAME\n    quit, q - quit the emulator")


def test_a_topic_of_info() -> None:
    assert typed("help info version")[0].startswith("NAME\n    info version - show the version")


def test_other_topics() -> None:
    assert typed("help variables")[0].startswith("variables: set, $NAME")


def test_apropos_looks_through_names_options_and_texts() -> None:
    names = [line.split("  ")[0] for line in typed("apropos SNAPSHOT overlay")[0].splitlines()]
    assert "snapshot_blkdev" in names
    assert "blockdev-snapshot-sync" in names


def test_apropos_of_nothing_suggests() -> None:
    with pytest.raises(NothingFound) as caught:
        typed("apropos snapshto")
    assert caught.value.hint == "did you mean 'snapshot'?"


def test_a_request_shows_its_members() -> None:
    text, _ = typed("help blockdev-snapshot-sync")
    assert "\nSYNOPSIS\n    blockdev-snapshot-sync [device=…]" in text
    assert "\n    transaction [--dry-run] [--grouped] ( … )\n" in typed("help transaction")[0]
    assert "  snapshot-file       the overlay's file" in text
    assert "[mode=existing|absolute-paths]" in text


def test_a_request_that_is_options_of_a_driver_shows_each_drivers() -> None:
    text, _ = typed("help blockdev-add")
    assert "\n    blockdev-add driver=… [key=value…]\n\n" in text
    shared, raw = text.index("  node-name  "), text.index("\n\n    driver=raw\n")
    assert shared < text.index("\n\n    driver=file\n") < raw
    assert text.count("  detect-zeroes") == 1
    assert "  cache.direct    optional; bypass the host's page cache (O_DIRECT); on|off" in text
    assert "  offset  optional; where the disk begins in the file, bytes" in text[raw:]


def test_every_request_has_a_manual() -> None:
    for name, request in request_types().items():
        assert request_manual(request).startswith(f"NAME\n    {name} - ")
        assert request.__doc__


@pytest.mark.parametrize(
    ("line", "unknown"),
    [("help nope", "nope"), ("help info nope", "info nope"), ("help bitmap nope", "bitmap nope")],
)
def test_what_is_unknown_is_said_as_hmp_says_it(line: str, unknown: str) -> None:
    with pytest.raises(UnknownHumanCommand) as caught:
        typed(line)
    assert caught.value.text == f"unknown command: '{unknown}'"
    assert caught.value.hint is None


def test_what_info_knows_is_told_when_it_is_asked_for_by_itself() -> None:
    with pytest.raises(UnknownHumanCommand) as caught:
        typed("help jobs")
    assert caught.value.hint == "did you mean 'info jobs'?"
