"""Growing with storage, and shrinking, beside what ``qemu-img resize`` leaves."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import pytest

from monitor.engine.errors import RequestError
from tests.support.children import MemoryChild
from tests.support.edges import DriverEdge
from tests.support.files import open_file
from tests.support.qcow2 import Disk, new_image, open_qcow2, qemu_check, qemu_content, write
from tests.support.tools import need, run

SOUND = {"leaks": 0, "corruptions": 0}
MIB = 1 << 20


@pytest.fixture(autouse=True)
def tools() -> None:
    need("qemu-img", "qemu-io")


def made(path: Path, options: str, size: int) -> Path:
    """A half full image, QEMU's."""
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, path, str(size))
    run("qemu-io", "-f", "qcow2", "-c", f"write -P 1 0 {size}", path)
    run("qemu-io", "-f", "qcow2", "-c", f"discard 0 {size // 2}", path)
    return path


@pytest.mark.parametrize("target", [3 * MIB + 512, 65536, 512])
@pytest.mark.parametrize(
    "options",
    ["cluster_size=512", "cluster_size=64k", "cluster_size=2M", "compat=0.10", "refcount_bits=1"],
)
def test_a_smaller_disk_is_a_smaller_file(tmp_path: Path, options: str, target: int) -> None:
    path, other = made(tmp_path / "a.qcow2", options, 8 * MIB), tmp_path / "b.qcow2"
    other.write_bytes(path.read_bytes())
    file = DriverEdge(open_file(path))
    disk = open_qcow2(file)
    disk.truncate(target)
    disk.close()
    file.driver.close()
    run("qemu-img", "resize", "-q", "-f", "qcow2", "--shrink", other, str(target))
    assert qemu_check(path) == SOUND
    assert qemu_content(path) == qemu_content(other)
    # Tables lie in another order here; at most as many clusters are left below the last one.
    assert path.stat().st_size <= other.stat().st_size + 2 * (disk.cluster_size() or 0)


def test_shared_clusters_survive_in_the_snapshot(tmp_path: Path) -> None:
    path = made(tmp_path / "a.qcow2", "cluster_size=4k", 8 * MIB)
    run("qemu-img", "snapshot", "-c", "before", path)
    file = DriverEdge(open_file(path))
    disk = open_qcow2(file)
    disk.truncate(5 * MIB)
    write(disk, 0, b"after")
    disk.close()
    file.driver.close()
    assert qemu_check(path) == SOUND
    run("qemu-img", "snapshot", "-q", "-a", "before", path)
    assert qemu_content(path) == bytes(4 * MIB) + b"\1" * (4 * MIB)


def test_what_was_cut_off_does_not_come_back() -> None:
    child = new_image(8 * MIB, cluster_size=4096)
    disk = Disk(child)
    disk.write(0, b"old" * (8 * MIB // 3))
    for size in (5 * MIB, 4096 * 3 + 512, 7 * MIB, 0, 6 * MIB):
        disk.truncate(size)
        disk.check()
    disk.reopen()
    disk.check()


@pytest.mark.parametrize("mode", ["off", "metadata", "falloc", "full"])
@pytest.mark.parametrize("options", ["cluster_size=64k", "cluster_size=4k", "compat=0.10"])
def test_growing_with_storage(tmp_path: Path, options: str, mode: str) -> None:
    path, other = made(tmp_path / "a.qcow2", options, 4 * MIB), tmp_path / "b.qcow2"
    other.write_bytes(path.read_bytes())
    file = DriverEdge(open_file(path))
    disk = Disk(file)
    disk.model[2 * MIB :] = b"\1" * (2 * MIB)
    disk.driver.grow(9 * MIB, mode)
    disk.model.extend(bytes(5 * MIB))
    disk.check()
    disk.write(6 * MIB + 100, b"in place")
    disk.driver.close()
    file.driver.close()
    run("qemu-img", "resize", "-q", "-f", "qcow2", f"--preallocation={mode}", other, str(9 * MIB))
    assert qemu_check(path) == SOUND
    assert qemu_content(path) == disk.model
    held, theirs = path.stat().st_blocks * 512, other.stat().st_blocks * 512
    assert theirs - 3 * MIB < held <= theirs + 65536  # discarded clusters are used again here
    assert (held > 6 * MIB) is (mode in ("falloc", "full"))


def test_clusters_in_the_middle_of_the_file_are_zeroed_first() -> None:
    """Preallocated clusters may be old ones: what they held does not show."""
    child = new_image(2 * MIB, cluster_size=4096)
    disk = Disk(child)
    disk.write(0, b"old" * (2 * MIB // 3))
    disk.discard(0, MIB)
    disk.driver.flush()
    disk.driver.grow(3 * MIB, "metadata")
    disk.model.extend(bytes(MIB))
    disk.check()


class Short(MemoryChild):
    """A disk that is full when the file is longer than that."""

    limit = 1 << 62

    def truncate(self, size: int) -> None:
        if size > max(self.limit, self.length()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().truncate(size)


def test_a_full_disk_leaves_the_image_as_it_was(tmp_path: Path) -> None:
    child = Short(bytes(new_image(MIB, cluster_size=512).content))
    disk = Disk(child)
    chance = random.Random(1)
    disk.write(5000, chance.randbytes(300_000))
    disk.driver.flush()
    child.limit = 45 * MIB
    for mode in ("metadata", "falloc", "full"):
        with pytest.raises(RequestError) as caught:
            disk.driver.grow(90 * MIB, mode)  # several pieces: the first ones succeed
        assert caught.value.text == ("Failed to resize underlying file: No space left on device")
        disk.check()
    disk.driver.close()
    assert child.length() < child.limit  # the refcount blocks stay where they are
    path = tmp_path / "a.qcow2"
    path.write_bytes(child.content)
    assert qemu_check(path) == SOUND
    assert qemu_content(path) == disk.model


def test_refusals() -> None:
    disk = open_qcow2(new_image(MIB))
    with pytest.raises(RequestError) as caught:
        disk.grow(MIB // 2, "full")
    assert caught.value.text == "Preallocation can't be used for shrinking an image"
    with pytest.raises(RequestError) as caught:
        disk.grow(MIB + 100, "full")
    assert caught.value.text == "The new size must be a multiple of 512"
