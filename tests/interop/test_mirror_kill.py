"""Mirrors and commits killed at the moment that they tell of: nothing is lost.

The child's guest flushes each write before it says that it is done; such a write is on the image
that has its place by then: the source's until the end, then the target's. QEMU's tools look.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import tools
from tests.support.killing import Killed, is_qcow2, kills, notes_on

MIB = 1 << 20
SIZE = 4 * MIB
SHOWS = {"mirror": "copy", "top": "copy", "active": "low", "commit": "top"}
"""The image that shows the disk once a job has completed."""


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tools.need("qemu-img", "qemu-io")
    folder = tmp_path_factory.mktemp("killed")
    below: str | None = None
    for name, commands in (
        ("low", ["write -P 1 0 2M"]),
        ("mid", ["write -P 2 1M 2M"]),
        ("top", ["write -P 3 1500k 1M"]),
    ):
        backing = ["-b", below, "-F", "qcow2"] if below else []
        tools.run("qemu-img", "create", "-q", "-f", "qcow2", *backing, folder / name, str(SIZE))
        words = [word for command in commands for word in ("-c", command)]
        tools.run("qemu-io", "-f", "qcow2", *words, folder / name)
        below = name
    tools.run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", folder / "top", folder / "disk")
    return folder


def kill_at(folder: Path, job: str, moment: str, seed: int) -> Killed:
    """Runs a child until it says ``moment``, or for a number of the guest's writes."""
    command = [sys.executable, "-m", "tests.support.mirror_child", str(folder), job, str(seed)]
    killed = Killed((folder / "disk").read_bytes())
    left = random.Random(seed).randrange(1, 25)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([*command], **pipes, text=True) as child:
        assert child.stdout
        for line in child.stdout:
            killed.hear(line)
            left -= line.startswith("done")
            if line.strip() == moment or (moment == "sometime" and not left):
                break
        child.kill()
        for line in child.stdout.read().splitlines(keepends=True):  # said before it died
            if line.endswith("\n"):
                killed.hear(line)
    return killed


@pytest.mark.parametrize("job", SHOWS)
@pytest.mark.parametrize("moment", ["ready", "completed", "sometime"])
def test_killed(chain: Path, tmp_path: Path, job: str, moment: str) -> None:
    if (job, moment) == ("commit", "ready"):
        moment = "completed"  # it is never ready: once more at its end
    for number in range(kills(2 if moment == "completed" else 1)):
        for name in ("low", "mid", "top", "disk"):
            (tmp_path / name).write_bytes((chain / name).read_bytes())
        (tmp_path / "copy").unlink(missing_ok=True)  # of the run before
        killed = kill_at(tmp_path, job, moment, number)
        assert killed.completed or moment != "completed"
        _look_at(killed, tmp_path, job)


def _look_at(killed: Killed, folder: Path, job: str) -> None:
    """The disk is all there: where it was or, from some moment before the event on, where it is to
    be. Which, a child that was killed may not have come to say."""
    shown = [_differs(killed, folder, SHOWS[job])]
    if not killed.completed:
        shown.append(_differs(killed, folder, "top"))
    assert None in shown, f"{shown} after {killed.said}"
    copy = folder / "copy"
    if is_qcow2(copy) and shown[0] is not None:
        assert "is incomplete: mirror 'j' of " in notes_on(copy)[0]
    if killed.completed and job in ("mirror", "top"):
        assert notes_on(copy) == []


def _differs(killed: Killed, folder: Path, name: str) -> int | None:
    """The first byte at which an image is not the disk; -1 for an unsound image."""
    if not (folder / name).exists():
        return -1
    check = subprocess.run(
        ["qemu-img", "check", "-f", "qcow2", "--output=json", folder / name],
        capture_output=True,
        text=True,
    )
    if not check.stdout:
        return -1  # no image yet: killed while it was made
    found = json.loads(check.stdout)
    assert not found.get("corruptions"), (name, found)
    assert not found.get("check-errors"), (name, found)
    raw = folder / "raw"
    tools.run("qemu-img", "convert", "-U", "-f", "qcow2", "-O", "raw", folder / name, raw)
    data, expected = bytearray(raw.read_bytes()), bytearray(killed.disk)
    if killed.open_write:  # a write that was not flushed may be there, or not, or in part
        at, length = killed.open_write
        data[at : at + length] = expected[at : at + length] = bytes(length)
    pairs = enumerate(zip(data, expected, strict=True))
    return None if data == expected else next(at for at, (a, b) in pairs if a != b)
