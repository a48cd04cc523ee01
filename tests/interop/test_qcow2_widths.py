"""Refcounts of 1 to 64 bits: written, grown, repaired, shared; and where a width ends."""

from __future__ import annotations

import errno
import random
from pathlib import Path

import numpy as np
import pytest

from monitor.engine.drivers.qcow2.image import Image
from tests.support.edges import DriverEdge
from tests.support.files import open_file
from tests.support.qcow2 import Disk, new_image, open_qcow2, qemu_check, qemu_content, write
from tests.support.tools import need, run

SOUND = {"leaks": 0, "corruptions": 0}
WIDTHS = [1, 2, 4, 8, 16, 32, 64]
MIB = 1 << 20

every_width = pytest.mark.parametrize("bits", WIDTHS)


@pytest.fixture(autouse=True)
def tools() -> None:
    need("qemu-img", "qemu-io")


@every_width
def test_writing_and_growing_tables(tmp_path: Path, bits: int) -> None:
    """With 512 byte clusters a block counts 64 clusters (64 bits) to 4,096 (1 bit), and the table
    of them moves as the file grows."""
    child = new_image(24 * MIB, cluster_size=512, refcount_bits=bits)
    disk = Disk(child)
    chance = random.Random(bits)
    for offset in range(0, 12 * MIB, 3 * MIB):
        disk.write(offset, chance.randbytes(64) * (2 * MIB // 64))
        disk.discard(offset + 1000, 300_000)
        disk.driver.flush()
    disk.truncate(20 * MIB)
    disk.write(19 * MIB, b"end")
    disk.driver.close()
    path = tmp_path / "a.qcow2"
    path.write_bytes(child.content)
    assert qemu_check(path) == SOUND
    assert qemu_content(path) == disk.model


@every_width
def test_counts_are_rebuilt(tmp_path: Path, bits: int) -> None:
    """All refcount blocks are garbage: a check that mends makes them what they should be."""
    child = new_image(4 * MIB, cluster_size=4096, refcount_bits=bits)
    disk = open_qcow2(child)
    write(disk, MIB, b"kept" * 200_000)
    disk.close()
    table = int.from_bytes(child.content[48:56], "big")
    block = int.from_bytes(child.content[table : table + 8], "big")
    low = -(-64 * bits // 8)  # what counts the metadata at the beginning stays
    child.content[block + low : block + 4096] = random.Random(bits).randbytes(4096 - low)
    child.content[block + low + 64 : block + 4096] = bytes(4096 - low - 64)
    disk = open_qcow2(child)
    report = disk.check("all")
    assert report.leaks_fixed or report.corruptions_fixed
    assert not report.leaks
    assert not report.corruptions
    disk.close()
    path = tmp_path / "a.qcow2"
    path.write_bytes(child.content)
    assert qemu_check(path) == SOUND
    assert qemu_content(path) == bytes(MIB) + (b"kept" * 200_000).ljust(3 * MIB, b"\0")


@pytest.mark.parametrize("bits", WIDTHS[1:])
def test_clusters_shared_with_a_snapshot(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "a.qcow2"
    options = f"cluster_size=4k,refcount_bits={bits}"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, path, "4M")
    run("qemu-io", "-f", "qcow2", "-c", "write -P 1 0 2M", path)
    run("qemu-img", "snapshot", "-c", "one", path)
    run("qemu-img", "snapshot", "-c", "two", path)
    file = DriverEdge(open_file(path))
    disk = open_qcow2(file)
    write(disk, 100_000, b"mine" * 100_000)
    disk.discard(MIB, 300_000)
    disk.close()
    file.driver.close()
    assert qemu_check(path) == SOUND
    run("qemu-img", "snapshot", "-d", "one", path)
    run("qemu-img", "snapshot", "-a", "two", path)
    assert qemu_check(path) == SOUND
    assert qemu_content(path) == b"\1" * (2 * MIB) + bytes(2 * MIB)


@every_width
def test_a_counter_never_wraps(bits: int) -> None:
    """One reference too many is refused with EINVAL, as QEMU does, and changes nothing."""
    image = Image(new_image(MIB, cluster_size=4096, refcount_bits=bits), read_only=False)
    image.begin_changes()
    with image.lock:
        cluster = image.refcounts.allocate(1)
        several = np.array([cluster], np.uint64)
        limit = (1 << bits) - 1
        if bits <= 8:
            for _ in range(limit - 1):
                image.refcounts.add(several)
        else:
            block = image.refcounts.block(0)
            assert block is not None
            block.counters[cluster] = limit
        with pytest.raises(OSError) as caught:
            image.refcounts.add(np.array([cluster, cluster], np.uint64))
        assert caught.value.errno == errno.EINVAL
        with pytest.raises(OSError) as caught:
            image.refcounts.add(several)
        assert caught.value.errno == errno.EINVAL
        assert image.refcounts.get(cluster) == limit
        image.refcounts.release(several)
        assert image.refcounts.get(cluster) == limit - 1
