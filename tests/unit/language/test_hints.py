"""Did you mean, and where: what a person is told of a name that does not exist."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from monitor.commands.errors import UnknownHumanCommand, Verbatim
from monitor.engine.api import Name
from monitor.engine.errors import DeviceNotFound, JobNotActive, MonitorError, Refused
from monitor.engine.schema.mistakes import UnacceptedValue, UnexpectedParameter
from monitor.language.hints import explain, hint_for
from monitor.language.parser import parse_line, parse_script
from monitor.language.syntax import ParseError


class Exists:
    """A catalogue of one name a kind."""

    def names(self, kind: str, verb: str = "", of: str = "") -> Iterable[Name]:
        known = {"node": "node0", "device": "drive0", "job": "stream0", "bitmap": "monday"}
        return [Name(known[kind], "")]


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (Refused("Failed to find node with node-name='node1'"), "did you mean 'node0'?"),
        (Refused("Cannot find device='drive1' nor node-name=''"), "did you mean 'drive0'?"),
        (Refused("Cannot find device='' nor node-name='nod0'"), "did you mean 'node0'?"),
        (DeviceNotFound("drvie0"), "did you mean 'drive0'?"),
        (Verbatim("Device 'drive' not found"), "did you mean 'drive0'?"),
        (JobNotActive("steam0"), "did you mean 'stream0'?"),
        (JobNotActive("backup"), "there is job 'stream0'"),
        (Refused("Dirty bitmap 'mondya' not found"), "did you mean 'monday'?"),
        (Refused("Bitmap 'munday' could not be found"), "did you mean 'monday'?"),
        (Refused("Node 'node1' is busy: x"), None),
        (UnknownHumanCommand("block_strea"), "did you mean 'block_stream'?"),
        (UnknownHumanCommand("info blok"), "did you mean 'info block'?"),
        (Verbatim('command "raed" not found'), "did you mean 'read'?"),
        (Refused("Unknown driver 'qcow'"), "did you mean 'qcow2'?"),
        (Refused("Block format 'raw' does not support the option 'cahe'"), "did you mean 'cache'?"),
        (
            Refused("Block protocol 'file' doesn't support the option 'lockin'"),
            "did you mean 'locking'?",
        ),
        (Refused("Invalid parameter 'clustersize'"), "did you mean 'cluster_size'?"),
        (UnacceptedValue("x", "unmpa", ("ignore", "unmap")), "did you mean 'unmap'?"),
        (UnexpectedParameter("fiel", ("file", "size")), "did you mean 'file'?"),
    ],
)
def test_hints_for_what_is_not_there(error: MonitorError, hint: str | None) -> None:
    assert hint_for(error, Exists()) == hint


@pytest.mark.parametrize(
    ("jobs", "hint"),
    [
        ([], "there are no jobs now"),
        (["d0", "e"], "there are jobs 'd0', 'e'"),
        ([f"d{number}" for number in range(6)], "info jobs shows those that there are"),
    ],
)
def test_which_jobs_there_are_where_none_is_named_nearly_so(jobs: list[str], hint: str) -> None:
    class Jobs:
        def names(self, kind: str, verb: str = "", of: str = "") -> Iterable[Name]:
            return [Name(job, "") for job in jobs]

    assert hint_for(JobNotActive("x1"), Jobs()) == hint


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("drive_backup d0 a.raw raw", "-f copies all, into an image without one"),
        ("drive_mirror d0 a.raw raw", "-f copies all, into an image without one"),
        (
            "drive-mirror device=d0 sync=top target=a.raw format=raw",
            "sync=full copies all, into an image without one",
        ),
        ("create -f raw -b base.qcow2 a.raw 1M", None),  # -f is the format there
    ],
)
def test_a_copy_in_a_format_without_backing_files(line: str, hint: str | None) -> None:
    error = Refused("Backing file not supported for file format 'raw'")
    explain(error, parse_line(line), Exists())
    assert error.hint == hint


def test_an_errors_own_hint_stays() -> None:
    assert hint_for(JobNotActive("steam0").with_hint("mine"), Exists()) == "mine"


def test_an_error_in_other_words_is_still_that_error() -> None:
    mistake = UnexpectedParameter("fiel", ("file", "size"))
    told = Verbatim(mistake.text)
    told.__cause__ = mistake
    assert hint_for(told, Exists()) == "did you mean 'file'?"


@pytest.mark.parametrize(
    ("line", "error", "marked"),
    [
        ('qemu-io drive1 "read 0 4k"', DeviceNotFound("drive1"), "drive1"),
        ('qemu-io "drive 1" length', DeviceNotFound("drive 1"), '"drive 1"'),
        ('qemu-io d0 "raed 0 4k"', Verbatim('command "raed" not found'), "raed"),
        ("blockdev-del node-name=n", Refused("Failed to find node with node-name='n'"), "n"),
        ("quit ; job-cancel id=x", JobNotActive("x"), "x"),
        ("drive_add 0 if=none,file=n", Refused("Cannot find device='n' nor node-name='n'"), "n"),
        (
            "drive_add 0 if=none,file=a,cahe=none",
            Refused("Block format 'raw' does not support the option 'cahe'"),
            "cahe",
        ),
        (
            'blockdev-del {"node-name": "n9"}',
            Refused("Failed to find node with node-name='n9'"),
            "n9",
        ),
        ("wait a b", JobNotActive("b"), "b"),
        ("quit", JobNotActive("b"), None),
    ],
)
def test_the_name_is_marked_where_it_was_typed(
    line: str, error: MonitorError, marked: str | None
) -> None:
    *_, invocation = parse_script(line, "")
    explain(error, invocation, Exists())
    if marked is None:
        assert error.mark is None
        return
    assert error.mark is not None
    above, below = error.mark.caret().split("\n")
    assert above == line
    assert above[below.index("^") :][: below.count("^")] == marked


def test_a_mistake_in_the_line_has_its_own_caret() -> None:
    error = ParseError("no", "", 1, 1, 1, "x")
    invocation = parse_line("quit")
    assert invocation is not None
    explain(error, invocation, Exists())
    assert (error.mark, error.hint) == (None, None)


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("block_stream device=d0", "did you mean 'block-stream'?"),
        ("block_stream devise=d0", None),
        ("drive_mirror device=d0 target=a sync=full", "did you mean 'drive-mirror'?"),
        ("check device=d0", None),
    ],
)
def test_fields_are_a_requests(typed: str, hint: str | None) -> None:
    error = Refused(f"Cannot find device='{typed.split()[1]}' nor node-name=''")
    invocation = parse_line(typed)
    assert invocation is not None
    explain(error, invocation, Exists())
    assert error.hint == hint
