"""A backup killed at any moment: the disk is sound, and what was told to be complete is."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support import tools
from tests.support.killing import kills
from tests.support.side_by_side import OURS

MIB = 1 << 20
SIZE = 16 * MIB


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small clusters, so that the target has much metadata to be torn."""
    tools.need("qemu-img", "qemu-io")
    disk = tmp_path_factory.mktemp("disk") / "disk.qcow2"
    tools.run("qemu-img", "create", "-q", "-f", "qcow2", disk, str(SIZE))
    writes = [word for at in range(0, 16, 3) for word in ("-c", f"write -P {at + 1} {at}M 1M")]
    tools.run("qemu-io", "-f", "qcow2", *writes, disk)
    return disk


class Monitor:
    """A QMP session of ours that is going to be killed."""

    def __init__(self, folder: Path) -> None:
        self.events: list[str | None] = []
        self._process = subprocess.Popen(
            OURS, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._read()
        self.do("qmp_capabilities")

    def do(self, command: str, **arguments: Any) -> Any:
        names = {name.replace("_", "-"): value for name, value in arguments.items()}
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"execute": command, "arguments": names}) + "\n")
        self._process.stdin.flush()
        while "event" in (reply := self._read()):
            self.events.append(reply["event"])
        assert "return" in reply, reply
        return reply["return"]

    def until(self, event: str) -> None:
        while event not in self.events:
            self.events.append(self._read().get("event"))

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout
        message: dict[str, Any] = json.loads(self._process.stdout.readline())
        return message

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *reason: object) -> None:
        self.kill()


def same(disk: Path, target: Path) -> None:
    tools.run("qemu-img", "check", "-q", target)
    tools.run("qemu-img", "compare", "-q", disk, target)


@pytest.mark.parametrize("kind", ["drive-backup", "blockdev-backup"])
@pytest.mark.parametrize("auto_dismiss", [True, False] * max(1, kills(2) // 2))
def test_killed_at_the_event(tmp_path: Path, disk: Path, kind: str, auto_dismiss: bool) -> None:
    target = tmp_path / "target.qcow2"
    options = {"job_id": "b", "device": "d", "sync": "full", "auto_dismiss": auto_dismiss}
    with Monitor(tmp_path) as monitor:
        file = {"driver": "file", "filename": str(disk)}
        monitor.do("blockdev-add", node_name="d", driver="qcow2", file=file)
        if kind == "blockdev-backup":
            make = ("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=4k")
            tools.run(*make, target, str(SIZE))
            file = {"driver": "file", "filename": str(target)}
            monitor.do("blockdev-add", node_name="t", driver="qcow2", file=file)
            options["target"] = "t"
        else:
            options["target"] = str(target)
        monitor.do(kind, **options)
        monitor.until("BLOCK_JOB_COMPLETED")
        monitor.kill()
    same(disk, target)


@pytest.mark.parametrize("seed", range(kills(4)))
def test_killed_on_the_way(tmp_path: Path, disk: Path, seed: int) -> None:
    """The disk is as it was, and what there is of the target is sound; a new backup succeeds."""
    wanted = random.Random(seed).randrange(SIZE)
    target = tmp_path / "target.qcow2"
    with Monitor(tmp_path) as monitor:
        file = {"driver": "file", "filename": str(disk)}
        monitor.do("blockdev-add", node_name="d", driver="qcow2", file=file)
        options = {"job_id": "b", "device": "d", "sync": "full", "target": str(target)}
        monitor.do("drive-backup", speed=24 * MIB, **options)
        while jobs := monitor.do("query-jobs"):
            if jobs[0]["current-progress"] >= wanted:
                break
        monitor.kill()
    tools.run("qemu-img", "check", "-q", disk)
    leaks = subprocess.run(["qemu-img", "check", "-q", target], capture_output=True, timeout=20)
    assert leaks.returncode in (0, 3)  # sound, or clusters that nothing refers to
    with Monitor(tmp_path) as monitor:
        monitor.do("blockdev-add", node_name="d", driver="qcow2", file=file)
        monitor.do("drive-backup", **options)
        monitor.until("BLOCK_JOB_COMPLETED")
    same(disk, target)


def increment(folder: Path, disk: Path) -> Monitor:
    """A session that has made a full backup ``0``, has written, and begins an increment ``1``."""
    (folder / "disk").write_bytes(disk.read_bytes())
    monitor = Monitor(folder)
    file = {"driver": "file", "filename": "disk"}
    monitor.do("blockdev-add", node_name="d", driver="qcow2", file=file)
    monitor.do("block-dirty-bitmap-add", node="d", name="m", persistent=True)
    options = {"device": "d", "bitmap": "m", "bitmap_mode": "on-success"}
    monitor.do("drive-backup", job_id="b", sync="full", target="0", format="qcow2", **options)
    monitor.until("BLOCK_JOB_COMPLETED")
    monitor.events.clear()
    for at in range(0, 16, 2):
        line = f'qemu-io d "write -P {at + 100} {at}M 700k"'
        monitor.do("human-monitor-command", command_line=line)
    monitor.do("human-monitor-command", command_line="qemu-io d flush")
    make = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", "0", "-F", "qcow2"]
    subprocess.run([*make, "-o", "cluster_size=4k", "1"], cwd=folder, check=True, timeout=20)
    options |= {"mode": "existing", "format": "qcow2"}
    speed = 6 * MIB
    monitor.do("drive-backup", job_id="i", sync="incremental", target="1", speed=speed, **options)
    return monitor


@pytest.mark.parametrize("seed", range(kills(3)))
@pytest.mark.parametrize("at_end", [True, False])
def test_an_increment_killed(tmp_path: Path, disk: Path, at_end: bool, seed: int) -> None:
    """The backup before it is what it was, nobody is told to trust the bitmap, and a told increment
    is complete."""
    wanted = random.Random(seed).randrange(5 * MIB)
    with increment(tmp_path, disk) as monitor:
        if at_end:
            monitor.do("block-job-set-speed", device="i", speed=0)
            monitor.until("BLOCK_JOB_COMPLETED")
        while not at_end and (jobs := monitor.do("query-jobs")):
            if jobs[0]["current-progress"] >= wanted:
                break
        monitor.kill()
    same(disk, tmp_path / "0")
    if at_end:
        same(tmp_path / "disk", tmp_path / "1")
    for image in ("disk", "1"):
        command = ["qemu-img", "check", "-q", tmp_path / image]
        assert subprocess.run(command, capture_output=True, timeout=20).returncode in (0, 3)
    facts = json.loads(tools.run("qemu-img", "info", "--output=json", tmp_path / "disk"))
    kept = facts["format-specific"]["data"].get("bitmaps", [])
    assert all("in-use" in bitmap["flags"] for bitmap in kept)
