"""What a kill or a power cut leaves of an image's bitmaps: as they were, marked, or stored anew.

A bitmap begins clean, on a disk whose contents are known. Whatever a crash leaves: where the image
says that the bitmap can be used, it covers every byte that has changed since.
"""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from monitor.engine.bitmap import DirtyBitmap
from monitor.engine.drivers.base import OpenFlags
from monitor.engine.graph.recorders import Bitmaps, noted_discard, noted_write, noted_zeroes
from tests.support import tools
from tests.support.children import Flush, MemoryChild, RecordingChild, Write, killed, power_cut
from tests.support.qcow2 import new_image, open_qcow2, qemu_check, read

SIZE = 1 << 20
BACKING = "the backing file.img"
NAMES = ("fine", "coarse", "a longer name than the others have, across a sector " * 9)


class Guest:
    """An image open with bitmaps, and requests that are noted in them as a node's are."""

    def __init__(self, child: MemoryChild, backing: MemoryChild | None = None) -> None:
        self.child = child
        self.backing = backing
        self._open()

    def _open(self) -> None:
        self.bitmaps = Bitmaps()
        self.driver = open_qcow2(self.child, self.backing, bitmaps=self.bitmaps)

    def request(self, chance: random.Random) -> None:
        note = self.bitmaps.note()
        length = chance.randint(1, 20_000)
        offset = chance.randint(0, SIZE - length)
        match chance.randint(0, 3):
            case 0:
                noted_zeroes(self.driver.write_zeroes, note)(offset, length, False, False)
            case 1:
                noted_discard(self.driver.discard, note)(offset, length)
            case _:
                data = memoryview(chance.randbytes(length))
                noted_write(self.driver.write, note)(data, offset)

    def add(self, name: str, granularity: int) -> DirtyBitmap:
        bitmap = DirtyBitmap(SIZE, granularity, name)
        bitmap.persistent = True
        self.bitmaps.add(bitmap)
        return bitmap

    def reopen(self) -> None:
        self.driver.close()
        self._open()


def begin(cluster_size: int, *, backing: bool) -> RecordingChild:
    image = new_image(SIZE, cluster_size=cluster_size)
    if backing:
        driver = open_qcow2(image)
        driver.set_backing(BACKING, "raw")
        driver.close()
    return RecordingChild(image.content)


def write_with_bitmaps(guest: Guest, chance: random.Random) -> None:
    """Opened, written, closed, twice; a bitmap removed and another one added on the way."""
    for round in range(3):
        for _ in range(4):
            guest.request(chance)
        if chance.random() < 0.5:
            guest.driver.flush()
        if round == 1:
            guest.driver.remove_bitmap("coarse")
            found = guest.bitmaps.get("coarse")
            assert found is not None
            guest.bitmaps.remove(found)
        guest.reopen()


def first_bitmaps(guest: Guest, chance: random.Random) -> None:
    """The image has none yet: the extension comes in, and goes out again with the last."""
    for name in NAMES:
        guest.add(name, 4096)
    guest.reopen()
    guest.request(chance)
    guest.reopen()
    for name in NAMES:
        guest.driver.remove_bitmap(name)
        found = guest.bitmaps.get(name)
        assert found is not None
        guest.bitmaps.remove(found)
    guest.reopen()


def verify(child: MemoryChild, reference: bytes, backing: MemoryChild | None) -> set[str]:
    """Opens what a crash left; the names of the bitmaps that can be used."""
    bitmaps = Bitmaps()
    driver = open_qcow2(child, backing, bitmaps=bitmaps, read_only=True)
    content = read(driver)
    assert driver.backing_filename == (BACKING if backing else None)
    usable = set()
    for bitmap in bitmaps:
        assert bitmap.name is not None
        if bitmap.inconsistent:
            continue
        usable.add(bitmap.name)
        covered = bytearray(content)
        for offset, length in bitmap.areas():
            covered[offset : offset + length] = reference[offset : offset + length]
        assert covered == reference, bitmap.name
    return usable


Scenario = Callable[[Guest, random.Random], None]


@pytest.mark.parametrize("backing", [False, True])
@pytest.mark.parametrize("cluster_size", [1024, 65536])
@pytest.mark.parametrize("scenario", [write_with_bitmaps, first_bitmaps], ids=lambda s: s.__name__)
def test_crash(tmp_path: Path, scenario: Scenario, cluster_size: int, backing: bool) -> None:
    chance = random.Random(cluster_size + backing)
    below = MemoryChild(chance.randbytes(SIZE)) if backing else None
    child = begin(cluster_size, backing=backing)
    guest = Guest(child, below)
    guest.request(chance)
    if scenario is write_with_bitmaps:
        for name, granularity in zip(NAMES, (512, 65536, 4096), strict=True):
            guest.add(name, granularity)
        guest.reopen()
        for bitmap in guest.bitmaps:
            bitmap.clear()
    guest.driver.close()
    reference = read(open_qcow2(child, below, read_only=True))
    child.begin, child.events = bytes(child.content), []
    guest = Guest(child, below)
    scenario(guest, chance)
    guest.driver.close()
    seen: set[frozenset[str]] = set()
    path = tmp_path / "a.qcow2"
    (tmp_path / BACKING).write_bytes(below.content if below else b"")
    for number, (_, content) in enumerate(killed(child.begin, child.events)):
        seen.add(frozenset(verify(MemoryChild(content), reference, below)))
        if number % 40 == 0:
            path.write_bytes(content)
            assert qemu_check(path)["corruptions"] == 0
    for _ in range(150):
        done = chance.randint(0, len(child.events))
        content = power_cut(child.begin, child.events, done, chance)
        verify(MemoryChild(content), reference, below)
    whole = {"fine", NAMES[2]} if scenario is write_with_bitmaps else set(NAMES)
    assert frozenset(whole) in seen  # stored anew
    assert frozenset() in seen
    assert child.content[88:96] == bytes(7) + bytes([scenario is write_with_bitmaps])
    path.write_bytes(child.content)
    assert qemu_check(path) == {"leaks": 0, "corruptions": 0}


def test_a_reopening_that_is_given_up_marks_them_again() -> None:
    """They were stored for the image to become read-only, and then it stayed as it was."""
    child = begin(65536, backing=False)
    guest = Guest(child)
    guest.add("b0", 65536)
    guest.reopen()
    for _ in range(2):
        prepared = guest.driver.prepare_reopen(OpenFlags(read_only=True, unmap=True))
        assert prepared is not None
        assert verify(MemoryChild(child.content), bytes(SIZE), None) == {"b0"}
        prepared.abort()
        noted_write(guest.driver.write, guest.bitmaps.note())(memoryview(b"x"), 0)
        guest.driver.flush()
        assert verify(MemoryChild(child.content), bytes(SIZE), None) == set()


def test_the_mark_is_there_before_the_first_change() -> None:
    child = begin(65536, backing=False)
    guest = Guest(child)
    guest.add("b0", 65536)
    guest.reopen()
    guest.driver.close()
    child.events = []
    Guest(child)
    write, flush = child.events
    assert isinstance(write, Write)
    assert len(write.data) == 4
    assert isinstance(flush, Flush)


def test_killed_at_any_moment(tmp_path: Path) -> None:
    """A process on a real file; qemu-img reads what it left."""
    tools.need("qemu-img")
    path, copy = tmp_path / "a.qcow2", tmp_path / "copy.qcow2"
    path.write_bytes(new_image(SIZE + 8192).content)
    tools.run("qemu-img", "bitmap", "--add", "-g", "4k", path, "b0")
    whole = path.read_bytes()
    chance = random.Random(7)
    seen = set()
    for seed in range(8):
        path.write_bytes(whole)
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.support.bitmap_child", path, str(seed)],
            stdout=subprocess.PIPE,
        )
        assert child.stdout
        for _ in range(chance.randint(1, 4)):
            child.stdout.readline()
        try:
            child.wait(chance.random() * 0.03)
        except subprocess.TimeoutExpired:
            child.kill()
        child.communicate()
        left = MemoryChild(path.read_bytes())
        seen.add(bool(verify(left, bytes(SIZE + 8192), None)))
        copy.write_bytes(left.content)
        assert qemu_check(copy)["corruptions"] == 0
    assert False in seen
