"""A backup killed at any moment: the disk is sound, and what was told to be complete is."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path

import pytest

from tests.support import tools
from tests.support.killing import Victim, is_qcow2, kills, notes_on

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


def same(disk: Path, target: Path) -> None:
    tools.run("qemu-img", "check", "-q", target)
    tools.run("qemu-img", "compare", "-q", disk, target)


@pytest.mark.parametrize("kind", ["drive-backup", "blockdev-backup"])
@pytest.mark.parametrize("auto_dismiss", [True, False] * max(1, kills(2) // 2))
def test_killed_at_the_event(tmp_path: Path, disk: Path, kind: str, auto_dismiss: bool) -> None:
    target = tmp_path / "target.qcow2"
    options = {"job_id": "b", "device": "d", "sync": "full", "auto_dismiss": auto_dismiss}
    with Victim(tmp_path) as monitor:
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
    assert notes_on(target) == []


def left(disk: Path, target: Path) -> None:
    """What there is of a target whose job was killed on the way: no image, or one that is sound but
    for clusters that nothing refers to, and tells that it is incomplete unless it is whole."""
    if not is_qcow2(target):
        return
    check = ["qemu-img", "check", "-q", "-f", "qcow2", target]
    assert subprocess.run(check, capture_output=True, timeout=20).returncode in (0, 3)
    compare = ["qemu-img", "compare", "-q", disk, target]
    whole = subprocess.run(compare, capture_output=True, timeout=20).returncode == 0
    assert whole or "is incomplete: backup " in notes_on(target)[0]


@pytest.mark.parametrize("seed", range(kills(4)))
def test_killed_on_the_way(tmp_path: Path, disk: Path, seed: int) -> None:
    """The disk is as it was, and what there is of the target is sound; a new backup succeeds."""
    wanted = random.Random(seed).randrange(SIZE)
    target, before = tmp_path / "target.qcow2", disk.read_bytes()
    with Victim(tmp_path) as monitor:
        file = {"driver": "file", "filename": str(disk)}
        monitor.do("blockdev-add", node_name="d", driver="qcow2", file=file)
        options = {"job_id": "b", "device": "d", "sync": "full", "target": str(target)}
        monitor.do("drive-backup", speed=24 * MIB, **options)
        monitor.until_done(wanted)
        monitor.kill()
    assert disk.read_bytes() == before
    left(disk, target)
    with Victim(tmp_path) as monitor:
        monitor.do("blockdev-add", node_name="d", driver="qcow2", file=file)
        monitor.do("drive-backup", **options)
        monitor.until("BLOCK_JOB_COMPLETED")
    same(disk, target)


def increment(folder: Path, disk: Path) -> Victim:
    """A session that has made a full backup ``0``, has written, and begins an increment ``1``."""
    (folder / "disk").write_bytes(disk.read_bytes())
    monitor = Victim(folder)
    file = {"driver": "file", "filename": "disk"}
    monitor.do("blockdev-add", node_name="d", driver="qcow2", file=file)
    monitor.do("block-dirty-bitmap-add", node="d", name="m", persistent=True)
    options = {"device": "d", "bitmap": "m", "bitmap_mode": "on-success"}
    monitor.do("drive-backup", job_id="b", sync="full", target="0", format="qcow2", **options)
    monitor.until("BLOCK_JOB_COMPLETED")
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
        else:
            monitor.until_done(wanted)
        monitor.kill()
    same(disk, tmp_path / "0")
    if at_end:
        same(tmp_path / "disk", tmp_path / "1")
    for image in ("disk", "1"):
        command = ["qemu-img", "check", "-q", tmp_path / image]
        assert subprocess.run(command, capture_output=True, timeout=20).returncode in (0, 3)
    left(tmp_path / "disk", tmp_path / "1")
    untrusted(tmp_path / "disk")


def untrusted(disk: Path) -> None:
    """No bitmap of the image is to be built upon."""
    facts = json.loads(tools.run("qemu-img", "info", "--output=json", disk))
    kept = facts["format-specific"]["data"].get("bitmaps", [])
    assert all("in-use" in bitmap["flags"] for bitmap in kept)


@pytest.mark.parametrize("seed", range(kills(2)))
@pytest.mark.parametrize("at_end", [True, False])
def test_a_group_killed(tmp_path: Path, disk: Path, at_end: bool, seed: int) -> None:
    """Two backups that end together: when the first tells that it has ended both are whole."""
    wanted = random.Random(seed).randrange(2 * SIZE)
    names = ("one", "two")
    for name in names:
        (tmp_path / name).write_bytes(disk.read_bytes())
    with Victim(tmp_path) as monitor:
        actions = []
        for number, name in enumerate(names):
            file = {"driver": "file", "filename": name}
            monitor.do("blockdev-add", node_name=name, driver="qcow2", file=file)
            monitor.do("block-dirty-bitmap-add", node=name, name="m", persistent=True)
            line = f'qemu-io {name} "write -P {seed % 255} {number}M 3M"'
            monitor.do("human-monitor-command", command_line=line)
            monitor.do("human-monitor-command", command_line=f"qemu-io {name} flush")
            data = {"device": name, "sync": "full", "bitmap": "m", "bitmap-mode": "on-success"}
            data |= {"job-id": name, "target": f"{name}.copy", "format": "qcow2"}
            data |= {"speed": 0 if at_end else 24 * MIB}
            actions.append({"type": "drive-backup", "data": data})
        properties = {"completion-mode": "grouped"}
        monitor.do("transaction", actions=actions, properties=properties)
        if at_end:
            monitor.until("BLOCK_JOB_COMPLETED")
        else:
            monitor.until_done(wanted)
        monitor.kill()
    for number, name in enumerate(names):
        target = tmp_path / f"{name}.copy"
        read = f"read -P {seed % 255} {number}M 3M"
        assert "failed" not in tools.run("qemu-io", "-f", "qcow2", "-c", read, tmp_path / name)
        if at_end:
            same(tmp_path / name, target)
            assert notes_on(target) == []
        left(tmp_path / name, target)
        untrusted(tmp_path / name)


@pytest.mark.parametrize("seed", range(kills(3)))
def test_an_image_killed_while_it_is_made(tmp_path: Path, seed: int) -> None:
    """There is no image yet, or a whole one; it can be made anew."""
    chance = random.Random(seed)
    file = {"driver": "file", "filename": "new"}
    options = {"driver": "qcow2", "file": file, "size": 64 << 30, "cluster-size": 4096}
    if seed % 2:
        options |= {"size": 1 << 30, "preallocation": "metadata"}
    (tmp_path / "new").touch()
    at_end = seed % 3 == 0
    with Victim(tmp_path) as monitor:
        monitor.do("blockdev-create", job_id="c", options=options)
        for _ in range(chance.randrange(30)):
            monitor.do("query-jobs")
        while at_end and monitor.do("query-jobs")[0]["status"] != "concluded":
            continue
        monitor.kill()
    assert is_qcow2(tmp_path / "new") or not at_end
    command = ["qemu-img", "check", "-q", "-f", "qcow2", "new"]
    if is_qcow2(tmp_path / "new"):
        check = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60)
        assert check.returncode in ((0,) if at_end else (0, 3))
    with Victim(tmp_path) as monitor:
        monitor.do("blockdev-create", job_id="c", options=options)
        while monitor.do("query-jobs")[0]["status"] != "concluded":
            continue
        assert "error" not in monitor.do("query-jobs")[0]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
