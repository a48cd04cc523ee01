"""A crash while internal snapshots are made, gone back to and deleted: QEMU's check finds no
corruption at any moment, the disk reads as before or after, and each snapshot listed as it was."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from monitor.engine.drivers.base import NewSnapshot
from tests.support.children import MemoryChild, RecordingChild, killed, power_cut
from tests.support.qcow2 import new_image, open_qcow2, read
from tests.support.stories import Story, verify
from tests.support.tools import need


@pytest.fixture(autouse=True)
def tools() -> None:
    need("qemu-img")


class SnapshotStory(Story):
    """Remembers what each snapshot must read as, by name."""

    def __init__(self, child: RecordingChild) -> None:
        self.kept: dict[str, bytes] = {}
        super().__init__(child)

    def take(self) -> None:
        name = f"s{len(self.kept)}"
        self.kept[name] = bytes(self.model)
        self.driver.create_snapshot(NewSnapshot(name, 1, 0))
        self.durable()

    def apply(self, number: int) -> None:
        name = self.driver.snapshots()[number]["name"]
        with self.changing():
            self.driver.apply_snapshot(number)
            self.model = bytearray(self.kept[name])
        self.durable()

    def delete(self, number: int) -> None:
        self.driver.delete_snapshot(number)

    def check_snapshots(self, content: bytes) -> None:
        driver = open_qcow2(MemoryChild(content))
        for number, snapshot in enumerate(driver.snapshots()):
            driver.apply_snapshot(number)
            assert read(driver) == self.kept[snapshot["name"]]


def live(story: SnapshotStory, chance: random.Random) -> None:
    """Every kind of change, on a disk with data that snapshots share and data that they do not."""
    story.write(0, chance.randbytes(60_000))
    story.take()
    story.write(20_000, chance.randbytes(60_000))
    story.take()
    story.write(50_000, chance.randbytes(5000))
    story.apply(0)
    story.write(10_000, chance.randbytes(9000))
    story.delete(1)
    story.truncate(story.size * 2)
    story.take()
    story.delete(0)
    story.write(0, chance.randbytes(30_000))
    story.apply(0)


@pytest.mark.parametrize(("cluster_size", "refcount_bits"), [(512, 64), (4096, 16), (65536, 16)])
def test_crash_while_snapshots_change(
    tmp_path: Path, cluster_size: int, refcount_bits: int
) -> None:
    begin = new_image(1 << 19, cluster_size=cluster_size, refcount_bits=refcount_bits)
    story = SnapshotStory(RecordingChild(begin.content))
    chance = random.Random(cluster_size)
    live(story, chance)
    story.flush()
    events = story.child.events
    step = max(1, len(events) // 40)
    path = tmp_path / "a.qcow2"
    for done, content in killed(story.child.begin, events):
        verify(story, done, content, path, ask_qemu=done % step == 0)
        if done % 5 == 0:
            story.check_snapshots(content)
    for number in range(60):
        done = chance.randint(0, len(events))
        content = power_cut(story.child.begin, events, done, chance)
        verify(story, done, content, path, ask_qemu=number % 2 == 0)
        story.check_snapshots(content)
