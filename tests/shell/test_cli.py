"""The program as another program runs it: arguments, pipes, exit statuses, signals."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from monitor.shell.session import PROMPT
from tests.support.terminal import Terminal

BLKMON = [sys.executable, "-m", "monitor"]
Run = Callable[..., "subprocess.CompletedProcess[str]"]

CREATE = "create -f qcow2 a.qcow2 1M\n"
OPEN = "drive_add 0 if=none,id=d0,file=a.qcow2,format=qcow2\n"
FAILING_JOB = (
    "blockdev-create job-id=c0 options.driver=file options.filename=none/a options.size=1M\n"
)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}


@pytest.fixture
def run(tmp_path: Path, environment: dict[str, str]) -> Run:
    """Runs blkmon in an empty folder with ``typed`` on its standard input."""

    def run(*arguments: str, typed: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*BLKMON, *arguments],
            input=typed,
            capture_output=True,
            text=True,
            timeout=60,
            **{"cwd": tmp_path, "env": environment, **options},
        )

    return run


@pytest.fixture
def talk(tmp_path: Path, environment: dict[str, str]) -> Iterator[Callable[..., Any]]:
    """Starts blkmon with pipes at all ends."""
    started: list[subprocess.Popen[str]] = []

    def talk(*arguments: str, **options: Any) -> subprocess.Popen[str]:
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        options = {**pipes, "cwd": tmp_path, "env": environment, "text": True, **options}
        process = subprocess.Popen([*BLKMON, *arguments], **options)
        started.append(process)
        return process

    yield talk
    for process in started:
        process.kill()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # what was still to be sent
                    pipe.close()
        process.wait()


# -- arguments -----------------------------------------------------------------------------------


def test_version_and_help_need_no_engine(run: Run) -> None:
    assert run("--version").stdout.startswith("blkmon ")
    shown = run("--help").stdout
    for option in ("--drive", "--blockdev", "--qmp", "--check", "--replay", "exit status"):
        assert option in shown


@pytest.mark.parametrize(
    "arguments",
    [
        ("--no-such-option",),
        ("--qmp", "tcp:1"),
        ("--qmp", "stdio", "script"),
        ("--update",),
        ("--replay",),
        ("-c",),
        ("--connect", "/run/qmp.sock"),
    ],
)
def test_a_wrong_command_line_is_status_2(run: Run, arguments: tuple[str, ...]) -> None:
    ended = run(*arguments)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert "usage: blkmon" in ended.stderr


def test_a_script_that_cannot_be_read(run: Run) -> None:
    ended = run("nowhere")
    assert ended.returncode == 1
    assert ended.stderr == "blkmon: Could not open 'nowhere': No such file or directory\n"


def test_files_run_before_commands(run: Run, tmp_path: Path) -> None:
    (tmp_path / "one").write_text("echo 1\necho 2")
    ended = run("-c", "echo 3", "one", "-c", "echo 4")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "1\n2\n3\n4\n", "")


def test_a_dash_is_standard_input(run: Run) -> None:
    ended = run("-", typed="echo whole\n")
    assert ended.stdout == "whole\n"


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        (["--version"], {"asyncio", "msgspec", "lark", "numpy", "prompt_toolkit", "pygments"}),
        (["-c", "echo x"], {"lark", "numpy", "prompt_toolkit", "pygments", "zstandard"}),
    ],
)
def test_a_start_loads_only_what_it_needs(
    tmp_path: Path, environment: dict[str, str], arguments: list[str], absent: set[str]
) -> None:
    words = [sys.executable, "-X", "importtime", "-m", "monitor", *arguments]
    ended = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0
    loaded = {line.split("|")[-1].strip() for line in ended.stderr.splitlines()}
    assert "monitor.cli" in loaded
    assert not loaded & absent


def test_on_a_terminal_it_is_a_prompt_that_can_be_recorded(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    disk = "driver=null-co,node-name=n0,size=65536"
    words = [*BLKMON, "--blockdev", disk, "--record", "r"]
    terminal = Terminal(words, cwd=str(tmp_path), env=environment)
    try:
        terminal.until(PROMPT.rstrip())
        terminal.send('qemu-io n0 "length"\r')
        terminal.until("64 KiB")
        terminal.send("drive_del d9\r")
        terminal.until("Device 'd9' not found")
        terminal.send("quit\r")
        assert terminal.ended() == 0
    finally:
        terminal.kill()
    assert (tmp_path / "r").read_text() == (
        f"blockdev {disk}\n"
        'blkmon> qemu-io n0 "length"\n64 KiB\n'
        "blkmon> drive_del d9\nDevice 'd9' not found\n[failed]\n"
        "blkmon> quit\n"
    )


# -- disks of the command line -------------------------------------------------------------------


def test_disks_open_before_anything_runs(run: Run) -> None:
    assert run("-c", CREATE).returncode == 0
    ended = run(
        "--drive", "if=none,id=d0,file=a.qcow2,format=qcow2",
        "--blockdev", "driver=null-co,node-name=n0,size=65536",
        "--blockdev", '{"driver": "null-co", "node-name": "n1", "size": 65536}',
        "-c", 'qemu-io n1 "length"', "-c", 'qemu-io d0 "length"',
    )  # fmt: skip
    assert ended.stderr == ""
    assert ended.stdout.split("\n") == ["64 KiB", "1 MiB", ""]


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("--drive", "file=none,if=none,id=d", "Could not open 'none': No such file or directory"),
        ("-drive", "id=d,if=none,file=x,cache=wrong", "invalid cache option"),
        ("--blockdev", "driver=wrong", "Parameter 'driver' does not accept value 'wrong'"),
        ("--blockdev", '{"driver": ', "JSON parse error, premature EOI"),
        ("--blockdev", "{} {}", "Expecting at most one JSON value"),
        ("-blockdev", "node-name=a", "Parameter 'driver' is missing"),
    ],
)
def test_a_disk_that_cannot_be_had(run: Run, option: str, value: str, reason: str) -> None:
    ended = run(option, value, "-c", "echo not reached")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"blkmon: {option} {value}: {reason}\n"


# -- files, -c and the pipe ----------------------------------------------------------------------


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
    ended = run("-c", f"create -f qcow2 -b {backing} -F qcow2 a.qcow2")
    assert ended.returncode == 1
    assert "Trying to create an image with the same filename as the backing file" in ended.stderr
    assert (tmp_path / "a.qcow2").read_bytes() == before


def test_a_transcript_that_is_not_there(run: Run) -> None:
    ended = run("--replay", "nowhere")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "blkmon: Could not open 'nowhere': No such file or directory\n"


def test_quit_ends_the_script(run: Run) -> None:
    ended = run(typed="echo one\nquit\necho two\n")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "one\n", "")


def test_json_gives_one_object_a_command(run: Run) -> None:
    typed = f"{CREATE}echo hello\n-x-blkmon-drive-del id=d9\nquery-version\n"
    ended = run("--json", typed=typed)
    objects = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [o["command"] for o in objects] == [
        CREATE.strip(), "echo hello", "x-blkmon-drive-del id=d9", "query-version"
    ]  # fmt: skip
    assert objects[0]["return"] == {}
    assert objects[1]["printed"] == ["hello"]
    assert objects[2]["error"] == {"class": "DeviceNotFound", "desc": "Device 'd9' not found"}
    assert objects[3]["return"]["qemu"] == {"major": 7, "minor": 2, "micro": 0}


def test_what_is_written_can_be_read(run: Run) -> None:
    typed = CREATE + OPEN + 'qemu-io d0 "write -q -P 7 0 64k"\nqemu-io d0 "read -q -P 7 0 64k"\n'
    ended = run(typed=typed)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "OK\n", "")


def test_no_control_bytes_on_stdout(run: Run) -> None:
    ended = run(typed="echo \x1b[31mred\x07\n")
    assert ended.stdout == "\\x1b[31mred\\x07\n"


@pytest.mark.parametrize("typed", ["", "\n# nothing\n"])
def test_a_pipe_with_nothing_to_do(run: Run, typed: str) -> None:
    ended = run(typed=typed)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_standard_streams_that_are_closed(
    tmp_path: Path, environment: dict[str, str], closed: str
) -> None:
    """No image may get the number of a stream that others write to."""
    command = f'{sys.executable} -m monitor -c "$1" -c "$2" {closed}'
    words = ["sh", "-c", command, "sh", CREATE + OPEN, 'qemu-io d0 "write -q 0 64k"']
    ended = subprocess.run(words, cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL)
    assert ended.returncode == 0


# -- a conversation ------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [(), ("-",)])
def test_each_result_comes_before_the_next_line_is_read(
    talk: Callable[..., Any], arguments: tuple[str, ...]
) -> None:
    process = talk(*arguments)
    for number in range(3):
        process.stdin.write(f"echo {number}\n")
        process.stdin.flush()
        assert process.stdout.readline() == f"{number}\n"
    process.stdin.close()
    assert process.wait(30) == 0


def test_half_a_line_waits_for_its_end(talk: Callable[..., Any]) -> None:
    process = talk()
    process.stdin.write("echo on")
    process.stdin.flush()
    process.stdin.write("e\n")
    process.stdin.flush()
    assert process.stdout.readline() == "one\n"
    process.stdin.write("echo last, without a newline")
    process.stdin.close()
    assert process.stdout.readline() == "last, without a newline\n"
    assert process.wait(30) == 0


def test_nobody_reads_the_output(talk: Callable[..., Any]) -> None:
    process = talk()
    process.stdout.close()
    process.stdin.write("echo into nothing\necho not reached\n")
    process.stdin.flush()
    assert process.wait(30) == 128 + signal.SIGPIPE
    assert process.stderr.read() == ""


def test_a_full_disk_under_the_output(talk: Callable[..., Any]) -> None:
    with open("/dev/full", "w") as full:
        process = talk("-c", "echo lost", stdout=full)
        assert process.wait(30) == 1
    assert process.stderr.read() == "blkmon: cannot write the output: No space left on device\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_closes_the_images(
    talk: Callable[..., Any], number: signal.Signals, tmp_path: Path
) -> None:
    process = talk()
    process.stdin.write(CREATE + OPEN + 'qemu-io d0 "write -q -P 7 0 64k"\necho open\n')
    process.stdin.flush()
    assert process.stdout.readline() == "OK\n"
    assert process.stdout.readline() == "open\n"
    process.send_signal(number)
    assert process.wait(30) == 128 + number
    assert process.stderr.read() == ""
    # Written back: what the cache held is in the file.
    check = [*BLKMON, "--drive", "if=none,id=d0,file=a.qcow2", "-c", 'qemu-io d0 "read -P 7 0 64k"']
    assert subprocess.run(check, cwd=tmp_path, capture_output=True).returncode == 0


def test_qmp_on_pipes_ends_when_the_client_or_its_human_monitor_quits(
    talk: Callable[..., Any],
) -> None:
    for last in (
        {"execute": "quit"},
        {"execute": "human-monitor-command", "arguments": {"command-line": "quit"}},
        None,
    ):
        process = talk("--qmp", "stdio")
        assert "QMP" in json.loads(process.stdout.readline())
        process.stdin.write('{"execute": "qmp_capabilities"}')
        process.stdin.flush()
        assert json.loads(process.stdout.readline()) == {"return": {}}
        if last is None:
            process.stdin.close()
        else:
            process.stdin.write(json.dumps(last))
            process.stdin.flush()
            assert "return" in json.loads(process.stdout.readline())
        assert process.wait(30) == 0


# -- jobs at the end -----------------------------------------------------------------------------


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


# -- transcripts ---------------------------------------------------------------------------------

STORY = CREATE + OPEN + 'qemu-io d0 "write -P 7 0 64k"\n-drive_del d9\ninfo block\n'


def test_a_recording_replays_as_it_is(run: Run, tmp_path: Path) -> None:
    assert run("--record", "story.blkmon", typed=STORY).returncode == 0
    ended = run("--replay", "story.blkmon", "story.blkmon")
    assert (ended.returncode, ended.stdout) == (0, "")


def test_a_recording_keeps_the_disks_of_the_command_line(run: Run, tmp_path: Path) -> None:
    disk = "driver=null-co,node-name=n0,size=65536"
    assert run("--blockdev", disk, "--record", "r", typed='qemu-io n0 "length"\n').returncode == 0
    assert (tmp_path / "r").read_text() == (
        f'blockdev {disk}\nblkmon> qemu-io n0 "length"\n64 KiB\n'
    )
    assert run("--replay", "r").returncode == 0


def test_a_changed_character_shows_in_a_diff(run: Run, tmp_path: Path) -> None:
    run("--record", "story.blkmon", typed=STORY)
    path = tmp_path / "story.blkmon"
    path.write_text(path.read_text().replace("wrote 65536/", "wrote 65537/"))
    changed = path.read_text()
    ended = run("--replay", "story.blkmon")
    assert ended.returncode == 1
    assert ended.stdout.startswith("story.blkmon:5: the replay differs\n--- story.blkmon\n")
    assert "\n-wrote 65537/65536 bytes" in ended.stdout
    assert "\n+wrote 65536/65536 bytes" in ended.stdout
    assert path.read_text() == changed
    assert run("--replay", "--update", "story.blkmon").returncode == 0
    assert path.read_text() == changed.replace("wrote 65537/", "wrote 65536/")
    assert run("--replay", "story.blkmon").returncode == 0


def test_a_recording_replaces_no_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "r").write_text("precious")
    ended = run("--record", "r", "-c", "echo x")
    assert ended.returncode == 1
    assert ended.stderr == "blkmon: Cannot record into 'r': File exists\n"
    assert (tmp_path / "r").read_text() == "precious"


def test_what_is_no_transcript(run: Run, tmp_path: Path) -> None:
    (tmp_path / "r").write_text("imag a.qcow2 qcow2 1M\nblkmon> echo x\nx\n")
    ended = run("--replay", "r")
    assert ended.returncode == 3
    assert ended.stderr.startswith("r:1: Error: 'imag' is no fixture")


# -- our own mistakes ----------------------------------------------------------------------------


def test_a_bug_is_one_line_and_a_traceback_in_the_log(
    run: Run, tmp_path: Path, environment: dict[str, str]
) -> None:
    # A broken engine, by a module that Python loads before ours.
    environment["PYTHONPATH"] = str(tmp_path)
    broken = (
        "import sys\n"
        "from monitor.engine.embedded import EmbeddedEngine\n"
        "async def execute(self, request): raise ZeroDivisionError('a bug')\n"
        "EmbeddedEngine.execute = execute\n"
    )
    (tmp_path / "sitecustomize.py").write_text(broken)
    ended = run("-c", "query-version")
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr == (
        "<command 1>:1: Error: internal error: ZeroDivisionError: a bug (details are in the log)\n"
    )
    log = tmp_path / "state" / "blkmon" / "log"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert "Traceback (most recent call last)" in log.read_text()
