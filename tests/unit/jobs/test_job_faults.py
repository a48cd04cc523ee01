"""Each request of a job fails in turn, under each policy: no hang, and no wrong image.

The requests are those that reach an image's file through ``blkdebug``: the guest's data, tables,
headers and flushes alike. A guest writes meanwhile, in every other case. With BLKMON_FAULTS=all in
the environment every request fails, once and from then on, with each error, with and without the
guest; otherwise a sample.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from monitor.engine.drivers.blkdebug import BlkdebugDriver
from monitor.engine.errors import RequestError
from monitor.engine.graph.node import Node
from monitor.engine.jobs.block import BlockJob
from tests.support import tools
from tests.support.bench import Bench
from tests.support.children import MemoryChild
from tests.support.faults import CLUSTER, Nth, look_at_new, look_at_target, making
from tests.support.graphs import run
from tests.support.guests import contents
from tests.support.qcow2 import open_qcow2

ALL = os.environ.get("BLKMON_FAULTS") == "all"
SIZE = 320 << 10
POLICIES = ["report", "ignore", "stop", "enospc"]
IMAGES = ["low", "mid", "top", "target", "other", "spare"]
CHAIN = ("low", "mid", "top")
NEW = "new"
"""The image that a drive-mirror makes; its name is its node's."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """low <- mid <- top, and an empty target; the same once more, in one; what top shows."""
    tools.need("qemu-img", "qemu-io")
    folder = tmp_path_factory.mktemp("chain")
    below: str | None = None
    for number, name in enumerate(CHAIN):
        backing = ["-b", below, "-F", "qcow2"] if below else []
        tools.run("qemu-img", "create", "-q", "-f", "qcow2", *backing, folder / name, str(SIZE))
        writes = [(number * CLUSTER, CLUSTER), (3 * CLUSTER + number * 8192, 8192)]
        words = [w for at, n in writes for w in ("-c", f"write -P {number + 1} {at} {n}")]
        tools.run("qemu-io", "-f", "qcow2", *words, folder / name)
        below = name
    for name in ("target", "spare"):
        tools.run("qemu-img", "create", "-q", "-f", "qcow2", folder / name, str(SIZE))
    tools.run("qemu-img", "convert", "-O", "qcow2", folder / "top", folder / "other")
    tools.run("qemu-img", "convert", "-O", "raw", folder / "top", folder / "shown")
    return folder


def request(job: str, policy: str) -> tuple[str, dict[str, Any]]:
    both = {"on-source-error": policy, "on-target-error": policy}
    blocking = {"copy-mode": "write-blocking"}
    names = {"job-id": "j", "device": "d0"}
    copy = {**names, "target": "target", "sync": "full", **both}
    new = {**names, "target": NEW, "node-name": NEW, "format": "qcow2", **both}
    bitmap = {**copy, "bitmap": "m", "sync": "bitmap"}
    on_success = {**bitmap, "bitmap-mode": "on-success"}
    other = {"job-id": "k", "device": "other", "target": "spare", "sync": "full", **both}
    two = {"actions": [{"type": "blockdev-backup", "data": data} for data in (on_success, other)]}
    requests: dict[str, tuple[str, dict[str, Any]]] = {
        "stream": ("block-stream", {**names, "device": "disk", "on-error": policy}),
        "commit": ("block-commit", {**names, "top-node": "mid", "on-error": policy}),
        "active": ("block-commit", {**names, "on-error": policy}),
        "mirror": ("blockdev-mirror", copy),
        "blocking": ("blockdev-mirror", {**copy, **blocking}),
        "mirror-top": ("drive-mirror", {**new, "sync": "top"}),
        "mirror-none": ("drive-mirror", {**new, "sync": "none"}),
        "blocking-top": ("drive-mirror", {**new, "sync": "top", **blocking}),
        "blocking-none": ("drive-mirror", {**new, "sync": "none", **blocking}),
        "backup": ("blockdev-backup", copy),
        "compressed": ("blockdev-backup", {**copy, "compress": True}),
        "on-success": ("blockdev-backup", on_success),
        "always": ("blockdev-backup", {**bitmap, "bitmap-mode": "always"}),
        "never": ("blockdev-backup", {**bitmap, "bitmap-mode": "never"}),
        "pair": ("transaction", two),
        "group": ("transaction", {**two, "properties": {"completion-mode": "grouped"}}),
    }
    return requests[job]


COPIES = [("top", "read"), ("mid", "read"), ("target", "write"), ("target", "flush")]
FRESH = [("top", "read"), (NEW, "read"), (NEW, "write"), (NEW, "flush")]
OTHERS = [("other", "read"), ("spare", "write"), ("spare", "flush")]
SIDES = {
    "stream": [("low", "read"), ("mid", "read"), ("top", "write"), ("top", "flush")],
    "commit": [("mid", "read"), ("low", "write"), ("low", "flush"), ("top", "write")],
    "active": [("top", "read"), ("low", "write"), ("low", "flush")],
    "mirror": [*COPIES, ("target", "read")],
    "blocking": [*COPIES, ("target", "read")],
    "mirror-top": [("mid", "read"), *FRESH],
    "mirror-none": FRESH,
    "blocking-top": [("mid", "read"), *FRESH],
    "blocking-none": FRESH,
    "backup": [*COPIES, ("target", "read")],
    "compressed": [*COPIES, ("target", "read")],
    "on-success": COPIES,
    "always": COPIES,
    "never": COPIES,
    "pair": [*COPIES, *OTHERS],
    "group": [*COPIES, *OTHERS],
}
WHOLE = ("backup", "compressed", "mirror", "blocking")
"""Jobs whose target is the whole disk."""
MAKING = ("mirror-top", "mirror-none", "blocking-top", "blocking-none")
"""Jobs that make their target, an overlay."""
BITMAPS = {mode: mode for mode in ("on-success", "always", "never")}
BITMAPS |= {"pair": "on-success", "group": "on-success"}
DIRTY = {0, 1}
"""Clusters that the guest has written since the bitmap began."""


class Faulty(Bench):
    """The chain as nodes, with one file that fails."""

    def __init__(self, faults: Nth, code: int) -> None:
        super().__init__()
        self.faults = faults
        self.code = code
        self.failed = False
        """Whether the job has, as it told."""
        self.guest = ""
        """What has become of the guest's write: nothing, "wrote" or "failed"."""
        self.engine.subscribe(self._mend_in_the_end)

    async def build(self, folder: Path) -> None:
        backing: str | None = None
        for name in IMAGES:
            file = {"driver": "file", "filename": str(folder / name)}
            debug = {"driver": "blkdebug", "image": file}
            below = {"backing": backing} if name in CHAIN else {}
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
            buffer = memoryview(bytearray(len(DIRTY) * CLUSTER))
            root.read(buffer, 0)
            root.write(buffer, 0)
            root.flush()
        self.drive.drop_lane(lane)

    async def guest_writes(self) -> None:
        """To the first cluster, which is to be copied; whoever stands still holds up no guest."""
        lane, root = self.drive.lane(), self.drive.roots[0]

        def write() -> None:
            with lane:
                root.write(memoryview(b"g" * CLUSTER), 0)

        try:
            await asyncio.wait_for(self.engine.graph.in_lane_worker(write), 10)
        except OSError:
            assert self.faults.failed
            self.guest = "failed"
        else:
            self.guest = "wrote"
        self.drive.drop_lane(lane)

    async def go_on(self) -> None:
        """To the end of all jobs, whatever they wait for on the way."""
        completed = False
        while jobs := self.engine.jobs():
            for snapshot in jobs:
                if "resume" in snapshot.verbs and snapshot.status in ("paused", "standby"):
                    infos = await self.do("query-block-jobs")
                    (info,) = (info for info in infos if info.device == snapshot.id)
                    full = self.named("BLOCK_JOB_ERROR") and self.code == errno.ENOSPC
                    assert info.io_status == ("nospace" if full else "failed")
                    await self.do("block-job-resume", device=snapshot.id)
                elif snapshot.status == "ready" and not completed:
                    completed = True
                    await self.do("block-job-complete", device="j")
            await asyncio.sleep(0)

    def look(self, job: str, policy: str, before: bytes) -> bytes:
        """Everything is as it was, or as it should be. What the disk shows now."""
        assert self.drive.node is not None
        shown = contents(self.drive.node)
        wrote = b"g" * CLUSTER if self.guest == "wrote" else before[:CLUSTER]
        assert shown[CLUSTER:] == before[CLUSTER:]
        assert self.guest == "failed" or shown[:CLUSTER] == wrote
        ends = {data["device"]: data for data in self.named("BLOCK_JOB_COMPLETED")}
        errors = self.named("BLOCK_JOB_ERROR")
        failed = self.failed = "j" not in ends or "error" in ends["j"]
        assert not errors or self.faults.failed
        assert not failed or self.faults.failed
        if policy == "report" and errors and job != "pair":
            assert failed
        if policy in ("report", "enospc"):
            stops = policy == "enospc" and self.code == errno.ENOSPC
            assert {error["action"] for error in errors} <= {"stop" if stops else "report"}
        elif errors:
            assert {error["action"] for error in errors} == {policy}
        if failed:
            assert not any(node.is_filter and node.implicit for node in self.nodes())
        elif job in WHOLE:
            mirrors = "mirror" in request(job, policy)[0]
            assert contents(self.node("target")) == (shown if mirrors else before)
        elif job in MAKING:
            assert self.drive.node is self.node(NEW)
        if job in BITMAPS:
            self._look_at_bitmap(BITMAPS[job], before, shown, failed=failed)
        if job in ("pair", "group"):
            self._look_at_other(job, ends, before, failed=failed)
        return shown

    def _look_at_bitmap(self, mode: str, before: bytes, shown: bytes, *, failed: bool) -> None:
        """Dirty is at least what is not in the backup yet, and no more than need be."""
        bitmap = self.node("disk").bitmaps.get("m")
        assert bitmap is not None
        assert bitmap.successor is None
        held = contents(self.node("target"))
        clusters = range(SIZE // CLUSTER)
        dirty = {at for at in clusters if any(bitmap.areas(at * CLUSTER, (at + 1) * CLUSTER))}
        meanwhile = {0} if self.guest else set()
        parts = {at: slice(at * CLUSTER, (at + 1) * CLUSTER) for at in clusters}
        if not failed:
            assert all(held[parts[at]] == before[parts[at]] for at in DIRTY)
            assert not any(held[len(DIRTY) * CLUSTER :])
            wanted = DIRTY if mode == "never" else meanwhile
            assert dirty == wanted or (self.guest == "failed" and dirty == wanted - {0})
        elif mode == "always":
            assert {at for at in DIRTY if held[parts[at]] != shown[parts[at]]} <= dirty <= DIRTY
        else:
            assert dirty == DIRTY

    def _look_at_other(
        self, job: str, ends: dict[str, Any], before: bytes, *, failed: bool
    ) -> None:
        """Of a group both backups end well, or none does."""
        other_failed = "k" not in ends or "error" in ends["k"]
        if job == "group":
            assert other_failed == failed
        else:
            assert not (other_failed and failed)  # one file fails, one backup
        if not other_failed:
            assert contents(self.node("spare")) == before


def one(
    folder: Path, job: str, policy: str, where: str, faults: Nth, code: int, *, guest: bool
) -> bool:
    """One fault. Whether it was met; if not, the job has fewer requests."""
    before = (folder / "shown").read_bytes()

    bench: Faulty

    async def main() -> bytes:
        nonlocal bench
        bench = Faulty(faults, code)
        try:
            command, options = request(job, policy)
            await bench.build(folder)
            if job in BITMAPS:
                await bench.dirty()
            if job in MAKING:
                options["target"] = str(folder / NEW)
            if where != NEW:
                bench.arm(where)
            try:
                with making(folder / NEW, faults if where == NEW else None):
                    await bench.do(command, **options)
            except RequestError:
                assert faults.failed
            if guest:
                await bench.guest_writes()
            await bench.go_on()
            faults.mend()
            return bench.look(job, policy, before)
        finally:
            faults.mend()
            await bench.engine.shut_down()

    shown = run(main())
    if faults.failed:
        look_at_images(folder, job, shown)
        if job in MAKING:
            look_at_new(folder, NEW, failed=bench.failed)
        if job in WHOLE:
            look_at_target(folder, before, shown, failed=bench.failed)
    return bool(faults.failed)


def look_at_images(folder: Path, job: str, shown: bytes) -> None:
    """QEMU finds nothing worse than clusters that nothing refers to, and the disk as it was."""
    for name in IMAGES:
        command = ["qemu-img", "check", "-q", folder / name]
        assert subprocess.run(command, capture_output=True, timeout=20).returncode in (0, 3), name
    if job != "active":  # its overlays may hide, or lack, what has gone into the base
        (folder / "shown").write_bytes(shown)
        tools.run("qemu-img", "compare", "-q", "-F", "raw", folder / "top", folder / "shown")


def faults(policy: str) -> Iterator[tuple[int, int, bool, bool]]:
    """The turns to try: (number, errno, always, guest), ever higher numbers."""
    if not ALL:
        number = POLICIES.index(policy)
        code = errno.ENOSPC if policy == "enospc" else errno.EIO
        yield 1 + number % 2, code, True, True
        yield 3 + number, code, False, False
        return
    codes, switch = (errno.EIO, errno.ENOSPC), (False, True)
    for number in range(1, 200):
        for code, always, guest in itertools.product(codes, switch, switch):
            yield number, code, always, guest


CASES = [
    (job, policy)
    for job in SIDES
    for policy in POLICIES
    if ALL or job in ("stream", "commit", "active", "mirror", *BITMAPS) or policy in POLICIES[::2]
]


@pytest.mark.timeout(1800 if ALL else 300)  # each case is bounded by itself (``run``)
@pytest.mark.parametrize(("job", "policy"), CASES)
def test_each_request_fails_in_turn(tmp_path: Path, made: Path, job: str, policy: str) -> None:
    """Images are as they were, or as they should be; nobody waits for ever."""
    met = 0
    for where, kind in SIDES[job]:
        unmet: set[tuple[int, bool, bool]] = set()
        for number, code, always, guest in faults(policy):
            if (code, always, guest) in unmet:
                continue
            folder = tmp_path / "images"
            shutil.copytree(made, folder)
            rules = Nth(kind, number, code, always)
            told = f"{where}: {kind} {number}, {errno.errorcode[code]}, always: {always}, {guest}"
            try:
                was_met = one(folder, job, policy, where, rules, code, guest=guest)
            except BaseException as error:
                error.add_note(told)
                raise
            shutil.rmtree(folder)
            met += was_met
            if not was_met:
                unmet.add((code, always, guest))
                if len(unmet) == 8 or not ALL:
                    break
    assert met >= len(SIDES[job]) - 1


@pytest.mark.parametrize("job", ["mirror", "backup"])
def test_a_target_that_cannot_be_marked_gets_nothing(tmp_path: Path, made: Path, job: str) -> None:
    """Else nobody could tell what a kill would leave of it."""
    folder = tmp_path / "images"
    shutil.copytree(made, folder)
    faults = Nth("flush", 1, errno.EIO, False)
    held = run(_fails_at_the_target(folder, job, "report", faults))
    assert faults.failed
    assert not any(held)


@pytest.mark.parametrize("job", ["backup", "compressed"])
def test_a_mark_on_a_disk_that_refuses_barriers(tmp_path: Path, made: Path, job: str) -> None:
    """All that it ignores leaves a job that fails in the end, and a target that says so."""
    folder = tmp_path / "images"
    shutil.copytree(made, folder)
    run(_fails_at_the_target(folder, job, "ignore", Nth("flush", 1, errno.EIO, True)))
    image = open_qcow2(MemoryChild((folder / "target").read_bytes()), read_only=True)
    assert image.unfinished() is not None
    tools.run("qemu-img", "check", "-q", folder / "target")


async def _fails_at_the_target(folder: Path, job: str, policy: str, faults: Nth) -> bytes:
    """What the target holds when the job has failed."""
    bench = Faulty(faults, errno.EIO)
    await bench.build(folder)
    command, options = request(job, policy)
    bench.arm("target")
    await bench.do(command, **options)
    await bench.go_on()
    (end,) = bench.named("BLOCK_JOB_COMPLETED")
    assert end["error"] == "Input/output error"
    held = contents(bench.node("target"))
    faults.mend()
    await bench.engine.shut_down()
    return held


@pytest.mark.parametrize("always", [False, True])
@pytest.mark.parametrize("kind", ["write", "flush"])
@pytest.mark.parametrize("job", ["mirror", "backup", "group"])
def test_a_mark_that_cannot_be_taken_out(
    tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch, job: str, kind: str, always: bool
) -> None:
    """A job that fails at its very last requests, or beside one of its group that does, leaves a
    mark on each target; one that completes, none."""
    for number in range(1, 20):
        folder = tmp_path / "images"
        shutil.copytree(made, folder)
        faults = Nth(kind, number, errno.EIO, always)
        ends = run(_last_requests(folder, job, faults, monkeypatch))
        targets = ("target", "spare") if job == "group" else ("target",)
        for name, end in zip(targets, ends, strict=True):
            image = open_qcow2(MemoryChild((folder / name).read_bytes()), read_only=True)
            assert (image.unfinished() is not None) == ("error" in end), (number, name)
            command = ["qemu-img", "check", "-q", folder / name]
            checked = subprocess.run(command, capture_output=True, timeout=20)
            assert checked.returncode in (0, 3), (number, name)
        shutil.rmtree(folder)
        if not faults.failed:
            break
    assert 3 <= number < 19


async def _last_requests(
    folder: Path, job: str, faults: Nth, monkeypatch: pytest.MonkeyPatch
) -> list[dict[str, Any]]:
    """Those of "target" fail as ``faults`` say. How the jobs have ended, by their names."""
    bench = Faulty(faults, errno.EIO)
    with monkeypatch.context() as patch:
        unmark = BlockJob.unmark_target

        def armed(self: BlockJob, target: Node) -> None:
            if self.name == "j":
                bench.arm("target")
            unmark(self, target)

        patch.setattr(BlockJob, "unmark_target", armed)
        await bench.build(folder)
        if job in BITMAPS:
            await bench.dirty()
        command, options = request(job, "report")
        await bench.do(command, **options)
        await bench.go_on()
    ends = {data["device"]: data for data in bench.named("BLOCK_JOB_COMPLETED")}
    ends |= {d["device"]: d | {"error": "ECANCELED"} for d in bench.named("BLOCK_JOB_CANCELLED")}
    faults.mend()
    await bench.engine.shut_down()
    return [ends[name] for name in sorted(ends)]
