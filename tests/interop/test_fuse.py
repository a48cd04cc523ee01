"""Nodes shown as files, in the hands of ordinary programs."""

from __future__ import annotations

import ctypes
import errno
import os
import select
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import tools
from tests.support.served import Served

MIB = 1 << 20
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 0x01, 0x02, 0x10


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A raw disk, a qcow2 one and the files that show them. Nothing stays mounted."""
    tools.need("fusermount3", "qemu-img", "qemu-io")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("/dev/fuse cannot be opened here")
    (tmp_path / "plain.img").write_bytes(bytes(range(256)) * 4096 + bytes(7 * MIB))
    tools.run("qemu-img", "create", "-q", "-f", "qcow2", tmp_path / "disk.qcow2", "8M")
    tools.run("qemu-io", "-c", "write -P 7 1M 1M", tmp_path / "disk.qcow2")
    for name in ("plain", "disk"):
        (tmp_path / name).write_text("what is below")
    yield tmp_path
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()


def begun(folder: Path, more: str = "") -> Served:
    """A monitor that shows both disks, writable."""
    return Served(
        folder,
        ("--blockdev", "qcow2,node-name=disk,file.driver=file,file.filename=disk.qcow2"),
        ("--blockdev", "raw,node-name=plain,file.driver=file,file.filename=plain.img"),
        ("--export", f"fuse,id=disk,node-name=disk,mountpoint=disk,writable=on{more}"),
        ("--export", f"fuse,id=plain,node-name=plain,mountpoint=plain,writable=on{more}"),
    )


@contextmanager
def served(folder: Path, more: str = "") -> Iterator[Served]:
    server = begun(folder, more)
    try:
        yield server
    finally:
        server.close()


def fallocate(descriptor: int, mode: int, offset: int, length: int) -> int:
    """Its errno."""
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (ctypes.c_int(mode), ctypes.c_int64(offset), ctypes.c_int64(length))
    return ctypes.get_errno() if libc.fallocate(descriptor, *arguments) else 0


def test_programs_read_and_write_it(folder: Path) -> None:
    with served(folder):
        tools.run("cmp", folder / "plain", folder / "plain.img")
        tools.run("qemu-img", "convert", "-f", "raw", "-O", "raw", folder / "disk", folder / "copy")
        tools.run(
            "dd", f"if={folder}/plain", f"of={folder}/disk", "bs=4096", "seek=1000", "count=256",
            "conv=notrunc,fsync", "status=none",
        )  # fmt: skip
    assert (folder / "copy").read_bytes() == bytes(MIB) + b"\7" * MIB + bytes(6 * MIB)
    tools.run("qemu-img", "check", folder / "disk.qcow2")
    tools.run("qemu-img", "convert", "-O", "raw", folder / "disk.qcow2", folder / "after")
    data = (folder / "after").read_bytes()
    assert data[4096000 : 4096000 + MIB] == (folder / "plain.img").read_bytes()[:MIB]
    assert data[MIB : 2 * MIB] == b"\7" * MIB
    assert (folder / "disk").read_text() == "what is below"


def test_fio_verifies(folder: Path) -> None:
    tools.need("fio")
    with served(folder):
        tools.run(
            "fio", "--name=job", f"--filename={folder}/disk", "--rw=randwrite", "--size=8M",
            "--bs=512-64k", "--ioengine=libaio", "--iodepth=8", "--verify=crc32c", "--do_verify=1",
            "--direct=1", "--verify_fatal=1", f"--aux-path={folder}",
        )  # fmt: skip
    tools.run("qemu-img", "check", folder / "disk.qcow2")


def test_holes(folder: Path) -> None:
    with served(folder), open(folder / "disk", "r+b", buffering=0) as file:
        descriptor = file.fileno()
        assert os.lseek(descriptor, 0, os.SEEK_DATA) == MIB
        assert os.lseek(descriptor, MIB, os.SEEK_HOLE) == 2 * MIB
        assert os.lseek(descriptor, 5, os.SEEK_HOLE) == 5
        with pytest.raises(OSError) as none:
            os.lseek(descriptor, 2 * MIB, os.SEEK_DATA)
        assert none.value.errno == errno.ENXIO
        assert os.fstat(descriptor).st_blocks * 512 < 8 * MIB
        assert fallocate(descriptor, PUNCH_HOLE | KEEP_SIZE, MIB, MIB // 2) == 0
        assert os.lseek(descriptor, 0, os.SEEK_DATA) == MIB + MIB // 2
        assert fallocate(descriptor, ZERO_RANGE | KEEP_SIZE, MIB, 8 * MIB) == 0
        assert os.pread(descriptor, 2 * MIB, MIB) == bytes(2 * MIB)
        assert fallocate(descriptor, KEEP_SIZE, 0, 4096) == errno.EOPNOTSUPP
        assert fallocate(descriptor, 0, 0, 4096) == errno.EOPNOTSUPP


def test_it_grows_where_it_may(folder: Path) -> None:
    with served(folder, ",growable=on") as server:
        with open(folder / "disk", "r+b", buffering=0) as file:
            assert os.pwrite(file.fileno(), b"end" + bytes(509), 9 * MIB) == 512
            assert os.fstat(file.fileno()).st_size == 9 * MIB + 512
            assert fallocate(file.fileno(), 0, 9 * MIB + 512, 1024) == 0
            assert os.fstat(file.fileno()).st_size == 9 * MIB + 1536
        os.truncate(folder / "plain", MIB)
        assert server.do("block_resize", **{"node-name": "plain"}, size=2 * MIB) == {}
        assert (folder / "plain").stat().st_size == 2 * MIB
    assert (folder / "plain.img").stat().st_size == 2 * MIB
    with served(folder), open(folder / "plain", "r+b", buffering=0) as file:
        assert os.pwrite(file.fileno(), b"x" * 20, 2 * MIB - 10) == 10
        with pytest.raises(OSError) as full:
            os.pwrite(file.fileno(), b"x", 2 * MIB)
        assert full.value.errno == errno.ENOSPC


def test_what_others_write_shows(folder: Path) -> None:
    with served(folder) as server, open(folder / "plain", "rb", buffering=0) as file:
        assert os.pread(file.fileno(), 2, 0) == b"\0\1"
        line = 'qemu-io plain "write -P 9 0 4k"'
        server.do("human-monitor-command", **{"command-line": line})
        assert os.pread(file.fileno(), 2, 0) == b"\t\t"


def test_read_only_ones_are_not_written(folder: Path) -> None:
    with served(folder) as server:
        server.do("block-export-del", id="plain")
        server.do(
            "block-export-add", type="fuse", id="plain", mountpoint="plain",
            **{"node-name": "plain"},
        )  # fmt: skip
        assert (folder / "plain").stat().st_mode & 0o777 == 0o400
        with pytest.raises(OSError) as refused, open(folder / "plain", "r+b", buffering=0) as file:
            file.write(b"x")
        assert refused.value.errno == errno.EACCES
    assert (folder / "plain.img").read_bytes()[:2] == b"\0\1"


def test_it_goes_from_under_who_has_it_open(folder: Path) -> None:
    """As in QEMU, nobody keeps an export by having the file open."""
    with served(folder) as server:
        descriptor = os.open(folder / "plain", os.O_RDONLY)
        assert server.do(
            "block-export-add", type="fuse", id="again", mountpoint=str(folder / "plain"),
            **{"node-name": "plain"},
        )["error"]["desc"] == f"There already is a FUSE export on '{folder}/plain'"  # fmt: skip
        assert server.do("block-export-del", id="plain") == {}
        server.wait("BLOCK_EXPORT_DELETED", id="plain")
        assert [export["id"] for export in server.do("query-block-exports")] == ["disk"]
        assert (folder / "plain").read_text() == "what is below"
        with pytest.raises(OSError):
            os.pread(descriptor, 1, 0)
        with pytest.raises(OSError):
            os.close(descriptor)  # a program's last flush fails too


def test_nobody_opens_its_own_export(folder: Path) -> None:
    """It could wait for itself."""
    with served(folder) as server:
        added = server.do(
            "blockdev-add", driver="file", filename="plain", **{"node-name": "circle"}
        )  # fmt: skip
        assert added["error"]["desc"] == "Could not open 'plain': Resource deadlock avoided"


def test_a_killed_monitor_leaves_nothing_mounted(folder: Path) -> None:
    """Its helpers unmount: they hear of the end by their sockets."""
    server = begun(folder)
    assert sum(str(folder) in line for line in _mounts()) == 2
    helpers = _helpers(server.pid)
    assert len(helpers) == 2
    server.kill()
    for helper in helpers:
        assert select.select([helper], [], [], 20)[0], "the helper goes on"
        os.close(helper)
    assert (folder / "plain").read_text() == (folder / "disk").read_text() == "what is below"


def _mounts() -> list[str]:
    return Path("/proc/self/mounts").read_text().splitlines()


def _helpers(parent: int) -> list[int]:
    """Descriptors that tell when a monitor's children have ended."""
    tasks = Path(f"/proc/{parent}/task").glob("*/children")
    return [os.pidfd_open(int(child)) for task in tasks for child in task.read_text().split()]
