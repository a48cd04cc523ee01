"""What jobs between files leave to the host: all plain data, by copy_file_range, and no holes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monitor.engine.drivers import syscalls
from monitor.engine.drivers.file.driver import FileDriver
from monitor.engine.jobs.carrying import CHUNK
from tests.support import tools
from tests.support.bench import Bench
from tests.support.graphs import run
from tests.support.guests import MIB

DATA = [(2 * MIB, 3 * MIB), (20 * MIB, MIB // 2), (60 * MIB, 4 * MIB)]
"""Where the disk holds data (offset, length); the rest are holes."""
SIZE = 64 * MIB


class Calls:
    """What reaches the host: the ranges copied within it, and those read into memory."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.copied: list[tuple[str, int, int]] = []
        self.read: list[tuple[str, int, int]] = []
        copy, read = syscalls.copy_range, FileDriver.read

        def copying(source: int, at: int, target: int, target_at: int, length: int) -> int:
            count = copy(source, at, target, target_at, length)
            self.copied.append((os.readlink(f"/proc/self/fd/{source}"), at, count))
            return count

        def reading(driver: FileDriver, buffer: memoryview, offset: int) -> None:
            read(driver, buffer, offset)
            self.read.append((driver.filename, offset, len(buffer)))

        patch.setattr(syscalls, "copy_range", copying)
        patch.setattr(FileDriver, "read", reading)

    def copied_of(self, path: Path) -> list[tuple[int, int]]:
        return [(at, count) for name, at, count in self.copied if Path(name) == path]

    def read_of(self, path: Path) -> list[tuple[int, int]]:
        return [(at, count) for name, at, count in self.read if Path(name) == path]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Calls:
    with (tmp_path / "from").open("wb+") as source, (tmp_path / "to").open("wb") as target:
        source.write(b"x" * 4096)
        source.flush()
        try:
            os.copy_file_range(source.fileno(), target.fileno(), 4096, 0, 0)
        except OSError as error:
            pytest.skip(f"the host cannot copy here: {error}")
    return Calls(monkeypatch)


def sparse(path: Path) -> bytes:
    """A raw image with ``DATA``; its contents."""
    with path.open("wb") as file:
        file.truncate(SIZE)
        for offset, length in DATA:
            os.pwrite(file.fileno(), os.urandom(length), offset)
    return path.read_bytes()


def inside(ranges: list[tuple[int, int]]) -> bool:
    """Whether all of them lie in ``DATA``."""
    return all(
        any(start <= at and at + count <= start + length for start, length in DATA)
        for at, count in ranges
    )


async def begin(bench: Bench, job: str, copy: Path, fmt: str, cluster: str = "64k") -> None:
    """``job`` of the bench's disk, to a new image."""
    length = bench.nodes()[-1].length()
    if job.startswith("blockdev-"):
        if fmt == "raw":
            with copy.open("wb") as file:
                file.truncate(length)
        else:
            tools.need("qemu-img")
            make = ("qemu-img", "create", "-q", "-f", fmt, "-o", f"cluster_size={cluster}")
            tools.run(*make, copy, str(length))
        file = {"driver": "file", "filename": str(copy)}
        await bench.do("blockdev-add", node_name="to", driver=fmt, file=file)
        await bench.do(job, job_id="j", device="d0", target="to", sync="full")
    else:
        await bench.do(job, job_id="j", device="d0", target=str(copy), format=fmt, sync="full")
    ended = await bench.engine.job_ended("j")
    assert ended.error is None
    if ended.status == "ready":
        await bench.do("job-complete", id="j")
        await bench.ended()
    await bench.engine.shut_down()


@pytest.mark.parametrize("target", ["raw", "qcow2"])
@pytest.mark.parametrize("job", ["blockdev-backup", "blockdev-mirror", "drive-mirror"])
def test_a_sparse_disk(tmp_path: Path, calls: Calls, job: str, target: str) -> None:
    disk, copy = tmp_path / "disk", tmp_path / "copy"
    content = sparse(disk)

    async def main() -> None:
        bench = Bench()
        await bench.open(disk, "raw")
        calls.read.clear()
        await begin(bench, job, copy, target)

    run(main())
    copied = calls.copied_of(disk)
    assert len({at for at, _ in copied}) == len(copied)
    assert sum(count for _, count in copied) == sum(length for _, length in DATA)
    assert inside(copied)
    assert max(count for _, count in copied) <= CHUNK
    assert calls.read_of(disk) == []  # neither data nor holes come by
    if target == "raw":
        assert copy.read_bytes() == content
        assert copy.stat().st_blocks * 512 < 16 * MIB
    else:
        tools.need("qemu-img")
        tools.run("qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2", disk, copy)


def stream(base: Path, top: Path) -> tuple[str, dict[str, Any]]:
    return "block-stream", {"device": "disk"}


def commit(base: Path, top: Path) -> tuple[str, dict[str, Any]]:
    return "block-commit", {"device": "d0"}


def commit_the_middle(base: Path, top: Path) -> tuple[str, dict[str, Any]]:
    return "block-commit", {"device": "d0", "top": str(top)}


@pytest.mark.parametrize(
    ("cluster", "data", "most"),
    [("64k", DATA, CHUNK), ("2M", [(2 * MIB, 4 * MIB), (60 * MIB, 4 * MIB)], 2 * MIB)],
)
@pytest.mark.parametrize("job", [stream, commit, commit_the_middle])
def test_a_chain(
    tmp_path: Path,
    calls: Calls,
    job: Callable[[Path, Path], tuple[str, dict[str, Any]]],
    cluster: str,
    data: list[tuple[int, int]],
    most: int,
) -> None:
    """What one layer holds is copied from its file to the other's."""
    tools.need("qemu-img", "qemu-io")
    base, top = tmp_path / "base", tmp_path / "top"
    make = ("qemu-img", "create", "-q", "-f", "qcow2", "-o", f"cluster_size={cluster}")
    tools.run(*make, base, str(SIZE))
    tools.run(*make, "-b", base, "-F", "qcow2", top)
    holds = base if job is stream else top
    words = [w for at, size in data for w in ("-c", f"write -q -P 7 {at} {size}")]
    tools.run("qemu-io", "-f", "qcow2", *words, holds)
    active = top
    if job is commit_the_middle:
        active = tmp_path / "active"
        tools.run(*make, "-b", top, "-F", "qcow2", active)

    async def main() -> None:
        bench = Bench()
        await bench.open(active, "qcow2")
        calls.read.clear()
        command, options = job(base, top)
        await bench.do(command, job_id="j", **options)
        ended = await bench.engine.job_ended("j")
        if ended.status == "ready":
            await bench.do("job-complete", id="j")
        await bench.ended()
        await bench.engine.shut_down()

    run(main())
    copied = calls.copied_of(holds)
    assert sum(count for _, count in copied) == sum(length for _, length in data)
    assert max(count for _, count in copied) <= most
    seen = [count for _, count in calls.read_of(holds) if count > 65536]
    assert len(seen) <= (
        cluster == "2M"
    )  # an L2 table; else small tables, and the beginnings of runs that may be zeroes
    result = top if job is stream else base
    if job is stream:
        tools.run("qemu-img", "rebase", "-u", "-b", "", top)
    for at, size in data:
        tools.run("qemu-io", "-f", "qcow2", "-c", f"read -q -P 7 {at} {size}", result)
    tools.run("qemu-img", "check", "-q", result)


def test_files_on_different_filesystems(tmp_path: Path, calls: Calls) -> None:
    """The host may refuse: then the bytes come by, and it is not asked again."""

    def refusing(*_: int) -> int:
        calls.copied.append(("", 0, 0))
        raise OSError(18, "Invalid cross-device link")

    disk, copy = tmp_path / "disk", tmp_path / "copy"
    content = sparse(disk)

    async def main() -> None:
        bench = Bench()
        await bench.open(disk, "raw")
        calls.read.clear()
        await begin(bench, "blockdev-backup", copy, "raw")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(syscalls, "copy_range", refusing)
        run(main())
    assert len(calls.copied) <= 2  # one of each copying thread
    assert inside(calls.read_of(disk))
    assert sum(count for _, count in calls.read_of(disk)) == sum(length for _, length in DATA)
    assert copy.read_bytes() == content


@pytest.mark.parametrize("job", ["blockdev-backup", "blockdev-mirror"])
@pytest.mark.parametrize(("cluster", "most"), [("64k", CHUNK), ("2M", 2 * MIB)])
def test_no_piece_is_larger_than_a_mebibyte_or_a_cluster(
    tmp_path: Path, calls: Calls, cluster: str, most: int, job: str
) -> None:
    disk, copy = tmp_path / "disk", tmp_path / "copy"
    disk.write_bytes(os.urandom(16 * MIB))

    async def main() -> None:
        bench = Bench()
        await bench.open(disk, "raw")
        await begin(bench, job, copy, "qcow2", cluster)

    run(main())
    sizes = [count for _, count in calls.copied_of(disk)]
    assert CHUNK // 2 < max(sizes) <= most
    assert sum(sizes) == 16 * MIB
