"""Scripts as another program runs them: exit statuses, mistakes, marks, sourced files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import CREATE, FAILING_JOB, OPEN, Run


def test_the_first_failure_ends_a_script(run: Run, tmp_path: Path) -> None:
    (tmp_path / "s").write_text("echo one\n\ndrive_del d9\necho two\n")
    ended = run("s")
    assert ended.returncode == 1
    assert ended.stdout == "one\n"
    assert ended.stderr == "s:3: Error: Device 'd9' not found\ndrive_del d9\n          ^^\n"


def test_keep_going_runs_the_rest_and_remembers(run: Run) -> None:
    ended = run("--keep-going", typed=f"{FAILING_JOB}wait c0\ndrive_del d9\necho two\n")
    assert ended.stdout == "two\n"
    assert ended.returncode == 4  # the first failure's
    places = [line.split(" ")[0] for line in ended.stderr.splitlines() if " Error: " in line]
    assert places == ["<stdin>:2:", "<stdin>:3:"]


def test_a_file_with_a_mistake_runs_nothing_and_tells_all(run: Run, tmp_path: Path) -> None:
    (tmp_path / "s").write_text("create -f raw a.img 1M\ninfo blok\nbogus\n")
    ended = run("s", "-c", "bogus too")
    assert (ended.returncode, ended.stdout) == (3, "")
    assert not (tmp_path / "a.img").exists()
    places = [line.split(" Error")[0] for line in ended.stderr.splitlines() if " Error: " in line]
    assert places == ["s:2:", "s:3:", "<command 1>:1:"]
    lines = ended.stderr.splitlines()
    assert lines[1:3] == ["info blok", "     ^^^^"]


def test_check_runs_nothing(run: Run, tmp_path: Path) -> None:
    assert run("--check", "-c", CREATE).returncode == 0
    assert not (tmp_path / "a.qcow2").exists()
    ended = run("--check", typed="bogus\nechoo x\n")
    assert ended.returncode == 3
    assert ended.stderr.count("Error: ") == 2


def test_mistakes_of_every_kind_come_in_the_order_of_their_lines(run: Run, tmp_path: Path) -> None:
    lines = ["bogus", "drive_add 0 if=none,file=x,foo=bar", "echo $nope", "block_resize d0 12y"]
    (tmp_path / "s").write_text("\n".join(lines))
    ended = run("--check", "s")
    places = [line.split(" ")[0] for line in ended.stderr.splitlines() if " Error: " in line]
    assert places == ["s:1:", "s:2:", "s:3:", "s:4:"]


def test_a_mistake_inside_a_command_has_the_place_of_its_line(run: Run) -> None:
    ended = run(typed="echo a\nwatch --times 1 1 bogus\n")
    assert ended.stderr.startswith("<stdin>:2: Error: unknown command: 'bogus'\n")


def test_what_is_watched_may_stand_in_quotes(run: Run) -> None:
    assert run(typed='watch --times 1 1 "info jobs"\n').stdout == "No active jobs\n"
    assert run(typed='watch --times 1 1 "info jobs" \n').stdout == "No active jobs\n"
    assert run(typed='watch --times 1 1 echo "a b"\n').stdout == '"a b"\n'


# A disk on which tables can no longer be written; data still can.
FULL = """\
create -f qcow2 a.qcow2 1M
blockdev-add {"driver":"qcow2","node-name":"n0","file":{"driver":"blkdebug",
  "image":{"driver":"file","filename":"a.qcow2"},
  "inject-error":[{"event":"l2_update","errno":28,"once":false}]}}
qemu-io n0 "write 0 64k"
"""
LOST = "failed: No space left on device; what was written since the last flush may be missing\n"


@pytest.mark.parametrize("end", ["", "quit\n"])
def test_what_cannot_be_written_at_the_end_is_told(run: Run, end: str) -> None:
    ended = run(typed=FULL + end)
    assert ended.returncode == 1
    assert ended.stderr.startswith("blkmon: Closing ")
    assert ended.stderr.endswith(LOST)
    assert ended.stderr.count("\n") == 1


def test_what_cannot_be_written_by_a_command_is_told_once(run: Run) -> None:
    ended = run(typed=FULL + "blockdev-del node-name=n0\necho on\n")
    assert ended.returncode == 1
    assert ended.stdout.endswith("on\n")
    assert ended.stderr.startswith("<stdin>:6: Closing ")
    assert ended.stderr.endswith(LOST)
    assert ended.stderr.count("\n") == 1


def test_a_program_that_speaks_qmp_learns_it_by_the_status(run: Run) -> None:
    assert run(typed="create -f qcow2 a.qcow2 1M\n").returncode == 0
    node = json.loads(FULL[FULL.index("{") : FULL.rindex("}") + 1])
    requests: list[tuple[str, dict[str, Any]]] = [
        ("qmp_capabilities", {}),
        ("blockdev-add", node),
        ("human-monitor-command", {"command-line": 'qemu-io n0 "write 0 64k"'}),
        ("quit", {}),
    ]
    typed = [json.dumps({"execute": name, "arguments": data}) for name, data in requests]
    ended = run("--qmp", "stdio", typed="\n".join(typed) + "\n")
    assert ended.stdout.count('"return"') == 4, ended.stdout
    assert ended.returncode == 1
    assert ended.stderr.endswith(LOST)


def test_a_pipe_runs_up_to_the_mistake(run: Run, tmp_path: Path) -> None:
    ended = run(typed=f"{CREATE}bogus\necho not reached\n")
    assert (ended.returncode, ended.stdout) == (3, "")
    assert (tmp_path / "a.qcow2").exists()
    assert ended.stderr.startswith("<stdin>:2: Error: unknown command: 'bogus'\nbogus\n^^^^^\n")


def test_keep_going_loses_only_the_line_with_the_mistake(run: Run) -> None:
    ended = run("--keep-going", typed="bogus\necho reached\n")
    assert (ended.returncode, ended.stdout) == (3, "reached\n")


def test_a_command_over_several_lines(run: Run) -> None:
    typed = 'blockdev-add options={\n"driver": "null-co",\n"node-name": "n0"}\necho done\nbogus'
    typed = typed.replace("options=", "")
    ended = run(typed=typed)
    assert ended.stdout == "done\n"
    assert ended.stderr.startswith("<stdin>:5: Error: ")


def test_an_open_bracket_at_the_end_of_the_pipe(run: Run) -> None:
    ended = run(typed="echo one\nblockdev-add {\n")
    assert (ended.returncode, ended.stdout) == (3, "one\n")
    assert ended.stderr.startswith("<stdin>:2: Error: ")


@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        (
            "-drive_del d9",
            0,
            "<stdin>:1: Error: Device 'd9' not found\n-drive_del d9\n           ^^\n",
        ),
        ("!drive_del d9", 0, ""),
        ("!echo fine", 1, "<stdin>:1: Error: The command was to fail and did not\n"),
        ("-echo fine", 0, ""),
    ],
)
def test_marks(run: Run, line: str, status: int, said: str) -> None:
    ended = run(typed=line + "\necho next\n")
    assert (ended.returncode, ended.stderr) == (status, said)
    assert ("next\n" in ended.stdout) == (status == 0)


def test_what_does_not_exist_is_marked_and_its_neighbour_named(run: Run) -> None:
    add = "blockdev-add driver=null-co node-name=node0\n"
    ended = run(typed=f'{add}qemu-io nod0 "read 0 4k"\n')
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        "<stdin>:2: Error: Cannot find device='' nor node-name='nod0'\n"
        'qemu-io nod0 "read 0 4k"\n'
        "        ^^^^\n"
        "did you mean 'node0'?\n"
    )


def test_a_sourced_file_tells_where_it_failed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "inner").write_text("echo in\n\ndrive_del d9\n")
    (tmp_path / "outer").write_text("source inner\necho not reached\n")
    ended = run("outer")
    assert (ended.returncode, ended.stdout) == (1, "in\n")
    assert ended.stderr == (
        "inner:3: Error: Device 'd9' not found\ndrive_del d9\n          ^^\nsourced at outer:1\n"
    )


def test_mistakes_of_a_sourced_file_are_told_as_those_of_a_script(run: Run, tmp_path: Path) -> None:
    (tmp_path / "inner").write_text("echo in\nbogus\n")
    ended = run("-c", "source inner")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "inner:2: Error: unknown command: 'bogus'\nbogus\n^^^^^\n"


def test_a_sourced_pipe_is_read_by_the_command_alone(run: Run) -> None:
    """What a pipe holds can be read once: not when the line that runs it is parsed."""
    reads, writes = os.pipe()
    os.write(writes, b"echo out of a pipe\n")
    os.close(writes)
    ended = run("-c", f"source /dev/fd/{reads}", pass_fds=(reads,))
    os.close(reads)
    assert (ended.returncode, ended.stdout) == (0, "out of a pipe\n")


def test_a_file_that_sources_itself(run: Run, tmp_path: Path) -> None:
    (tmp_path / "me").write_text("source me\n")
    ended = run("-c", "source me")
    assert ended.returncode == 1
    assert ended.stderr == ("me:1: Error: 'me' is being run already\nsourced at <command 1>:1\n")


@pytest.mark.parametrize("backing", ["a.qcow2", "./a.qcow2"])
def test_create_does_not_overwrite_an_image_with_its_own_overlay(
    run: Run, tmp_path: Path, backing: str
) -> None:
    assert run(typed=CREATE).returncode == 0
    before = (tmp_path / "a.qcow2").read_bytes()
    ended = run("-y", "-c", f"create -f qcow2 -b {backing} -F qcow2 a.qcow2")
    assert ended.returncode == 1
    assert "Trying to create an image with the same filename as the backing file" in ended.stderr
    assert (tmp_path / "a.qcow2").read_bytes() == before


def test_quit_ends_the_script(run: Run) -> None:
    ended = run(typed="echo one\nquit\necho two\n")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "one\n", "")


def test_what_is_written_can_be_read(run: Run) -> None:
    typed = CREATE + OPEN + 'qemu-io d0 "write -q -P 7 0 64k"\nqemu-io d0 "read -q -P 7 0 64k"\n'
    ended = run(typed=typed)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "OK\n", "")


@pytest.mark.parametrize("typed", ["", "\n# nothing\n"])
def test_a_pipe_with_nothing_to_do(run: Run, typed: str) -> None:
    ended = run(typed=typed)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_a_job_that_fails_while_it_is_waited_for_at_the_end(run: Run) -> None:
    ended = run(typed=FAILING_JOB)
    assert ended.returncode == 4
    assert ended.stderr.startswith("blkmon: Error: Job 'c0' failed: ")


def test_a_job_that_a_command_waited_for_is_told_once(run: Run) -> None:
    ended = run(typed=f"{FAILING_JOB}wait c0\n")
    assert ended.returncode == 4
    assert ended.stderr.startswith("<stdin>:2: Error: Job 'c0' failed: ")
    assert ended.stderr.count("\n") == 1


def test_a_forgiven_wait_forgives_the_job(run: Run) -> None:
    ended = run(typed=f"{FAILING_JOB}-wait c0\n")
    assert ended.returncode == 0


LOSING = [
    (CREATE, "create -f raw a.qcow2 1M", "'a.qcow2' holds 192 KiB and would be overwritten"),
    (CREATE + OPEN, "block_resize d0 512K", "'d0' has 1 MiB and would keep 512 KiB"),
    (CREATE + OPEN, "block_resize device=d0 size=512K", "(524288 of 1048576 bytes)"),
    (
        CREATE + OPEN + "create -f qcow2 b.qcow2 1M\n",
        "snapshot_blkdev d0 b.qcow2",
        "'b.qcow2' holds 192 KiB",
    ),
    (
        CREATE + OPEN + "create -f qcow2 b.qcow2 1M\n",
        "transaction(\nblock-dirty-bitmap-add node=d0 name=b\n"
        "drive-backup device=d0 target=b.qcow2 sync=full\n)",
        "'b.qcow2' holds 192 KiB",
    ),
    (
        CREATE,
        "blockdev-create job-id=c0 options.driver=file options.filename=a.qcow2 options.size=0",
        "'a.qcow2' holds 192 KiB",
    ),
]


@pytest.mark.parametrize(("setup", "line", "loss"), LOSING)
def test_what_loses_data_is_refused_where_nobody_can_be_asked(
    run: Run, setup: str, line: str, loss: str
) -> None:
    ended = run(typed=f"{setup}{line}\n")
    assert ended.returncode == 1
    assert "Error: Not done: " in ended.stderr
    assert loss in ended.stderr
    assert "-y does it" in ended.stderr
    assert run("-y", typed=f"{setup}{line}\n").returncode == 0


def test_what_loses_nothing_does_not_ask(run: Run) -> None:
    script = f"""{CREATE}{OPEN}block_resize d0 2M
create -f qcow2 b.qcow2 2M
snapshot_blkdev -n d0 b.qcow2 qcow2
create -f qcow2 c.qcow2 2M
transaction --dry-run(
drive-backup device=d0 target=c.qcow2 sync=full
)
transaction(
drive-backup device=d0 target=c.qcow2 sync=full mode=existing
)
wait d0
set confirm off
block_resize d0 1M
"""
    assert run(typed=script).returncode == 0


def test_a_file_is_not_yet_a_drive(run: Run) -> None:
    ended = run("--keep-going", typed=CREATE + "check a.qcow2\nmap b.qcow2\n")
    assert ended.stderr.split("\n")[3] == "'a.qcow2' is a file: drive_add opens one"
    assert "b.qcow2' is a file" not in ended.stderr


def test_a_backup_that_never_ends_by_itself_does_not_hold_up_the_end(run: Run) -> None:
    """Its target is what the disk was, for as long as somebody wants it."""
    begins = "drive-backup job-id=b0 device=d0 target=was.qcow2 sync=none\n"
    ended = run(typed=CREATE + OPEN + begins + "wait b0\ninfo jobs\n")
    assert ended.returncode == 0
    assert ended.stdout.split("\n")[1:] == [
        "Job 'b0' is running: block_job_cancel b0 ends it",
        "b0: backup, running, 0% (0 of 1048576): waiting for cancel",
        "",
    ]
    note = "blkmon: Job 'b0' is running, only block_job_cancel ends it: cancelled\n"
    assert ended.stderr == note
