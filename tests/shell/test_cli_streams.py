"""Pipes, signals and a full disk under the program."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import BLKMON, CREATE, OPEN, Run


def test_no_control_bytes_on_stdout(run: Run) -> None:
    ended = run(typed="echo \x1b[31mred\x07\n")
    assert ended.stdout == "\\x1b[31mred\\x07\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_standard_streams_that_are_closed(
    tmp_path: Path, environment: dict[str, str], closed: str
) -> None:
    """No image may get the number of a stream that others write to."""
    command = f'{sys.executable} -m monitor -c "$1" -c "$2" {closed}'
    words = ["sh", "-c", command, "sh", CREATE + OPEN, 'qemu-io d0 "write -q 0 64k"']
    ended = subprocess.run(words, cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL)
    assert ended.returncode == 0


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
    log = tmp_path / "state" / "blkmon" / "log"
    assert ended.stderr == (
        f"<command 1>:1: Error: internal error: ZeroDivisionError: a bug (details are in {log})\n"
    )
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert "Traceback (most recent call last)" in log.read_text()


def test_what_the_engine_logs_is_a_line_and_a_traceback_in_the_log(
    run: Run, tmp_path: Path, environment: dict[str, str]
) -> None:
    environment["PYTHONPATH"] = str(tmp_path)
    broken = (
        "from monitor.engine.jobs.stream import StreamJob\n"
        "def run(self): raise ZeroDivisionError('a bug')\n"
        "StreamJob.run = run\n"
    )
    (tmp_path / "sitecustomize.py").write_text(broken)
    disk = "driver=null-co,node-name=n0,size=1048576"
    ended = run("--blockdev", disk, "-c", "block-stream job-id=s0 device=n0", "-c", "wait s0")
    log = tmp_path / "state" / "blkmon" / "log"
    what = "internal error: stream job 's0' failed unexpectedly"
    assert ended.returncode == 4
    assert ended.stderr.splitlines() == [
        f"blkmon: {what} (details are in {log})",
        f"<command 2>:1: Error: Job 's0' failed: {what}",
    ]
    assert "ZeroDivisionError: a bug" in log.read_text()


def test_a_replay_that_nobody_reads(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("blkmon> echo a\nb\n")
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as nobody, open("/dev/full", "w") as full:
        ended = [
            subprocess.run(
                [*BLKMON, "--replay", "s"],
                stdout=out, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False,
            )
            for out in (nobody, full)
        ]  # fmt: skip
    assert [(one.returncode, one.stderr) for one in ended] == [
        (141, ""),
        (1, "blkmon: cannot write the output: No space left on device\n"),
    ]
