"""The power fails while jobs run, and at the moment that they tell of their end.

A guest writes and flushes meanwhile. At any moment its disk shows every write that was flushed, an
image that has no mark of a job is whole, and QEMU's check finds no corruption. When a job has told
of its end, what it was to make is there, though nothing that it has not flushed may be.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from monitor.engine.graph.node import Node
from monitor.engine.jobs.backup import BackupJob
from tests.support import tools
from tests.support.bench import Bench
from tests.support.children import MemoryChild
from tests.support.graphs import add, run
from tests.support.power import Host, is_marked, shown
from tests.support.qcow2 import open_qcow2, qemu_check, read

CLUSTER = 64 << 10
SIZE = 6 * CLUSTER
CHAIN = ("low", "mid", "top")
TARGETS = ("copy", "raw", "over", "next", "plain")
"""An empty image, an empty raw one, an overlay of ``mid`` and one of ``full``, a copy; and an empty
image without a mark."""
MARKED = ("copy", "over", "next")
"""Those that tell from the beginning that they are incomplete."""


KEPT = (0.0, 0.3, 0.5, 0.9)
"""How likely a sector is on the disk that nobody has flushed: each cut once with each."""


def create(folder: Path, name: str, below: str = "") -> None:
    backing = ["-b", below, "-F", "qcow2"] if below else []
    tools.run("qemu-img", "create", "-q", "-f", "qcow2", *backing, folder / name, str(SIZE))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    tools.need("qemu-img", "qemu-io")
    folder = tmp_path_factory.mktemp("images")
    for number, (name, below) in enumerate(zip(CHAIN, ("", *CHAIN), strict=False)):
        create(folder, name, below)
        writes = [(number * CLUSTER, CLUSTER), (3 * CLUSTER + number * 8192, 8192)]
        words = [w for at, n in writes for w in ("-c", f"write -P {number + 1} {at} {n}")]
        tools.run("qemu-io", "-f", "qcow2", *words, folder / name)
    tools.run("qemu-img", "convert", "-O", "qcow2", folder / "top", folder / "full")
    create(folder, "copy")
    create(folder, "plain")
    create(folder, "over", "mid")
    create(folder, "next", "full")
    (folder / "raw").write_bytes(bytes(SIZE))
    return {name: (folder / name).read_bytes() for name in (*CHAIN, "full", *TARGETS)}


class Guest:
    """What a disk shows as its guest knows it: each write is flushed, and then lasts."""

    def __init__(self, before: bytes) -> None:
        self.before = before
        self.disk = before
        self.writes: list[tuple[int, int, int, bytes]] = []
        """(things done when it began, when its flush had ended, offset, data)"""

    def expected(self, done: int, found: bytes) -> bytes:
        """What a disk that is left as ``found`` should show; a write under way may be there."""
        disk = bytearray(self.before)
        for begun, ended, offset, data in self.writes:
            end = offset + len(data)
            if ended <= done:
                disk[offset:end] = data
            elif begun < done:
                disk[offset:end] = found[offset:end]
        return bytes(disk)


class Site(Bench):
    """The chain with a guest on it and the targets, on a host whose power will fail."""

    def __init__(self, images: Mapping[str, bytes]) -> None:
        super().__init__()
        self.host = Host()
        self.images = images
        self.guest = Guest(shown(images, "top"))
        self.copied = b""
        """What a backup is to hold."""
        self.became_ready = self.told = 0
        """Things done when the job told that it is ready, and of its end."""
        self.engine.subscribe(self._listen)

    def _listen(self, event: Any) -> None:
        if event.name == "BLOCK_JOB_READY":
            self.became_ready = len(self.host.log)
        if event.name == "BLOCK_JOB_COMPLETED":
            assert "error" not in event.data
            self.told = len(self.host.log)

    async def build(self) -> None:
        backing = {"mid": "low", "top": "mid", "next": "full"}
        for name, content in self.images.items():
            if name in MARKED:
                content = marked(content)
            add(self.engine.graph, f"{name}.file", self.host.file(name, content))
            options = {"backing": backing.get(name)} if name != "raw" else {}
            driver = "raw" if name == "raw" else "qcow2"
            await self.do(
                "blockdev-add", node_name=name, driver=driver, file=f"{name}.file", **options
            )
        self.use("top")

    async def write(self, offset: int, byte: bytes) -> None:
        """The guest writes 5000 bytes and flushes."""
        lane, root = self.drive.lane(), self.drive.roots[0]
        data = byte * 5000

        def write() -> None:
            with lane:
                root.write(memoryview(data), offset)
                root.flush()

        begun = len(self.host.log)
        await self.engine.graph.in_lane_worker(write)
        self.guest.writes.append((begun, len(self.host.log), offset, data))
        disk = bytearray(self.guest.disk)
        disk[offset : offset + len(data)] = data
        self.guest.disk = bytes(disk)
        self.drive.drop_lane(lane)

    async def to_the_end(self, *, writes: bool) -> None:
        """The guest ``writes`` at the beginning and once more when the job's work is over, or not
        at all: its flushes may hide one that the job forgets."""
        if writes:
            await self.write(CLUSTER, b"b")
        completed = False
        while (status := self.engine.jobs()[0].status) != "pending":
            if status == "ready" and not completed:
                completed = True
                if writes:
                    await self.write(2 * CLUSTER, b"r")
                await self.do("block-job-complete", device="j")
            await asyncio.sleep(0)
        if writes:
            await self.write(4 * CLUSTER, b"p")
        await self.do("job-finalize", id="j")
        await self.ended()


def marked(content: bytes) -> bytes:
    """The image as a job leaves it that was cancelled."""
    child = MemoryChild(content)
    driver = open_qcow2(child)
    driver.mark_unfinished("backup 'earlier' of 'top'")
    driver.close()
    return bytes(child.content)


NAMES = {"job-id": "j", "device": "d0", "auto-finalize": False}
BITMAP = {"bitmap": "m", "bitmap-mode": "on-success"}
BLOCKING = {"copy-mode": "write-blocking"}
JOBS: dict[str, tuple[str, dict[str, Any], str]] = {
    "stream": ("block-stream", {}, "top"),
    "stream to low": ("block-stream", {"base-node": "low", "backing-file": "low"}, "top"),
    "commit": ("block-commit", {"top-node": "mid", "backing-file": "low"}, "top"),
    "active": ("block-commit", {}, "low"),
    "mirror": ("blockdev-mirror", {"target": "copy", "sync": "full"}, "copy"),
    "mirror raw": ("blockdev-mirror", {"target": "raw", "sync": "full"}, "raw"),
    "blocking": ("blockdev-mirror", {"target": "raw", "sync": "full", **BLOCKING}, "raw"),
    "backup": ("blockdev-backup", {"target": "copy", "sync": "full"}, "copy"),
    "backup raw": ("blockdev-backup", {"target": "raw", "sync": "full"}, "raw"),
    "compressed": ("blockdev-backup", {"target": "copy", "sync": "full", "compress": True}, "copy"),
    "increment": ("blockdev-backup", {"target": "next", "sync": "incremental", **BITMAP}, "next"),
}
"""Job -> the request, and the image that shows the disk in the end."""


@pytest.mark.parametrize("writes", [True, False])
@pytest.mark.parametrize("job", JOBS)
def test_a_power_cut(tmp_path: Path, images: dict[str, bytes], job: str, writes: bool) -> None:
    command, options, _ = JOBS[job]

    async def main() -> Site:
        site = Site(images)
        await site.build()
        if job == "increment":
            await site.do("block-dirty-bitmap-add", node="top", name="m")
            await site.write(0, b"i")
        site.copied = site.guest.disk
        await site.do(command, **NAMES, **options)
        await site.to_the_end(writes=writes)
        if writes:
            await site.write(5 * CLUSTER, b"e")
        await site.engine.shut_down()
        return site

    site = run(main())
    chance = random.Random(len(site.host.log))
    for done, kept in itertools.product(range(len(site.host.log) + 1), KEPT):
        files = site.host.cut(done, chance, kept)
        try:
            look_at(site, job, done, files)
            if done % 10 == 0 and kept == 0.5:
                sound(tmp_path, files)
        except BaseException as error:
            error.add_note(f"{done} of {len(site.host.log)} done, told at {site.told}")
            raise


def look_at(site: Site, job: str, done: int, files: Mapping[str, bytes]) -> None:
    """Holds what a power cut left against what was promised by then."""
    command, _, result = JOBS[job]
    backs_up = command == "blockdev-backup"
    moves = command == "blockdev-mirror" or job == "active"
    if done < site.told or not moves:
        left = shown(files, "top")
        assert left == site.guest.expected(done, left)
    whole = done >= site.told
    if result in MARKED:
        assert not (whole and is_marked(files, result))
        whole = not is_marked(files, result)
    elif result == "raw" and "mirror" in command and site.became_ready and not site.guest.writes:
        whole = done >= site.became_ready
    if whole:
        left = shown(files, result)
        assert left == (site.copied if backs_up else site.guest.expected(done, left))


def sound(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        if name != "raw":
            (folder / name).write_bytes(content)
            assert qemu_check(folder / name)["corruptions"] == 0, name


def test_a_power_cut_while_a_drive_is_committed(tmp_path: Path, images: dict[str, bytes]) -> None:
    """HMP's ``commit``: the image is emptied when its backing image has all of it."""

    async def main() -> Site:
        site = Site(images)
        await site.build()
        await site.write(CLUSTER, b"b")
        await site.do("x-blkmon-commit", device="d0")
        site.told = len(site.host.log)
        await site.engine.shut_down()
        return site

    site = run(main())
    chance = random.Random(1)
    for done, kept in itertools.product(range(len(site.host.log) + 1), KEPT):
        files = site.host.cut(done, chance, kept)
        left = shown(files, "top")
        assert left == site.guest.expected(done, left)
        if done >= site.told:
            assert shown(files, "mid") == site.guest.disk
            assert not any(read(open_qcow2(MemoryChild(files["top"]), read_only=True)))
        if done % 10 == 0 and kept == 0.5:
            sound(tmp_path, files)


def test_the_mark_comes_first(images: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a guest was quicker, and what it overwrote is in the target already."""
    mark, wrote = BackupJob.mark_target, threading.Event()

    def marked_late(job: BackupJob, *nodes: Node) -> None:
        assert wrote.wait(20)
        mark(job, *nodes)

    async def main() -> Site:
        site = Site(images)
        await site.build()
        site.copied = site.guest.disk
        await site.do("blockdev-backup", **NAMES, target="plain", sync="full")
        await site.write(CLUSTER, b"b")
        wrote.set()
        await site.to_the_end(writes=False)
        await site.engine.shut_down()
        return site

    monkeypatch.setattr(BackupJob, "mark_target", marked_late)
    site = run(main())
    chance = random.Random(1)
    for done, kept in itertools.product(range(site.told), KEPT):
        files = site.host.cut(done, chance, kept)
        if not is_marked(files, "plain"):
            assert shown(files, "plain") in (bytes(SIZE), site.copied)
