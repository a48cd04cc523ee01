"""What a kill or a power cut leaves of an image, at any moment: at worst leaked clusters.

Every scenario runs on a child that records what it is told to do. Replaying a part of the record
gives what the disk may hold after a crash. Such an image opens, QEMU's check finds no corruption,
and each byte is what the last completed flush made durable or what was written since.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.children import HostChild, MemoryChild, RecordingChild, Write, killed, power_cut
from tests.support.qcow2 import new_image, open_qcow2, qemu_check
from tests.support.stories import Story, verify
from tests.support.tools import need, run


@pytest.fixture(autouse=True)
def tools() -> None:
    need("qemu-img", "qemu-io")


def crash(story: Story, path: Path, seed: int) -> None:
    """Kills the story after each event, and cuts its power in many ways."""
    story.flush()
    events = story.child.events
    step = max(1, len(events) // 15)
    for done, content in killed(story.child.begin, events):
        verify(story, done, content, path, ask_qemu=done % step == 0)
    chance = random.Random(seed)
    for number in range(60):
        done = chance.randint(0, len(events))
        content = power_cut(story.child.begin, events, done, chance)
        verify(story, done, content, path, ask_qemu=number % 3 == 0)


def allocate(story: Story, chance: random.Random) -> None:
    for _ in range(6):
        offset = chance.randrange(story.size - 40_000)
        story.write(offset, chance.randbytes(chance.choice([512, 4096, 40_000])))
        if chance.random() < 0.5:
            story.flush()


def copy_on_write(story: Story, chance: random.Random) -> None:
    for _ in range(8):
        offset = chance.randrange(story.size - 5000)
        story.write(offset, chance.randbytes(chance.choice([1, 700, 5000])))
        if chance.random() < 0.3:
            story.flush()


def discard_and_reuse(story: Story, chance: random.Random) -> None:
    story.write(0, chance.randbytes(story.size))
    story.flush()
    for _ in range(6):
        offset = chance.randrange(story.size - 70_000)
        story.discard(offset, 70_000)
        if chance.random() < 0.5:
            story.flush()
        story.write(chance.randrange(story.size - 20_000), chance.randbytes(20_000))
        if chance.random() < 0.5:
            story.flush()


def zero_and_write(story: Story, chance: random.Random) -> None:
    story.write(0, chance.randbytes(story.size // 2))
    story.flush()
    for _ in range(6):
        offset = chance.randrange(story.size - 90_000)
        story.write_zeroes(offset, 90_000, chance.random() < 0.5)
        story.write(chance.randrange(story.size - 3000), chance.randbytes(3000))
        if chance.random() < 0.4:
            story.flush()


def resize(story: Story, chance: random.Random) -> None:
    story.write(0, chance.randbytes(20_000))
    story.truncate(story.size * 3)
    story.write(story.size - 9000, chance.randbytes(9000))
    story.flush()
    story.truncate(story.size // 2)
    story.write(0, chance.randbytes(100))
    story.truncate(story.size * 4)


def preallocate(story: Story, chance: random.Random) -> None:
    """Growing with storage, also over clusters that held something; and shrinking in between."""
    story.write(0, chance.randbytes(300_000))
    story.discard(0, 100_000)
    story.grow(story.size + 200_000 // 512 * 512, "metadata")
    story.write(story.size - 5000, chance.randbytes(5000))
    story.flush()
    story.truncate(story.size // 3 // 512 * 512)
    story.write(1000, chance.randbytes(30_000))
    story.grow(story.size * 3, "full")
    story.write(story.size - 70_000, chance.randbytes(60_000))


def compress(story: Story, chance: random.Random) -> None:
    """Packed clusters that come, are written over, discarded, and come again."""
    cluster = story.driver.cluster_size() or 1
    for _ in range(12):
        count = chance.randint(1, max(2, 20_000 // cluster))
        first = chance.randrange(story.size // cluster - count + 1)
        shrinking = bytes(chance.choices(b"abcd", k=cluster - 60)) + chance.randbytes(60)
        story.write_compressed(first * cluster, shrinking * count)
        if chance.random() < 0.4:
            story.flush()
        if chance.random() < 0.4:
            story.write(first * cluster + 100, chance.randbytes(300))
        if chance.random() < 0.4:
            story.discard(first * cluster, count * cluster)
        if chance.random() < 0.4:
            story.flush()


def copy_past_the_driver(story: Story, chance: random.Random) -> None:
    """Reservations, committed and given up, of clusters that have no storage yet. (What was in use
    is written over in place, and is mixed after an abort.)"""
    cluster = story.driver.cluster_size() or 1
    for first in range(0, story.size // cluster, max(1, 150_000 // cluster)):
        length = min(chance.choice([cluster, 100_000]), story.size - first * cluster)
        length = max(cluster, length // cluster * cluster)
        offset = first * cluster
        story.copy_into(offset, chance.randbytes(length), commit=chance.random() < 0.7)
        if chance.random() < 0.4:
            story.flush()
        if chance.random() < 0.4:
            story.discard(offset, length)
        if chance.random() < 0.4:
            story.flush()


def scatter(story: Story, chance: random.Random) -> None:
    """Many clusters far apart at once: absent ones, ones in use, ones given up before."""
    cluster = story.driver.cluster_size() or 1
    clusters = story.size // cluster
    for _ in range(8):
        places = sorted(chance.sample(range(clusters), k=min(clusters, 12)))[::2]
        ranges = [(at * cluster, cluster) for at in places]
        story.write_ranges(chance.randbytes(len(ranges) * cluster), ranges)
        if chance.random() < 0.4:
            story.flush()
        if chance.random() < 0.4:
            story.discard(places[0] * cluster, cluster * 4)
        if chance.random() < 0.4:
            story.write(places[-1] * cluster + 100, chance.randbytes(300))


def one_by_one(story: Story, chance: random.Random) -> None:
    """Requests within a cluster, each flushed by itself: no other one's barrier orders it."""
    cluster = story.driver.cluster_size() or 1
    for number in range(8):
        first = chance.randrange(story.size // cluster)
        if number % 2:
            story.write(first * cluster, chance.randbytes(512))
        else:
            shrinking = bytes(chance.choices(b"abcd", k=cluster - 60)) + chance.randbytes(60)
            story.write_compressed(first * cluster, shrinking)
        story.flush()


def empty(story: Story, chance: random.Random) -> None:
    """The file is as short as a new one: of its refcount blocks only the first one stays."""
    begun = len(story.child.content)
    for _ in range(2):
        for offset in range(0, story.size, 32768):  # so that each block lies among its clusters
            story.write(offset, chance.randbytes(32768))
        story.flush()
        story.make_empty()
        assert len(story.child.content) <= begun + 65536  # a new one ends within its last cluster
        story.write(chance.randrange(story.size - 40_000), chance.randbytes(40_000))
        story.flush()


SCENARIOS = [
    empty,
    allocate,
    copy_on_write,
    discard_and_reuse,
    zero_and_write,
    resize,
    preallocate,
    compress,
    copy_past_the_driver,
    scatter,
]
Scenario = Callable[[Story, random.Random], None]


@pytest.mark.parametrize("cluster_size", [512, 4096, 65536])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.__name__)
def test_crash(tmp_path: Path, scenario: Scenario, cluster_size: int) -> None:
    begin = new_image(1 << 20, cluster_size=cluster_size)
    story = Story(HostChild(begin.content))
    scenario(story, random.Random(cluster_size))
    crash(story, tmp_path / "a.qcow2", cluster_size)


@pytest.mark.parametrize("cluster_size", [512, 65536])
@pytest.mark.parametrize(
    "scenario", [copy_on_write, zero_and_write, empty], ids=lambda s: s.__name__
)
def test_crash_on_a_backing_file(tmp_path: Path, scenario: Scenario, cluster_size: int) -> None:
    begin = new_image(1 << 20, cluster_size=cluster_size)
    backing = MemoryChild(random.Random(1).randbytes(600_000))
    story = Story(RecordingChild(begin.content), backing)
    scenario(story, random.Random(cluster_size))
    crash(story, tmp_path / "a.qcow2", cluster_size)


def test_crash_while_the_refcount_table_grows(tmp_path: Path) -> None:
    """One cluster of table covers 4 MiB here: it moves twice."""
    begin = new_image(16 << 20, cluster_size=512, refcount_bits=64)
    story = Story(RecordingChild(begin.content))
    table = story.child.content[48:56]
    chance = random.Random(5)
    for offset in range(0, 8 << 20, 1 << 20):
        story.write(offset, chance.randbytes(64) * 16384)
        if chance.random() < 0.5:
            story.flush()
    story.flush()
    assert story.child.content[48:56] != table
    events = story.child.events
    moved = [i for i, event in enumerate(events) if isinstance(event, Write) and event.offset == 48]
    assert moved
    moments = [i + near for i in moved for near in range(-3, 4)] * 3
    moments += range(0, len(events), max(1, len(events) // 10))
    for done in moments:
        content = power_cut(story.child.begin, events, done, chance)
        verify(story, done, content, tmp_path / "a.qcow2", ask_qemu=True)


@pytest.mark.parametrize("cluster_size", [512, 65536])
def test_crash_with_internal_snapshots(tmp_path: Path, cluster_size: int) -> None:
    path = tmp_path / "a.qcow2"
    run("qemu-img", "create", "-f", "qcow2", "-o", f"cluster_size={cluster_size}", path, "1M")
    run("qemu-io", "-f", "qcow2", "-c", "write -P 1 0 700k", path)
    run("qemu-img", "snapshot", "-c", "before", path)
    story = Story(RecordingChild(path.read_bytes()))
    story.model[: 700 << 10] = b"\1" * (700 << 10)
    story.states = [(0, bytes(story.model))]
    copy_on_write(story, random.Random(2))
    crash(story, path, 3)


@pytest.mark.parametrize("cluster_size", [512, 65536])
@pytest.mark.parametrize(
    "scenario",
    [allocate, discard_and_reuse, resize, compress, one_by_one],
    ids=lambda s: s.__name__,
)
def test_crash_with_lazy_refcounts(tmp_path: Path, scenario: Scenario, cluster_size: int) -> None:
    """Refcounts may be anything then, and the dirty bit says so: opening counts anew."""
    begin = new_image(1 << 20, cluster_size=cluster_size, lazy_refcounts=True)
    story = Story(HostChild(begin.content))
    scenario(story, random.Random(cluster_size))
    story.flush()
    events = story.child.events
    chance = random.Random(3)
    path = tmp_path / "a.qcow2"
    dirty = 0
    for number in range(60):
        done = chance.randint(0, len(events))
        left = MemoryChild(power_cut(story.child.begin, events, done, chance))
        dirty += left.content[79] & 1
        open_qcow2(left).close()
        assert not left.content[79] & 1
        verify(story, done, bytes(left.content), path, ask_qemu=number % 3 == 0)
    assert dirty


def test_everything_is_durable_after_close(tmp_path: Path) -> None:
    begin = new_image(1 << 20, cluster_size=4096)
    story = Story(RecordingChild(begin.content))
    chance = random.Random(9)
    discard_and_reuse(story, chance)
    story.driver.close()
    path = tmp_path / "a.qcow2"
    path.write_bytes(story.child.content)
    assert qemu_check(path) == {"leaks": 0, "corruptions": 0}
