"""Compressed clusters written here, as QEMU's tools see them."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from monitor.engine.drivers.qcow2 import CreateOptions, create_image
from tests.support.children import MemoryChild
from tests.support.qcow2 import Disk, new_image, open_qcow2, qemu_check, qemu_content, read, write
from tests.support.tools import need, run

SOUND = {"leaks": 0, "corruptions": 0}


@pytest.fixture(autouse=True)
def tools() -> None:
    need("qemu-img", "qemu-io")


def mixed(size: int, seed: int = 1) -> bytes:
    """Text that shrinks well, text that shrinks little, noise, and zeroes."""
    chance = random.Random(seed)
    parts: list[bytes] = []
    while sum(map(len, parts)) < size:
        length = chance.choice([3000, 20_000, 90_000])
        kind = chance.randrange(4)
        if kind == 0:
            parts.append(bytes(length))
        elif kind == 1:
            parts.append(b"the quick brown fox " * (length // 20))
        elif kind == 2:
            parts.append(bytes(chance.choices(b"abcdefghijklmnop", k=length)))
        else:
            parts.append(chance.randbytes(length))
    return b"".join(parts)[:size]


def saved(child: MemoryChild, path: Path) -> Path:
    path.write_bytes(child.content)
    return path


@pytest.mark.parametrize("kind", ["zlib", "zstd"])
@pytest.mark.parametrize("cluster_size", [512, 4096, 65536, 2 << 20])
def test_qemu_reads_what_was_compressed(tmp_path: Path, kind: str, cluster_size: int) -> None:
    content = mixed((3 << 20) + 512)  # the last cluster is cut short
    child = new_image(len(content), cluster_size=cluster_size, compression_type=kind)
    disk = open_qcow2(child)
    step = 3 * cluster_size
    for offset in range(0, len(content), step):
        disk.write_compressed(memoryview(content[offset : offset + step]), offset)
    assert read(disk) == content
    disk.close()
    path = saved(child, tmp_path / "a.qcow2")
    assert qemu_check(path) == SOUND
    assert qemu_content(path) == content


def test_clusters_are_packed_as_qemu_packs_them(tmp_path: Path) -> None:
    """The same data through qemu-img convert -c: a file as long, to a cluster."""
    content = mixed(8 << 20, seed=4)
    raw, theirs = tmp_path / "a.raw", tmp_path / "theirs.qcow2"
    raw.write_bytes(content)
    run("qemu-img", "convert", "-c", "-W", "-m", "1", "-O", "qcow2", raw, theirs)
    child = new_image(len(content))
    disk = open_qcow2(child)
    for offset in range(0, len(content), 1 << 20):
        part = memoryview(content)[offset : offset + (1 << 20)]
        disk.write_compressed(part, offset)
    disk.close()
    zero_clusters = sum(
        not any(content[at : at + 65536]) for at in range(0, len(content), 65536)
    )  # which convert leaves out
    ours = saved(child, tmp_path / "ours.qcow2").stat().st_size
    assert abs(ours - theirs.stat().st_size) <= 65536 + zero_clusters * 100
    run("qemu-img", "compare", "-f", "qcow2", "-F", "raw", tmp_path / "ours.qcow2", raw)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16, 32, 64])
def test_a_narrow_refcount_limits_how_many_share_a_cluster(tmp_path: Path, bits: int) -> None:
    """One bit: a host cluster for each. Two bits: three to one."""
    content = b"x" * (40 * 4096)
    child = new_image(len(content), cluster_size=4096, refcount_bits=bits)
    disk = open_qcow2(child)
    before = len(child.content)
    disk.write_compressed(memoryview(content), 0)
    disk.close()
    used = (len(child.content) - before) // 4096
    assert used >= 40 // min((1 << bits) - 1, 40)
    path = saved(child, tmp_path / "a.qcow2")
    assert qemu_check(path) == SOUND
    assert qemu_content(path) == content


def test_written_over_again_and_again(tmp_path: Path) -> None:
    """Plain over compressed, compressed over plain and over compressed, discarded in between."""
    child = new_image(2 << 20, cluster_size=4096)
    disk = Disk(child)
    chance = random.Random(11)
    for step in range(120):
        first = chance.randrange(480)
        data = mixed(4096 * chance.randint(1, 30), step)
        offset = first * 4096
        data = data[: disk.size - offset]
        kind = chance.randrange(4)
        if kind < 2:
            disk.driver.write_compressed(memoryview(data), offset)
            disk.model[offset : offset + len(data)] = data
        elif kind == 2:
            disk.write(offset + 5, data[:-5])
        else:
            disk.discard(offset, len(data))
        if chance.random() < 0.2:
            disk.driver.flush()
        if chance.random() < 0.05:
            disk.reopen()
    disk.check()
    disk.driver.close()
    path = saved(child, tmp_path / "a.qcow2")
    assert qemu_check(path) == SOUND
    assert qemu_content(path) == disk.model


def test_qemu_goes_on_with_an_image_that_was_compressed_here(tmp_path: Path) -> None:
    content = mixed(1 << 20)
    child = new_image(2 << 20)
    disk = open_qcow2(child)
    disk.write_compressed(memoryview(content), 0)
    disk.close()
    path = saved(child, tmp_path / "a.qcow2")
    run("qemu-io", "-f", "qcow2", "-c", "write -c -P 7 1M 64k", "-c", "write -P 9 100k 3k", path)
    expected = bytearray(content + bytes(1 << 20))
    expected[1 << 20 : (1 << 20) + 65536] = b"\7" * 65536
    expected[100 << 10 : 103 << 10] = b"\x09" * 3072
    assert qemu_check(path) == SOUND
    assert qemu_content(path) == expected


@pytest.mark.parametrize(("offset", "length"), [(512, 65536), (0, 65000), (65536, 100)])
def test_parts_of_clusters_are_refused(offset: int, length: int) -> None:
    disk = open_qcow2(new_image(1 << 20))
    with pytest.raises(OSError, match="Invalid argument"):
        disk.write_compressed(memoryview(bytes(length)), offset)


def test_no_refcount_is_left_when_the_write_fails(tmp_path: Path) -> None:
    """The data does not reach the file: what was allocated is free again."""

    class Full(MemoryChild):
        full = False

        def write(self, buffer: memoryview, offset: int) -> None:
            if self.full:
                raise OSError(28, "No space left on device")
            super().write(buffer, offset)

    child = Full()
    create_image(child, CreateOptions(1 << 20, cluster_size=4096))
    disk = open_qcow2(child)
    write(disk, 0, b"first" * 100)
    disk.write_compressed(memoryview(b"kept" * 1024), 8192)
    child.full = True
    with pytest.raises(OSError, match="No space"):
        disk.write_compressed(memoryview(b"lost" * 4096), 65536)
    child.full = False
    disk.write_compressed(memoryview(b"more" * 1024), 12288)
    assert read(disk, 65536, 16384) == bytes(16384)
    assert read(disk, 8192, 8192) == b"kept" * 1024 + b"more" * 1024
    disk.close()
    path = saved(child, tmp_path / "a.qcow2")
    assert qemu_check(path) == SOUND
    assert np.frombuffer(qemu_content(path), np.uint8).sum() > 0
