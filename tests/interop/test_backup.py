"""Backups of real images while guests write: what QEMU's tools find in the targets."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monitor.engine import permissions
from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import RequestError
from monitor.engine.graph.client import Client
from monitor.engine.graph.drive import Drive
from monitor.engine.schema.backup import BlockdevBackup, DriveBackup
from monitor.engine.schema.bitmap import BlockDirtyBitmapAdd
from monitor.engine.schema.blockdev import (
    BlockdevOptionsFile,
    BlockdevOptionsQcow2,
    BlockdevOptionsRaw,
)
from monitor.engine.schema.graph import BlockdevAdd, BlockdevDel
from monitor.engine.schema.job import BlockJobPause, BlockJobResume, BlockJobSetSpeed
from tests.support import tools
from tests.support.guests import MIB, SIZE, Guests, contents, make_disk


class Bench:
    """An engine with the disk as drive d0, and its contents at the beginning of each job."""

    def __init__(self) -> None:
        self.engine = EmbeddedEngine()
        self.at_start: list[bytes] = []

    async def open(self, disk: Path, fmt: str) -> None:
        options = BlockdevOptionsQcow2 if fmt == "qcow2" else BlockdevOptionsRaw
        file = BlockdevOptionsFile(filename=str(disk))
        await self.engine.execute(
            BlockdevAdd(options=options(node_name="disk", discard="unmap", file=file))
        )
        graph = self.engine.graph
        self.node = graph.nodes["disk"]
        self.drive = graph.drives["d0"] = Drive("d0")
        taken = permissions.CONSISTENT_READ | permissions.WRITE
        graph.add_client(self.drive, self.node, taken, permissions.ALL)
        admit = graph.admit

        def keep(client: Client) -> None:
            self.at_start.append(contents(self.node))  # drained: nobody writes
            admit(client)

        graph.admit = keep  # type: ignore[method-assign]

    async def back_up(self, **options: Any) -> None:
        """With pauses and changes of speed on the way."""
        await self.engine.execute(
            DriveBackup(job_id="b", device="d0", auto_dismiss=False, speed=2 * MIB, **options)
        )
        for request in (
            BlockJobPause(device="b"),
            BlockJobSetSpeed(device="b", speed=MIB),
            BlockJobResume(device="b"),
            BlockJobSetSpeed(device="b", speed=0),
        ):
            try:
                await self.engine.execute(request)
            except RequestError:  # it has ended
                break
        ended = await self.engine.job_ended("b")
        assert (ended.status, ended.error) == ("concluded", None)
        job = self.engine.job_table.find("b")
        assert job
        await self.engine.job_table.dismiss(job)


def check(target: Path, fmt: str, expected: bytes, folder: Path) -> None:
    """QEMU finds in the target what is expected, and nothing wrong with it."""
    model = folder / "model"
    model.write_bytes(expected)
    if fmt == "qcow2":
        tools.run("qemu-img", "check", "-q", "-f", fmt, target)
    tools.run("qemu-img", "compare", "-q", "-f", fmt, "-F", "raw", target, model)


def under_writes(tmp_path: Path, source: str, test: Callable[[Bench, Guests], Any]) -> None:
    async def main() -> None:
        bench = Bench()
        await bench.open(make_disk(tmp_path, source), source)
        with Guests(bench.drive, seed=len(source)) as guests:
            await guests.busy()
            await test(bench, guests)
        await bench.engine.shut_down()

    asyncio.run(main())


@pytest.mark.parametrize("compat", ["1.1", "0.10"])
def test_zeroes_hide_the_image_below_that_is_not_open(tmp_path: Path, compat: str) -> None:
    """An increment is written with ``backing=null``; what was zeroed hides what the full backup
    holds there, for whoever opens the chain."""
    disk, full, increment = (tmp_path / name for name in ("disk", "full", "increment"))
    disk.write_bytes(b"x" * 4 * MIB)
    create = ("qemu-img", "create", "-q", "-f", "qcow2", "-o", f"compat={compat}")
    tools.run(*create, full, "4M")
    tools.run(*create, "-b", full, "-F", "qcow2", increment)

    async def back_up(bench: Bench, target: Path, **options: Any) -> None:
        file = BlockdevOptionsFile(filename=str(target))
        image = BlockdevOptionsQcow2(node_name="to", file=file, backing=None)
        await bench.engine.execute(BlockdevAdd(options=image))
        await bench.engine.execute(
            BlockdevBackup(job_id="b", device="disk", target="to", **options)
        )
        assert (await bench.engine.job_ended("b")).error is None
        await bench.engine.execute(BlockdevDel(node_name="to"))

    async def main() -> None:
        bench = Bench()
        await bench.open(disk, "raw")
        await bench.engine.execute(BlockDirtyBitmapAdd(node="disk", name="m"))
        await back_up(bench, full, sync="full")
        with bench.drive.lane():
            bench.drive.roots[0].write_zeroes(MIB, MIB, True, False)
        await back_up(bench, increment, sync="incremental", bitmap="m")
        await bench.engine.shut_down()

    asyncio.run(main())
    check(increment, "qcow2", b"x" * MIB + bytes(MIB) + b"x" * 2 * MIB, tmp_path)


@pytest.mark.parametrize("compression", ["zlib", "zstd"])
def test_compressed(tmp_path: Path, compression: str) -> None:
    target = tmp_path / "target"
    tools.need("qemu-img")
    tools.run(
        "qemu-img", "create", "-q", "-f", "qcow2", "-o", f"compression_type={compression}", target,
        str(SIZE),
    )  # fmt: skip

    async def test(bench: Bench, guests: Guests) -> None:
        await bench.back_up(
            target=str(target), sync="full", mode="existing", format="qcow2", compress=True
        )
        check(target, "qcow2", bench.at_start[0], tmp_path)

    under_writes(tmp_path, "qcow2", test)
    found = json.loads(tools.run("qemu-img", "check", "--output=json", target))
    assert found["compressed-clusters"] > 10


def run_child(folder: Path, first: int, count: int, end: str) -> str:
    command = [sys.executable, "-m", "tests.support.backup_child", str(folder), str(first)]
    child = subprocess.run([*command, str(count), end], capture_output=True, text=True, timeout=60)
    assert child.returncode == (9 if end == "crash" else 0), child.stderr
    return child.stdout.strip()


def test_a_chain_of_increments_with_crashes(tmp_path: Path) -> None:
    """A full backup and ten increments in three sessions; after a crash the bitmap is not to be
    trusted, and the chain begins anew. Every link restores the disk as it was."""
    disk = make_disk(tmp_path, "qcow2")
    sessions = [(4, "quit"), (4, "quit"), (3, "crash"), (2, "crash"), (2, "quit"), (2, "quit")]
    begun, first = [], 1
    for count, end in sessions:
        begun.append(run_child(tmp_path, first, count, end))
        first += count
    assert begun == ["full", "increments", "increments", "full", "full", "increments"]
    for number in range(1, first):
        backup, model = tmp_path / f"{number}.qcow2", tmp_path / f"{number}.raw"
        tools.run("qemu-img", "check", "-q", backup)
        tools.run("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", backup, model)
    links = tools.run("qemu-img", "info", "--backing-chain", "--output=json", tmp_path / "11.qcow2")
    assert len(json.loads(links)) == 11
    leaks = subprocess.run(["qemu-img", "check", "-q", disk], capture_output=True, timeout=20)
    assert leaks.returncode in (0, 3)  # a crash may leave clusters that nothing refers to
