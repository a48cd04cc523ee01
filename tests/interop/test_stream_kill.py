"""A stream killed at any moment: nothing flushed is lost, and QEMU finds the image sound."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import tools
from tests.support.killing import Killed, kills

MIB = 1 << 20
SIZE = 24 * MIB
SPEED = 48 * MIB
RUNS = kills(17)
AT_END = kills(3)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base <- mid <- top with small clusters, so that there is much metadata to be torn."""
    tools.need("qemu-img", "qemu-io")
    folder = tmp_path_factory.mktemp("chain")
    below = ""
    for name, writes in (
        ("base", [(0, SIZE // 2, 1), (SIZE * 3 // 4, SIZE // 4, 2)]),
        ("mid", [(SIZE // 4, SIZE // 2, 3)]),
        ("top", [(SIZE // 3, MIB, 4)]),
    ):
        backing = ["-b", below, "-F", "qcow2"] if below else []
        options = ["-o", "cluster_size=4k", *backing]
        tools.run("qemu-img", "create", "-q", "-f", "qcow2", *options, folder / name, str(SIZE))
        commands = [
            word for at, length, byte in writes for word in ("-c", f"write -P {byte} {at} {length}")
        ]
        tools.run("qemu-io", "-f", "qcow2", *commands, folder / name)
        below = str(folder / name)
    return folder


def kill_at(folder: Path, disk: bytes, seed: int, percent: int | None) -> Killed:
    """Runs a child until its progress is ``percent`` (or, None, until it tells of its end)."""
    command = [sys.executable, "-m", "tests.support.stream_child", str(folder), str(seed)]
    killed = Killed(disk)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([*command, str(SPEED)], **pipes, text=True) as child:
        assert child.stdout
        for line in child.stdout:
            killed.hear(line)
            if killed.completed or (percent is not None and killed.percent >= percent):
                break
        child.kill()
        rest = child.stdout.read().splitlines(keepends=True)
        for line in rest:  # said before it died
            if line.endswith("\n"):
                killed.hear(line)
    return killed


def copy_of(chain: Path, folder: Path) -> None:
    tools.run("cp", "--sparse=always", chain / "top", folder / "top")


def contents(image: Path, folder: Path) -> bytes:
    raw = folder / "raw"
    tools.run("qemu-img", "convert", "-U", "-f", "qcow2", "-O", "raw", image, raw)
    return raw.read_bytes()


def check(image: Path) -> None:
    """Leaked clusters are all that a kill may leave behind."""
    result = subprocess.run(
        ["qemu-img", "check", "-f", "qcow2", "--output=json", str(image)],
        capture_output=True,
        text=True,
    )
    found = json.loads(result.stdout)
    assert not found.get("corruptions"), found
    assert not found.get("check-errors"), found


def test_killed_again_and_again(chain: Path, tmp_path: Path) -> None:
    """At the moment of its end, and at random: each tenth of the progress at least once."""
    copy_of(chain, tmp_path)
    disk = contents(chain / "top", tmp_path)
    chance = random.Random(20)
    missing, number = set(range(10)), 0
    runs = AT_END + RUNS
    while number < runs or (missing and number < runs + 40):
        at_end = number < AT_END
        tenth = min(missing, default=number % 10)
        copy_of(chain, tmp_path)
        killed = kill_at(
            tmp_path, disk, number, None if at_end else tenth * 10 + chance.randrange(1, 7)
        )
        assert killed.completed or not at_end
        if not killed.completed:
            missing.discard(killed.percent // 10)
        look_at(killed, tmp_path, number)
        number += 1
    assert not missing


def look_at(killed: Killed, folder: Path, number: int) -> None:
    """Holds the image that a killed child left against what the child had promised."""
    top = folder / "top"
    check(top)
    shown, expected = bytearray(contents(top, folder)), killed.disk
    if killed.open_write:  # a write that was not flushed may be there, or not, or in part
        at, length = killed.open_write
        shown[at : at + length] = expected[at : at + length] = bytes(length)
    assert shown == expected, f"run {number}, killed at {killed.percent}%"
    if killed.completed:
        info = json.loads(tools.run("qemu-img", "info", "--output=json", top))
        assert "backing-filename" not in info
