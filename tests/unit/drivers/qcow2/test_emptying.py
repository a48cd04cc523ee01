"""An image gives up all that it holds, and its file goes with it: one access fails, whichever."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import pytest

from tests.support.children import MemoryChild
from tests.support.qcow2 import new_image, open_qcow2, qemu_check, read, write
from tests.support.tools import need
from tests.unit.drivers.qcow2.test_faults import FaultyChild

SIZE = 1 << 20
BELOW = MemoryChild(b"b" * SIZE)


@pytest.fixture(scope="module")
def full() -> bytes:
    """Written in pieces: each refcount block lies among the clusters that the one before counts."""
    file = new_image(SIZE, cluster_size=512)
    driver = open_qcow2(file)
    chance = random.Random(1)
    for offset in range(0, SIZE, 1 << 15):
        write(driver, offset, chance.randbytes(1 << 15))
    driver.close()
    return bytes(file.content)


@pytest.mark.parametrize("reaches", [False, True])
def test_a_failed_access(tmp_path: Path, full: bytes, reaches: bool) -> None:
    """What is written afterwards lands on no cluster that the disk takes for something else."""
    need("qemu-img")
    failed = set()
    for at in range(200):
        file = FaultyChild(full, at, reaches)
        file.on = False
        driver = open_qcow2(file, BELOW)
        file.on = True
        with contextlib.suppress(OSError):
            driver.make_empty()
        file.on = False
        if not file.failed:
            break
        failed.add(file.failed)
        write(driver, 0, b"n" * SIZE)
        driver.flush()
        assert read(driver) == b"n" * SIZE, at
        for moment in ("killed", "closed"):
            (tmp_path / moment).write_bytes(file.content)
            assert not qemu_check(tmp_path / moment)["corruptions"], (at, moment)
            left = open_qcow2(MemoryChild(bytes(file.content)), BELOW, read_only=True)
            assert read(left) == b"n" * SIZE, (at, moment)
            if moment == "killed":
                driver.close()
                (tmp_path / "closed").write_bytes(file.content)
        assert qemu_check(tmp_path / "closed") == {"corruptions": 0, "leaks": 0}, at
    assert failed >= {"read", "write", "flush", "truncate"}
    assert not file.failed  # all of them have been looked at
