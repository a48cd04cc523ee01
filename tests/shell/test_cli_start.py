"""The command line: options, files, disks, and what a start costs."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from monitor.shell.session import PROMPT
from tests.support.cli import BLKMON, CREATE, Run
from tests.support.terminal import Terminal


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


_STARTED = "import sys; from monitor.cli import main; main(sys.argv[1:]); print(*sys.modules)"
_LANGUAGE = {
    "monitor.language",
    "monitor.commands",
    "monitor.shell.script",
    "monitor.shell.session",
}
_OPENED = {
    "monitor.engine.drivers.qcow2",
    "monitor.engine.drivers.file",
    "monitor.engine.transaction",
}
_UNUSUAL = {"argparse", "dataclasses", "pathlib", "ssl", "shutil"}


@pytest.mark.parametrize(
    ("arguments", "packages", "absent"),
    [
        (["--qmp", "stdio"], {"msgspec"}, _LANGUAGE | _OPENED | _UNUSUAL),
        (["-c", "info version"], {"msgspec"}, _OPENED | {"argparse", "ssl", "shutil", "pathlib"}),
        (["--check", "-c", "info version"], {"msgspec"}, {"monitor.engine.embedded", "ssl"}),
    ],
)
def test_a_start_loads_only_what_it_needs(
    tmp_path: Path,
    environment: dict[str, str],
    arguments: list[str],
    packages: set[str],
    absent: set[str],
) -> None:
    """Each module costs every start; a package as much as a bare interpreter."""
    words = [sys.executable, "-c", _STARTED, *arguments]
    ended = subprocess.run(
        words,
        cwd=tmp_path,
        env=environment,
        input='{"execute": "qmp_capabilities"}\n',
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    loaded = set(ended.stdout.splitlines()[-1].split())
    assert not loaded & absent
    outer = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names
    own = {"monitor", "sitecustomize", "_distutils_hack"}  # and Python's
    assert {name for name in outer - own if not name.startswith("_")} == packages


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


def test_a_disk_that_cannot_be_had_comes_with_what_helps(run: Run, tmp_path: Path) -> None:
    assert run("-c", CREATE).returncode == 0
    typo = run("--drive", "if=none,id=d0,file=a.qcow", "-c", "quit").stderr
    assert typo.split("\n")[1:] == ["did you mean 'a.qcow2'?", ""]
    typo = run("--blockdev", "driver=qcow,file.filename=a.qcow2", "-c", "quit").stderr
    assert typo.split("\n")[1:] == ["did you mean 'qcow2'?", ""]
    with (tmp_path / "a.qcow2").open("rb") as image:
        fcntl.lockf(image, fcntl.LOCK_SH, 1, 201)  # somebody does not share writing
        held = run("--drive", "if=none,id=d0,file=a.qcow2", "-c", "quit").stderr
    assert held.split("\n")[1:] == ["Is another process using the image [a.qcow2]?", ""]


def test_an_image_that_is_open_here_is_not_another_process(run: Run) -> None:
    assert run("-c", CREATE).returncode == 0
    drive = ("--drive", "if=none,id=d0,node-name=disk,file=a.qcow2")
    held = run("-y", *drive, "-c", "drive_mirror -f d0 a.qcow2").stderr
    assert held.split("\n")[-2:] == ["it is open here, as node 'disk'", ""]
