"""Each request of a job fails in turn, under each policy: no hang, and no wrong image.

The requests are those that reach an image's file through ``blkdebug``: the guest's data, tables,
headers and flushes alike. With BLKMON_FAULTS=all in the environment every one of them fails, once
and from then on, with each error; otherwise a sample.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from monitor.engine.drivers.blkdebug import BlkdebugDriver
from monitor.engine.drivers.blkdebug.rules import Rules
from monitor.engine.errors import RequestError
from monitor.engine.graph.node import Node
from tests.support import tools
from tests.support.bench import Bench
from tests.support.graphs import run
from tests.support.guests import contents

ALL = os.environ.get("BLKMON_FAULTS") == "all"
SIZE = 320 << 10
CLUSTER = 64 << 10
POLICIES = ["report", "ignore", "stop", "enospc"]
IMAGES = ["low", "mid", "top", "target"]

KINDS = {
    "read": {"read", "block-status"},
    "write": {"write", "write-zeroes", "discard"},
    "flush": {"flush"},
}


class Nth(Rules):
    """The Nth request of a kind fails; with ``always`` all after it, until it is mended."""

    def __init__(self, kind: str, number: int, code: int, always: bool) -> None:
        super().__init__()
        self.failed = 0
        self._kinds = KINDS[kind]
        self._left = number
        self._code = code
        self._always = always
        self._count = threading.Lock()

    def check(self, offset: int, length: int, kind: Any) -> None:
        with self._count:
            if kind not in self._kinds or not self._code:
                return
            self._left -= 1
            if self._left > 0 or (self._left < 0 and not self._always):
                return
            self.failed += 1
        raise OSError(self._code, os.strerror(self._code))

    def mend(self) -> None:
        self._code = 0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """low <- mid <- top, and an empty target; what top shows."""
    tools.need("qemu-img", "qemu-io")
    folder = tmp_path_factory.mktemp("chain")
    below: str | None = None
    for number, name in enumerate(("low", "mid", "top")):
        backing = ["-b", below, "-F", "qcow2"] if below else []
        tools.run("qemu-img", "create", "-q", "-f", "qcow2", *backing, folder / name, str(SIZE))
        writes = [(number * CLUSTER, CLUSTER), (3 * CLUSTER + number * 8192, 8192)]
        words = [w for at, n in writes for w in ("-c", f"write -P {number + 1} {at} {n}")]
        tools.run("qemu-io", "-f", "qcow2", *words, folder / name)
        below = name
    tools.run("qemu-img", "create", "-q", "-f", "qcow2", folder / "target", str(SIZE))
    tools.run("qemu-img", "convert", "-O", "raw", folder / "top", folder / "shown")
    return folder


def request(job: str, policy: str) -> tuple[str, dict[str, Any]]:
    both = {"on_source_error": policy, "on_target_error": policy}
    copy = {"target": "target", "sync": "full", **both}
    bitmap = {"bitmap": "m", **both, "target": "target", "sync": "bitmap"}
    return {
        "stream": ("block-stream", {"on_error": policy}),
        "commit": ("block-commit", {"top_node": "mid", "on_error": policy}),
        "active": ("block-commit", {"on_error": policy}),
        "mirror": ("blockdev-mirror", copy),
        "backup": ("blockdev-backup", copy),
        "on-success": ("blockdev-backup", {**bitmap, "bitmap_mode": "on-success"}),
        "always": ("blockdev-backup", {**bitmap, "bitmap_mode": "always"}),
        "never": ("blockdev-backup", {**bitmap, "bitmap_mode": "never"}),
    }[job]


COPIES = [("top", "read"), ("mid", "read"), ("target", "write"), ("target", "flush")]
SIDES = {
    "stream": [("low", "read"), ("mid", "read"), ("top", "write"), ("top", "flush")],
    "commit": [("mid", "read"), ("low", "write"), ("low", "flush"), ("top", "write")],
    "active": [("top", "read"), ("low", "write"), ("low", "flush")],
    "mirror": [*COPIES, ("target", "read")],
    "backup": [*COPIES, ("target", "read")],
    "on-success": COPIES,
    "always": COPIES,
    "never": COPIES,
}
BITMAPS = ("on-success", "always", "never")
DIRTY = 2 * CLUSTER
"""Bytes that the guest has written since the bitmap began."""


class Faulty(Bench):
    """The chain as nodes, with one file that fails."""

    def __init__(self, faults: Nth, code: int) -> None:
        super().__init__()
        self.faults = faults
        self.code = code
        self.engine.subscribe(self._mend_in_the_end)

    async def build(self, folder: Path) -> None:
        backing: str | None = None
        for name in IMAGES:
            file = {"driver": "file", "filename": str(folder / name)}
            debug = {"driver": "blkdebug", "image": file}
            below = {"backing": backing} if name != "target" else {}
            if name == "top":
                await self.open(folder / name, "qcow2", file=debug, **below)
            else:
                options = {"driver": "qcow2", "file": debug, **below}
                await self.do("blockdev-add", node_name=name, **options)
            backing = name

    def arm(self, where: str) -> None:
        """Requests count from now on."""
        driver = self.node("disk" if where == "top" else where).children["file"].child.driver
        assert isinstance(driver, BlkdebugDriver)
        driver.rules = self.faults

    def node(self, name: str) -> Node:
        return self.engine.graph.nodes[name]

    def _mend_in_the_end(self, event: Any) -> None:
        if len(self.named("BLOCK_JOB_ERROR")) >= 3:  # else it would be tried again for ever
            self.faults.mend()

    async def dirty(self) -> None:
        """The guest writes what is there already, for the bitmap."""
        await self.do("block-dirty-bitmap-add", node="disk", name="m")
        lane, root = self.drive.lane(), self.drive.roots[0]
        with lane:
            buffer = memoryview(bytearray(DIRTY))
            root.read(buffer, 0)
            root.write(buffer, 0)
            root.flush()
        self.drive.drop_lane(lane)

    async def go_on(self) -> None:
        """To the end of the job, whatever it waits for on the way."""
        for _ in range(200):
            found = [snapshot for snapshot in self.engine.jobs() if snapshot.id == "j"]
            if not found:
                return
            snapshot = await self.engine.job_ended("j")
            if snapshot.status in ("paused", "standby"):
                (info,) = await self.do("query-block-jobs")
                full = self.named("BLOCK_JOB_ERROR") and self.code == errno.ENOSPC
                assert info.io_status == ("nospace" if full else "failed")
                await self.do("block-job-resume", device="j")
            elif snapshot.status == "ready":
                await self.do("block-job-complete", device="j")
            await asyncio.sleep(0)
        raise AssertionError("the job does not end")

    def look(self, job: str, policy: str, shown: bytes) -> None:
        """Everything is as it was, or as it should be."""
        assert self.drive.node is not None
        assert contents(self.drive.node) == shown
        ends = self.named("BLOCK_JOB_COMPLETED")
        errors = self.named("BLOCK_JOB_ERROR")
        failed = not ends or "error" in ends[0]
        assert not errors or self.faults.failed
        assert not failed or self.faults.failed
        if policy == "report" and errors:
            assert failed
        if policy in ("report", "enospc"):
            stops = policy == "enospc" and self.code == errno.ENOSPC
            assert {error["action"] for error in errors} <= {"stop" if stops else "report"}
        elif errors:
            assert {error["action"] for error in errors} == {policy}
        if failed:
            assert not any(node.is_filter and node.implicit for node in self.nodes())
        elif job in ("backup", "mirror"):
            assert contents(self.node("target")) == shown
        if job in BITMAPS:
            self._look_at_bitmap(job, shown, failed=failed)

    def _look_at_bitmap(self, mode: str, shown: bytes, *, failed: bool) -> None:
        """Dirty is at least what is not in the backup yet."""
        bitmap = self.node("disk").bitmaps.get("m")
        assert bitmap is not None
        assert bitmap.successor is None
        held = contents(self.node("target"))
        if not failed:
            assert held[:DIRTY] == shown[:DIRTY]
            assert not any(held[DIRTY:])
            assert bitmap.count == (DIRTY if mode == "never" else 0)
        elif mode == "always":
            lacking = [at for at in range(0, DIRTY, CLUSTER) if held[at] != shown[at]]
            assert all(any(bitmap.areas(at, at + CLUSTER)) for at in lacking)
        else:
            assert bitmap.count == DIRTY


def one(
    folder: Path, job: str, policy: str, where: str, faults: Nth, code: int, *, qemu: bool
) -> bool:
    """One fault. Whether it was met; if not, the job has fewer requests."""
    shown = (folder / "shown").read_bytes()

    async def main() -> None:
        bench = Faulty(faults, code)
        try:
            command, options = request(job, policy)
            device = "disk" if job == "stream" else "d0"
            await bench.build(folder)
            if job in BITMAPS:
                await bench.dirty()
            bench.arm(where)
            try:
                await bench.do(command, job_id="j", device=device, **options)
            except RequestError:
                assert faults.failed
            await bench.go_on()
            faults.mend()
            bench.look(job, policy, shown)
        finally:
            faults.mend()
            await bench.engine.shut_down()

    run(main())
    if qemu and faults.failed:
        look_at_images(folder, job)
    return bool(faults.failed)


def look_at_images(folder: Path, job: str) -> None:
    """QEMU finds nothing worse than clusters that nothing refers to, and the disk as it was."""
    for name in IMAGES:
        command = ["qemu-img", "check", "-q", folder / name]
        assert subprocess.run(command, capture_output=True, timeout=20).returncode in (0, 3), name
    if job != "active":  # its overlays may hide, or lack, what has gone into the base
        tools.run("qemu-img", "compare", "-q", "-F", "raw", folder / "top", folder / "shown")


def faults(kind: str, policy: str) -> Iterator[tuple[int, int, bool]]:
    """The turns to try: (number, errno, always), ever higher numbers."""
    if not ALL:
        number = POLICIES.index(policy)
        code = errno.ENOSPC if policy == "enospc" else errno.EIO
        yield 1 + number % 2, code, True
        yield 3 + number, code, False
        return
    for number in range(1, 200):
        for code in (errno.EIO, errno.ENOSPC):
            for always in (False, True):
                yield number, code, always


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("job", SIDES)
def test_each_request_fails_in_turn(tmp_path: Path, made: Path, job: str, policy: str) -> None:
    """Images are as they were, or as they should be; nobody waits for ever."""
    met = 0
    for where, kind in SIDES[job]:
        for number, code, always in faults(kind, policy):
            folder = tmp_path / "images"
            shutil.copytree(made, folder)
            rules = Nth(kind, number, code, always)
            told = f"{where}: {kind} {number}, {errno.errorcode[code]}, always: {always}"
            try:
                was_met = one(folder, job, policy, where, rules, code, qemu=ALL or always)
            except BaseException as error:
                error.add_note(told)
                raise
            shutil.rmtree(folder)
            if not was_met:
                break
            met += 1
    assert met >= len(SIDES[job]) - 1
