"""What is offered at the cursor, in which order, and how fast."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.commands.io.usage import USAGES
from monitor.engine.api import Name, NameList, texts_of
from monitor.language.completion import MOST, Candidate, FileSlot, spell, suggest, whole_language
from monitor.language.parser import Language
from monitor.language.ranking import rank
from monitor.language.slots.places import commands_slot
from tests.support.commands import sample
from tests.support.effort import lines_of

NODES = [Name("n0", "qcow2 64M rw"), Name("#block1", "file 1M ro")]
DRIVES = [Name("d0", "qcow2")]
JOBS = {"s0": {"cancel", "pause"}, "m0": {"cancel", "complete"}}


class Catalogue:
    """Two nodes, a drive, a running job and one that is ready."""

    def names(self, kind: str, verb: str = "", of: str = "") -> Iterable[Name]:
        if kind == "job":
            return [Name(j, "40%") for j, verbs in JOBS.items() if not verb or verb in verbs]
        if kind == "bitmap":
            return [Name(f"{verb} of {of}", "")]
        return {"node": NODES, "drive": DRIVES, "device": DRIVES + NODES}[kind]


LANGUAGE = Language(
    sample(
        "block_resize device:D,size:o",
        "block_job_cancel force:-f,device:J/cancel",
        "block_job_complete device:J/complete",
        "info_block nodes:-n,verbose:-v,device:B?",
        "info_jobs",
        "quit",
        "wait jobs:J(all)*,timeout:--timeout=T,all:--all",
        "create format:-f=s/format,options:-o=O/create,file:F,size:z?",
        "help name:S/command?",
        "echo text:S?",
        "mode mode:e(full|top|none)",
        "link name:s,up:b",
        "drive_add slot:s,opts:O",
        "qemu-io device:B,command:s/qemu-io",
    )
)


def offered(text: str) -> list[str]:
    """The whole lines that the candidates make."""
    found = suggest(text, Catalogue(), LANGUAGE)
    lines = []
    for candidate in found:
        assert -len(text) <= candidate.start_position <= 0
        kept = text[: len(text) + candidate.start_position]
        lines.append(kept + ("FILE" if isinstance(candidate, FileSlot) else candidate.text))
    return lines


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("info ", ["info block", "info jobs"]),
        ("-info j", ["-info jobs"]),
        ("quit ; info j", ["quit ; info jobs"]),
        ("mode ", ["mode full", "mode top", "mode none"]),
        ("link a ", ["link a on", "link a off"]),
        ("block_job_cancel ", [f"block_job_cancel {w}" for w in ("s0", "m0", "-f")]),
        ("block_job_cancel -f ", ["block_job_cancel -f s0", "block_job_cancel -f m0"]),
        ("block_job_complete ", ["block_job_complete m0"]),
        ("job-complete id=", ["job-complete id=m0"]),
        ("info block -", ["info block -n", "info block -v"]),
        ("info block -n -", ["info block -n -v"]),
        ("info block -n ", [f"info block -n {n}" for n in ("d0", "n0", "#block1", "-v")]),
        ("info block d0 ", []),
        ("wait --", ["wait --timeout", "wait --all", "wait --output="]),
        ("wait s0 ", ["wait s0 m0", "wait s0 all", "wait s0 --timeout", "wait s0 --all"]),
        ("wait --timeout ", []),
        ("create -f q", ["create -f qcow2"]),
        ("create -f qcow2 -o compr", ["create -f qcow2 -o compression_type="]),
        ("create -o compression_type=z", ["create -o compression_type=zlib",
                                          "create -o compression_type=zstd"]),
        ("create ", ["create FILE", "create -f", "create -o"]),
        ("help block_resiz", ["help block_resize"]),
        ("help info j", ["help info jobs"]),
        ("echo ", []),
        ("block_resize device=", ["block_resize device=d0"]),
        ("block_resize node-name=#", ["block_resize node-name=#block1"]),
        ("blockdev-add driver=qc", ["blockdev-add driver=qcow2"]),
        ("blockdev-add driver=file fil", ["blockdev-add driver=file filename="]),
        ("blockdev-add driver=file filename=/tmp/a", ["blockdev-add driver=file filename=FILE"]),
        ('blockdev-add driver=file filename="a b', ['blockdev-add driver=file filename="FILE']),
        ("blockdev-add driver=qcow2 file.driver=file file.fi",
         ["blockdev-add driver=qcow2 file.driver=file file.filename="]),
        ("blockdev-add driver=qcow2 file=n", ["blockdev-add driver=qcow2 file=n0"]),
        ("blockdev-add driver=qcow2 cache.d", ["blockdev-add driver=qcow2 cache.direct="]),
        ("blockdev-add driver=qcow2 cache.direct=", ["blockdev-add driver=qcow2 cache.direct=on",
                                                     "blockdev-add driver=qcow2 cache.direct=off"]),
        ("blockdev-add node-name=", []),
        ('blockdev-add {"driver": "qc', ['blockdev-add {"driver": "qcow2']),
        ('blockdev-add {"driver":"raw","file": n', ['blockdev-add {"driver":"raw","file": "n0"']),
        ('blockdev-add {"driver": "file", "fi', ['blockdev-add {"driver": "file", "filename']),
        ('blockdev-add driver=raw file={"driver":"file","fi',
         ['blockdev-add driver=raw file={"driver":"file","filename']),
        ("block-stream on-error=en", ["block-stream on-error=enospc"]),
        ("transaction(\n blockdev-snapshot-i",
             ["transaction(\n blockdev-snapshot-internal-sync"]),
        ("drive_add 0 if=none,forma", ["drive_add 0 if=none,format="]),
        ("drive_add 0 if=none,format=qc", ["drive_add 0 if=none,format=qcow2"]),
        ("drive_add 0 throttling.iops-s", ["drive_add 0 throttling.iops-size="]),
        ("drive_add 0 file=a,,b", ["drive_add 0 file=FILE"]),
        ("drive_add 0 driver=qcow2,file.driver=fil", ["drive_add 0 driver=qcow2,file.driver=file"]),
        ("drive_add 0 driver=qcow2,file.driver=file,file.filen",
         ["drive_add 0 driver=qcow2,file.driver=file,file.filename="]),
        ('qemu-io d0 "wr', ['qemu-io d0 "write', 'qemu-io d0 "writev', 'qemu-io d0 "aio_write',
                               'qemu-io d0 "wait_break']),
        ("qemu-io d0 len", ["qemu-io d0 length"]),
        ('qemu-io d0 "help ali', []),
        ('qemu-io d0 "help fl', ['qemu-io d0 "help flush', 'qemu-io d0 "help aio_flush']),
        ('qemu-io d0 "discard ', ['qemu-io d0 "discard -C', 'qemu-io d0 "discard -q']),
        ('qemu-io d0 "d -C -', ['qemu-io d0 "d -C -q']),
        ('qemu-io d0 "read -P ', []),
        ('qemu-io d0 "read 0 4', []),
        ('qemu-io d0 "flush ', []),
        ('qemu-io d0 "bogus -', []),
        ("# quit", []),
        ("quit # ", []),
        ("unknown ", []),
        ('"', []),
    ],
)  # fmt: skip
def test_offers(text: str, lines: list[str]) -> None:
    assert offered(text) == lines


def test_the_command_itself() -> None:
    assert offered("quit")[0] == "quit"
    assert offered("qui")[0] == "quit"
    assert "block-stream" in offered("bs")
    assert set(offered("")) >= {"quit", "info", "blockdev-add", "mode"}
    assert offered("").count("block_resize") == 1


def test_of_a_name_of_both_languages_both_go_on() -> None:
    lines = offered("block_resize ")
    assert lines[0] == "block_resize d0"
    assert set(lines) >= {"block_resize size=", "block_resize device=", "block_resize node-name="}


def test_keys_that_are_needed_come_first_and_given_ones_not_again() -> None:
    assert offered("blockdev-add driver=file ")[0] == "blockdev-add driver=file filename="
    assert not any(line.endswith(" driver=") for line in offered("blockdev-add driver=file "))


def test_every_candidate_says_what_it_is() -> None:
    (node, *_) = suggest("blockdev-del node-name=n", Catalogue(), LANGUAGE)
    assert node == Candidate("n0", -1, "qcow2 64M rw", "node")
    (command, *_) = suggest("qui", Catalogue(), LANGUAGE)
    assert (command.kind, command.meta) == ("command", "help")


def test_every_flag_of_qemu_ios_commands_is_explained() -> None:
    for name, usage in USAGES.items():
        found = suggest(f'qemu-io d0 "{name} -', Catalogue(), LANGUAGE)
        flags = {c.text: c.meta for c in found if isinstance(c, Candidate)}
        assert set(flags) == {f"-{letter}" for letter in usage.options.replace(":", "")}
        assert all(flags.values())
    (write, *_) = suggest('qemu-io d0 "write', Catalogue(), LANGUAGE)
    assert write == Candidate("write", -5, USAGES["write"].summary, "command")


def test_files_are_left_to_the_adapter_with_their_spelling() -> None:
    (slot,) = suggest("drive_add 0 file=a,,b", Catalogue(), LANGUAGE)
    assert isinstance(slot, FileSlot)
    assert (slot.prefix, slot.start_position) == ("a,b", -4)
    assert slot.spell("a,bc.img") == "a,,bc.img"


@given(st.text(min_size=1, max_size=10))
def test_what_is_spelled_is_read_as_the_same_word(text: str) -> None:
    parsed = LANGUAGE.parse_line(f"link {spell(text)} on")
    assert parsed is not None
    assert parsed.arguments["name"] == text


PIECES = [
    "block-stream", "block_resize ", "info ", "d0 ", "-f", "driver=", "qcow2 ", "file.", '"', "{",
    "}", "[", ":", ",", "=", " ", "\n", "; ", "# ", "x", "drive_add 0 ", ")", "t(\n",
]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join))
def test_anything_may_stand_before_the_cursor(text: str) -> None:
    for line in offered(text):
        assert line.startswith(text[: len(line) - len(line.lstrip())])


names = st.lists(st.text("abAB-_01é", min_size=1, max_size=6), max_size=30)


@given(st.text("abAB-01", max_size=3), names)
def test_an_exact_prefix_always_ranks_first(typed: str, known: list[str]) -> None:
    order = [known[index].startswith(typed) for index in rank(typed, known, 1000)]
    assert order == sorted(order, reverse=True)


@given(st.text("abAB-01", max_size=3), names)
def test_nothing_that_fits_is_left_out(typed: str, known: list[str]) -> None:
    found = rank(typed, known, 1000)
    assert len(found) == len(set(found))
    assert sorted(found) == [i for i, name in enumerate(known) if spread(typed, name)]


def spread(letters: str, name: str) -> bool:
    """Whether ``name`` has ``letters`` in that order, in either case."""
    rest = iter(name.lower())
    return all(letter in rest for letter in letters.lower())


def test_the_ranks() -> None:
    known = ["xbsx", "block-stream", "BS1", "bsx", "b1-1s", "bs"]
    assert [known[i] for i in rank("bs", known, 9)] == [
        "bs", "bsx", "BS1", "block-stream", "xbsx", "b1-1s",
    ]  # fmt: skip


def test_ten_thousand_nodes_are_ranked_within_a_key() -> None:
    """A few lines of Python a name: some 8 ms."""
    asked: list[str] = []

    def meta(name: str) -> str:
        asked.append(name)
        return "qcow2 64M rw"

    class Many:
        def names(self, kind: str, verb: str = "", of: str = "") -> Iterable[Name]:
            return NameList([f"node{i}" for i in range(10_000)], meta)

    many = Many()
    for typed in ("", "n", "no99", "99", "n9", "xyz"):
        line = f"blockdev-del node-name={typed}"
        suggest(line, many, LANGUAGE)
        asked.clear()
        n = lines_of(lambda line=line: suggest(line, many, LANGUAGE))
        print(typed, n)
        assert n < 100_000
        assert len(asked) <= MOST  # of the rest nobody needs to know what they are


def test_no_command_is_beyond_the_end_of_the_menu() -> None:
    assert len(suggest("", Catalogue())) == len(commands_slot(whole_language()).words)


MERGE = "block-dirty-bitmap-merge"


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("block-dirty-bitmap-clear node=n0 name=", "clear of n0"),
        ("block-dirty-bitmap-clear name=", "clear of "),
        (f"{MERGE} node=n0 target=", "merge of n0"),
        (f"{MERGE} node=n0 target=t bitmaps.0=", "source of n0"),
        (f"{MERGE} node=n0 target=t bitmaps.0.node=n1 bitmaps.0.name=", "source of n1"),
        (f"{MERGE} node=n0 target=t bitmaps.0.name=", "source of n0"),
    ],
)
def test_bitmaps_are_those_of_the_node_on_the_line(line: str, offered: str) -> None:
    (candidate,) = suggest(line, Catalogue())
    assert candidate.kind == "bitmap"
    assert isinstance(candidate, Candidate)
    assert candidate.text == f'"{offered}"'


def test_bitmaps_in_json() -> None:
    (candidate,) = suggest(f'{MERGE} {{"node": "n0", "bitmaps": ["', Catalogue())
    assert isinstance(candidate, Candidate)
    assert candidate.text == "source of n0"


def test_many_names_are_a_sequence_of_names() -> None:
    names = NameList(["a", "b", "c"], str.upper)
    assert list(names) == [Name("a", "A"), Name("b", "B"), Name("c", "C")]
    assert list(names[1:]) == [Name("b", "B"), Name("c", "C")]
    assert texts_of(names) == texts_of(list(names)) == ["a", "b", "c"]
