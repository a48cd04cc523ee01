"""What this shell adds to QEMU's language: variables, named commands, ways for the output."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from tests.support.cli import CREATE, OPEN, Run

# -- variables -----------------------------------------------------------------------------------


def test_variables_in_words_strings_and_json(run: Run, tmp_path: Path) -> None:
    script = """\
set name "a b.qcow2"
set size 1M
create -f qcow2 "$name" $size
blockdev-add {"driver": "file", "node-name": "f0", "filename": "${name}"}
blockdev-add driver=qcow2 node-name=n0 file=f0
blockdev-del node-name=n0
echo $name is $$size, a$5.img "${size}iB"
"""
    ended = run("--set", "unused=1", typed=script)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == 'a b.qcow2 is $size, a$5.img "1MiB"\n'
    assert (tmp_path / "a b.qcow2").stat().st_size > 0


def test_a_value_is_one_word_whatever_is_in_it(run: Run) -> None:
    ended = run("--set", "x=n0 ; quit $y", "-c", "drive_del $x")
    assert "Device 'n0 ; quit $y' not found" in ended.stderr


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("echo $siz", ["undefined variable 'siz'", "     ^^^^", "did you mean 'size'?"]),
        ('echo "a ${siz}"', ["undefined variable 'siz'", "        ^^^^^^"]),
        ("echo ${a b}", ["'${' names no variable", "     ^^"]),
        ("block_resize d0 $size", ["unknown unit 'Q'", "                ^^^^^", "stands for '1Q'"]),
        ("set on-eror stop", ["unknown setting 'on-eror'", "did you mean 'on-error'?"]),
        ("set on-error stp", ["'on-error' cannot be 'stp'", "did you mean 'stop'?"]),
        ("set nme", ["undefined variable 'nme'", "did you mean 'name'?"]),
        ("unset siz", ["undefined variable 'siz'", "did you mean 'size'?"]),
    ],
)
def test_mistakes_with_variables(run: Run, line: str, said: list[str]) -> None:
    ended = run(typed=f"set size 1Q\nset name x\n{line}\n")
    assert ended.returncode in (1, 3)
    for part in said:
        assert part in ended.stderr


def test_set_alone_lists(run: Run) -> None:
    ended = run("--set", "a=1", "-c", "set", "-c", "set a", "-c", "set vi")
    *_, variable, one, setting = ended.stdout.splitlines()
    assert (variable, one, setting) == ("a = 1", "1", "off")
    assert "on-error = stop" in ended.stdout


def test_the_human_monitor_of_qmp_knows_no_variables(run: Run) -> None:
    typed = """{"execute": "qmp_capabilities"}
{"execute": "human-monitor-command", "arguments": {"command-line": "drive_del $x>y"}}
{"execute": "human-monitor-command", "arguments": {"command-line": "info block > x"}}
{"execute": "human-monitor-command", "arguments": {"command-line": "quit"}}
"""
    ended = run("--qmp", "stdio", typed=typed)
    answers = [json.loads(line).get("return") for line in ended.stdout.splitlines()]
    assert "Device '$x>y' not found\r\n" in answers
    assert any("extraneous characters" in str(answer) for answer in answers)


def test_on_error_is_a_setting(run: Run) -> None:
    ended = run(typed="set on-error continue\ndrive_del d9\necho on\n")
    assert (ended.returncode, ended.stdout) == (1, "on\n")


# -- --check -------------------------------------------------------------------------------------


def test_check_looks_into_everything(run: Run, tmp_path: Path) -> None:
    (tmp_path / "inner.blkmon").write_text("set inner 1\ninfo blok\n")
    (tmp_path / "outer.blkmon").write_text(
        """\
source inner.blkmon
echo $inner $outer
drive_add 0 if=none,id=d0,fil=a.img
drive_add 0 if=none,id=d0,file=a.img,cache=writebak
drive_add -n 0 driver=qcow2,node-name=n0,file.driver=fil
create -f qcow2 -o cluster_siz=64k a.qcow2 1M
qemu-io d0 "raed 0 64k"
macro grow device "block_resize $device 1M ; info blocks"
grow d0
source nothing.blkmon
set events off
"""
    )
    ended = run("--check", "outer.blkmon")
    assert ended.returncode == 3
    assert not (tmp_path / "a.qcow2").exists()
    told = [line for line in ended.stderr.splitlines() if ": Error: " in line]
    assert sorted(line.partition(": Error: ")[0] for line in told) == sorted(
        [
            "inner.blkmon:2",
            "macro grow:1",
            *(f"outer.blkmon:{line}" for line in (2, 3, 4, 5, 6, 7, 10)),
        ]
    )
    for name in ("block", "file", "writeback", "cluster_size", "read"):
        assert f"did you mean '{name}'?" in ended.stderr


# -- named commands ------------------------------------------------------------------------------


def test_named_commands_nest_and_are_exported(run: Run, tmp_path: Path) -> None:
    script = """\
macro size of="d0" "info block $of --output=csv > $of.csv"
macro grow device to=3M "block_resize $device $to ; size $device ; echo $device: $to"
macros my.blkmon
"""
    ended = run(typed=CREATE + OPEN + script + "grow d0\ngrow d0 4M\nmacro grow\n")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines()[1:] == [
        "d0: 3M",
        "d0: 4M",
        'macro grow device to=3M "block_resize $device $to ; size $device ; echo $device: $to"',
    ]
    (row,) = csv.DictReader(io.StringIO((tmp_path / "d0.csv").read_text()))
    assert row["inserted.image.virtual-size"] == str(4 << 20)
    again = run("my.blkmon", "-c", "macros")
    assert again.stdout == (tmp_path / "my.blkmon").read_text()


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('macro quit "echo 1"', "'quit' is a command already"),
        ('macro 1a "echo 1"', "cannot be named '1a'"),
        ('macro a b b "echo 1"', "'b' is given twice"),
        ('macro a "b"\nmacro b "a"\na', "'macro a' is being run already"),
        ('macro grow device "echo $device"\ngrow', "device is missing"),
        ('macro grow device "echo $device"\ngorw d0', "did you mean 'grow'?"),
        ('macro grow "echo"\nmacro gorw', "did you mean 'grow'?"),
        ('macro grow "echo"\nmacros --forget gorw', "did you mean 'grow'?"),
    ],
)
def test_mistakes_with_named_commands(run: Run, lines: str, said: str) -> None:
    ended = run("-c", lines)
    assert ended.returncode in (1, 3)
    assert said in ended.stderr


# -- forms and ways of the output ----------------------------------------------------------------


def test_forms_of_output(run: Run) -> None:
    setup = CREATE + OPEN
    ended = run(typed=f"{setup}query-block --output=jsonl\ninfo block --output vertical\n")
    line, *vertical = ended.stdout.splitlines()[1:]
    assert json.loads(line)["device"] == "d0"
    assert any(row.split() == ["device", "d0"] for row in vertical)
    ended = run("-y", typed=f"{setup}set format json\nquery-block\necho plain\n")
    assert "plain" in ended.stdout
    ended = run("-y", typed=f"{setup}info block --output=table\n")
    names, rule, row = ended.stdout.splitlines()[1:]
    assert names.split()[0] == "device"
    assert set(rule) == {"─", " "}
    assert row.split()[0] == "d0"


def test_into_files_and_through_the_hosts_shell(run: Run, tmp_path: Path) -> None:
    script = """\
set word two
echo one > a.txt
echo two >> a.txt
echo one ; echo two | tr a-z A-Z ; echo three
echo x | echo "$word" '$word'
query-jobs > "a b.txt"
-drive_del a|b
"""
    ended = run(typed=script)
    assert ended.returncode == 0
    assert (tmp_path / "a.txt").read_text() == "one\ntwo\n"
    assert (tmp_path / "a b.txt").read_text() == "[]\n"
    assert ended.stdout == "one\nTWO\nthree\ntwo $word\n"
    assert "Device 'a|b' not found" in ended.stderr


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("echo a | exit 3", "'exit 3' ended with status 3"),
        ("echo a > none/b", "Could not write 'none/b'"),
        ("echo a >", "the output goes nowhere: expected a file name"),
        ("echo a |", "the output goes nowhere: expected a command"),
        ("echo a > b c", "'c' is too much"),
        ("info jobs --output=tble", "did you mean 'table'?"),
        ("info jobs --output", "--output needs a value"),
        ("echo a > a.qcow2", "'a.qcow2' is a disk image: its data would be lost"),
    ],
)
def test_output_that_cannot_go_there(run: Run, line: str, said: str) -> None:
    ended = run(typed=f"{CREATE}{line}\n")
    assert ended.returncode in (1, 3)
    assert said in ended.stderr


def test_a_command_that_fails_leaves_the_file_alone(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("before")
    run(typed="drive_del d9 > a.txt\n")
    assert (tmp_path / "a.txt").read_text() == "before"


def test_time_is_told_beside_the_output(run: Run) -> None:
    ended = run(typed="set timing on\necho a\n")
    assert ended.stdout == "a\n"
    assert ended.stderr.count("Time: engine ") == 2


# -- did you mean --------------------------------------------------------------------------------

EXISTING = (
    CREATE
    + OPEN
    + """\
create -f qcow2 base.qcow2 1M
blockdev-add driver=qcow2 node-name=lower file.driver=file file.filename=base.qcow2
block-dirty-bitmap-add node=lower name=weekly
snapshot_blkdev_internal d0 before
set image a.qcow2
macro grow device "block_resize $device 2M"
blockdev-create job-id=maker options.driver=file options.filename=x options.size=0
"""
)
SLIPS = [
    ("block_strem d0", "block_stream"),
    ("query-blok", "query-block"),
    ("info blok", "block"),
    ("wait --timout 5", "--timeout"),
    ("blockdev-add drver=raw node-name=x file=lower", "driver"),
    ("blockdev-add driver=qcow3 node-name=x file=lower", "qcow2"),
    ("blockdev-snapshot-sync device=d0 snapshot-file=s mode=existng", "existing"),
    ("create -f qcow3 b.img 1M", "qcow2"),
    ("create -f qcow2 -o cluster_siz=64k b.img 1M", "cluster_size"),
    ("drive_add 0 if=none,id=d1,file=a.qcow2,fromat=qcow2", "format"),
    ("drive_add 0 if=none,id=d1,file=a.qcow2,cache=writebak", "writeback"),
    ("block_resize d00 2M", "d0"),
    ("blockdev-del node-name=lowr", "lower"),
    ("block_job_cancel makr", "maker"),
    ("job-dismiss id=makr", "maker"),
    ("block-dirty-bitmap-clear node=lower name=weakly", "weekly"),
    ("snapshot_delete_blkdev_internal d0 befor", "before"),
    ('qemu-io d0 "raed 0 1k"', "read"),
    ("drive_add 0 if=none,id=d1,file=a.qcow", "a.qcow2"),
    ("source scrpt.blkmon", "script.blkmon"),
    ("echo $imge", "image"),
    ("set on-eror stop", "on-error"),
    ("set pager of", "off"),
    ("gorw d0", "grow"),
    ("help blok_stream", "block_stream"),
    ("help varables", "variables"),
    ("apropos snapshto", "snapshot"),
    ("info jobs --output=tabel", "table"),
]


def test_every_kind_of_name_has_its_neighbour(run: Run, tmp_path: Path) -> None:
    """One session with a slip of each kind: command, request, topic, option, key, value, format,
    driver, drive, node, job, bitmap, snapshot, file, variable, setting, named command, form."""
    (tmp_path / "script.blkmon").write_text("")
    lines = "".join(f"{line}\n" for line, _ in SLIPS)
    ended = run("--json", "--keep-going", typed=f"{EXISTING}{lines}")
    objects = [json.loads(line) for line in ended.stdout.splitlines()]
    assert not any("error" in o for o in objects[: EXISTING.count("\n")])
    hints = [o["error"].get("hint", "") for o in objects[EXISTING.count("\n") :]]
    assert [hint.split("\n")[0] for hint in hints] == [
        f"did you mean '{meant}'?" for _, meant in SLIPS
    ]


def test_what_is_like_nothing_has_no_neighbour(run: Run) -> None:
    ended = run("--json", "-c", "jqxz")
    assert "hint" not in json.loads(ended.stdout)["error"]


def test_going_back_asks_only_where_something_would_be_lost(run: Run, tmp_path: Path) -> None:
    """A snapshot that is not there is QEMU's error, and no question."""
    ended = run("--keep-going", "-c", CREATE, "-c", OPEN, "-c", "loadvm nope")
    assert "Snapshot 'nope' does not exist" in ended.stderr
    ended = run("-c", OPEN, "-c", "savevm s0", "-c", "loadvm s0")
    assert "Not done: what the disks hold now would be replaced by snapshot 's0'" in ended.stderr
    assert run("-y", "-c", OPEN, "-c", "loadvm s0").returncode == 0


def test_a_table_of_bitmaps_has_a_row_for_each(run: Run) -> None:
    add = "block-dirty-bitmap-add node=d0 name="
    ended = run("-c", CREATE, "-c", OPEN, "-c", f"{add}a", "-c", f"{add}b",
                "-c", "info bitmaps --output=csv")  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(ended.stdout.partition("OK\n")[2])))
    assert [row["name"] for row in rows] == ["a", "b"]
