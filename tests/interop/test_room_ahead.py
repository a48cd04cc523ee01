"""Jobs past the page cache: the target's file takes up room ahead, and keeps none in the end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from monitor.engine.drivers import syscalls
from tests.support import tools
from tests.support.bench import Bench
from tests.support.graphs import run
from tests.support.guests import MIB

SIZE = 96 * MIB
USED = 48 * MIB
DIRECT = {"cache": {"direct": True}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tools.need("qemu-img", "qemu-io")
    disk = tmp_path / "disk"
    tools.run("qemu-img", "create", "-q", "-f", "qcow2", disk, str(SIZE))
    tools.run("qemu-io", "-f", "qcow2", "-c", f"write -q -P 7 0 {USED}", disk)
    tools.run("qemu-img", "create", "-q", "-f", "qcow2", tmp_path / "to", str(SIZE))
    try:
        os.close(os.open(disk, os.O_RDONLY | os.O_DIRECT))
    except OSError as error:
        pytest.skip(f"no O_DIRECT here: {error}")
    return tmp_path


@pytest.fixture
def reserved(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How long files were to become, each time that room was taken up ahead."""
    ends: list[int] = []
    fallocate = syscalls.fallocate

    def watched(fd: int, mode: int, offset: int, length: int) -> None:
        if not mode:
            ends.append(offset + length)
        fallocate(fd, mode, offset, length)

    monkeypatch.setattr(syscalls, "fallocate", watched)
    return ends


async def begin(bench: Bench, folder: Path, job: str, **options: object) -> None:
    await bench.open(folder / "disk", "qcow2", **DIRECT)
    file = {"driver": "file", "filename": str(folder / "to")}
    await bench.do("blockdev-add", node_name="to", driver="qcow2", file=file, **DIRECT)
    await bench.do(job, job_id="j", device="d0", target="to", sync="full", **options)


@pytest.mark.parametrize("job", ["blockdev-backup", "blockdev-mirror"])
def test_it_is_given_back_when_all_is_copied(folder: Path, reserved: list[int], job: str) -> None:
    to = folder / "to"

    async def main() -> None:
        bench = Bench()
        await begin(bench, folder, job)
        ended = await bench.engine.job_ended("j")
        assert to.stat().st_size < USED + 2 * MIB  # while a mirror stands ready, too
        if ended.status == "ready":
            await bench.do("job-complete", id="j")
            await bench.ended()
        await bench.engine.shut_down()

    run(main())
    assert max(reserved) > USED
    assert to.stat().st_blocks * 512 < USED + 2 * MIB
    tools.run("qemu-img", "check", "-q", to)
    tools.run("qemu-img", "compare", "-q", folder / "disk", to)


def test_it_is_given_back_by_a_job_that_is_cancelled(folder: Path, reserved: list[int]) -> None:
    to = folder / "to"

    async def main() -> None:
        bench = Bench()
        await begin(bench, folder, "blockdev-mirror", speed=MIB)
        while not reserved:
            await asyncio.sleep(0)
        await bench.do("block-job-cancel", device="j", force=True)
        await bench.ended()
        assert to.stat().st_size < USED // 2
        await bench.engine.shut_down()

    run(main())
    tools.run("qemu-img", "check", "-q", to)


def test_none_is_taken_up_where_it_is_scarce(
    folder: Path, reserved: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    statvfs: Callable[[int], os.statvfs_result] = os.fstatvfs

    def little(fd: int) -> os.statvfs_result:
        host = list(statvfs(fd))
        host[4] = 100 * MIB // host[1]  # f_bavail, in blocks of f_frsize
        return os.statvfs_result(host)

    monkeypatch.setattr(os, "fstatvfs", little)

    async def main() -> None:
        bench = Bench()
        await begin(bench, folder, "blockdev-backup")
        ended = await bench.engine.job_ended("j")
        assert ended.error is None
        await bench.engine.shut_down()

    run(main())
    assert not reserved
    tools.run("qemu-img", "compare", "-q", folder / "disk", folder / "to")
