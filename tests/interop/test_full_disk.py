"""A disk that is full in the middle of anything: a small tmpfs, filled to the brim."""

from __future__ import annotations

import errno
import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from monitor.engine.drivers.file.create import create_file
from monitor.engine.drivers.qcow2 import CreateOptions, Qcow2Driver, create_image
from monitor.engine.errors import RequestError
from tests.support.cli import BLKMON
from tests.support.edges import DriverEdge
from tests.support.files import open_file
from tests.support.qcow2 import open_qcow2, qemu_check, qemu_content, read, write

MIB = 1 << 20
SIZE = 64 * MIB
NOISE = random.Random(1).randbytes(MIB)


def content_elsewhere(path: Path) -> bytes:
    """What QEMU reads from the image, where there is room for it."""
    copy = path.parent.parent / path.name
    copy.write_bytes(path.read_bytes())
    return qemu_content(copy)


def writes(disk: Qcow2Driver, at: int) -> None:
    write(disk, at, NOISE)


def scattered(disk: Qcow2Driver, at: int) -> None:
    for step in range(16):
        write(disk, at + step * 65536 + 100, NOISE[:20_000])


def compressed(disk: Qcow2Driver, at: int) -> None:
    disk.write_compressed(memoryview(NOISE[: MIB // 2] + b"x" * (MIB // 2)), at)


def copied(disk: Qcow2Driver, at: int) -> None:
    reserved = disk.map_for_write(at, MIB)
    assert reserved is not None
    position = 0
    try:
        for run in reserved.runs:
            part = NOISE[position : position + run.length]
            moved = os.pwrite(run.host, part, run.host_offset)
            if moved < run.length:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            position += run.length
    except OSError:
        reserved.abort()
        raise
    reserved.commit()


def grown(disk: Qcow2Driver, at: int) -> None:
    disk.grow(disk.length() + MIB, "full")


def reserved_by_host(disk: Qcow2Driver, at: int) -> None:
    disk.grow(disk.length() + MIB, "falloc")


def zeroed(disk: Qcow2Driver, at: int) -> None:
    """Parts of clusters: they are written."""
    write(disk, at, NOISE[:65536])
    disk.write_zeroes(at + 100, MIB - 200)
    writes(disk, at + MIB)


Work = Callable[[Qcow2Driver, int], None]
WORKS: list[Work] = [writes, scattered, compressed, copied, grown, reserved_by_host, zeroed]


@pytest.mark.parametrize("cluster_size", [4096, 65536])
@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.__name__)
def test_in_the_middle_of(full: Path, work: Work, cluster_size: int) -> None:
    """What was flushed stays, the image is sound, and goes on once there is room again."""
    path, ballast = full / "a.qcow2", full / "ballast"
    ballast.write_bytes(bytes(MIB))
    path.touch()
    file = DriverEdge(open_file(path))
    create_image(file, CreateOptions(SIZE, cluster_size=cluster_size))
    disk = open_qcow2(file)
    write(disk, 0, b"flushed" * 1000)
    disk.flush()
    refused = None
    for at in range(MIB, 60 * MIB, 2 * MIB):
        try:
            work(disk, at)
        except (OSError, RequestError) as error:
            refused = error
            break
    assert refused is not None
    assert "No space left on device" in str(refused)
    assert read(disk, 0, 7000) == b"flushed" * 1000
    ballast.unlink()
    write(disk, 7000, b"and on")
    disk.flush()
    content = read(disk)
    disk.close()
    file.driver.close()
    assert content[:7006] == b"flushed" * 1000 + b"and on"
    assert qemu_check(path)["corruptions"] == 0
    assert content_elsewhere(path) == content


@pytest.mark.parametrize("mode", ["falloc", "full"])
def test_while_a_file_is_made(full: Path, mode: str) -> None:
    with pytest.raises(RequestError) as caught:
        create_file(str(full / "a.img"), 8 * MIB, mode)
    assert caught.value.text.endswith("No space left on device")
    assert (full / "a.img").stat().st_size == 0


def test_metadata_needs_no_more_room(full: Path) -> None:
    """Nothing fits any more when tables are written back for the first time."""
    path = full / "a.qcow2"
    path.touch()
    file = DriverEdge(open_file(path))
    create_image(file, CreateOptions(SIZE, cluster_size=4096))
    disk = open_qcow2(file)
    write(disk, 0, b"first")
    disk.flush()
    write(disk, 40 * MIB, b"second")
    with (full / "ballast").open("wb") as hog, pytest.raises(OSError, match="No space"):
        while True:
            os.write(hog.fileno(), NOISE)
            os.pwrite(hog.fileno(), b"x", hog.tell())
    disk.flush()
    disk.close()
    file.driver.close()
    assert qemu_check(path) == {"leaks": 0, "corruptions": 0}
    content = content_elsewhere(path)
    assert content[:5] == b"first"
    assert content[40 * MIB : 40 * MIB + 6] == b"second"


@pytest.mark.parametrize("tool", ["blkmon", "qemu-io"])
def test_what_was_answered_as_done_is_there(full: Path, tool: str) -> None:
    """A later write fills the disk; nothing is flushed before the end."""
    path = full / "a.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "64M"], check=True)
    requests = ["write -P 1 0 2M", "write -P 2 2M 8M", "write -P 3 1M 64k"]
    if tool == "blkmon":
        lines = [f"drive_add 0 if=none,id=d0,file={path},format=qcow2"]
        lines += [f'qemu-io d0 "{request}"' for request in requests]
        command = [*BLKMON, "--keep-going"]
    else:
        lines, command = requests, ["qemu-io", "-f", "qcow2", str(path)]
    arguments = [part for line in lines for part in ("-c", line)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True)
    assert done.returncode == 1
    assert "Closing" not in done.stderr
    assert (done.stdout + done.stderr).count("write failed: No space left on device") == 1
    assert qemu_check(path) == {"leaks": 0, "corruptions": 0}
    content = content_elsewhere(path)
    assert content[: 2 * MIB] == b"\1" * MIB + b"\3" * 65536 + b"\1" * (MIB - 65536)
    assert not content[10 * MIB :].strip(b"\0")


def test_bitmaps_that_no_longer_fit(full: Path) -> None:
    """The line says what is lost and what is not, in QEMU's words; so does the status."""
    path = full / "a.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "64M"], check=True)
    with subprocess.Popen(
        [*BLKMON], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(
            f"drive_add 0 if=none,id=d0,node-name=n0,file={path},format=qcow2\n"
            "block-dirty-bitmap-add node=n0 name=b0 persistent=true\n"
            'qemu-io d0 "write -P 1 0 1M"\n'
        )
        process.stdin.flush()
        while not process.stdout.readline().startswith("wrote"):
            assert process.poll() is None
        with (full / "ballast").open("wb") as hog, pytest.raises(OSError, match="No space"):
            while True:
                os.pwrite(hog.fileno(), NOISE[:4096], hog.seek(0, os.SEEK_END))
        _, errors = process.communicate()
    assert process.returncode == 1
    assert errors == (
        f"blkmon: Closing '{path}' failed: Lost persistent bitmaps during inactivation of node "
        "'n0': Failed to write bitmap 'b0' to file: No space left on device; the disk's contents "
        "are complete, but the bitmaps that were open are gone or inconsistent ('bitmap doctor' "
        "has the lines that mend them)\n"
    )
    assert qemu_check(path) == {"leaks": 0, "corruptions": 0}
    assert content_elsewhere(path)[:MIB] == b"\1" * MIB
