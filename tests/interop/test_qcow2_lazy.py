"""Lazy refcounts: what QEMU's tools see of an image while it is written to, and after a crash."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from monitor.engine.drivers.base import OpenFlags
from tests.support.children import MemoryChild, RecordingChild, Write
from tests.support.qcow2 import new_image, open_qcow2, qemu_check, qemu_content, read, write
from tests.support.tools import need, run

SOUND = {"leaks": 0, "corruptions": 0}


@pytest.fixture(autouse=True)
def tools() -> None:
    need("qemu-img", "qemu-io")


def is_dirty(child: MemoryChild, path: Path) -> bool:
    path.write_bytes(child.content)
    info: dict[str, Any] = json.loads(run("qemu-img", "info", "-U", "--output=json", path))
    return bool(info["dirty-flag"])


def test_the_dirty_bit_is_set_while_clusters_are_added(tmp_path: Path) -> None:
    """From the first new cluster to closing; writing in place and zeroing need none of it."""
    path = tmp_path / "a.qcow2"
    child = new_image(1 << 20, lazy_refcounts=True)
    disk = open_qcow2(child)
    disk.write_zeroes(0, 65536)
    disk.flush()
    assert not is_dirty(child, path)
    write(disk, 65536, b"new")
    assert is_dirty(child, path)
    assert disk.image_facts()["dirty-flag"] is True
    disk.flush()
    assert is_dirty(child, path)
    disk.close()
    assert not is_dirty(child, path)
    assert qemu_check(path) == SOUND
    disk = open_qcow2(child)
    write(disk, 65536, b"old")
    disk.flush()
    assert not is_dirty(child, path)
    disk.close()


@pytest.mark.parametrize(
    ("recorded", "option", "dirty"),
    [(True, None, True), (True, False, False), (False, True, True), (False, None, False)],
)
def test_the_option_wins_over_the_image(
    tmp_path: Path, recorded: bool, option: bool | None, dirty: bool
) -> None:
    child = new_image(1 << 20, lazy_refcounts=recorded)
    options = {} if option is None else {"lazy_refcounts": option}
    disk = open_qcow2(child, options=options)
    write(disk, 0, b"new")
    assert is_dirty(child, tmp_path / "a.qcow2") is dirty
    specific = disk.specific_info()
    assert specific is not None
    assert specific["data"]["lazy-refcounts"] is recorded
    disk.close()
    assert not is_dirty(child, tmp_path / "a.qcow2")


def test_reopening_read_only_takes_the_bit_away(tmp_path: Path) -> None:
    child = new_image(1 << 20, lazy_refcounts=True)
    disk = open_qcow2(child)
    write(disk, 0, b"new")
    change = disk.prepare_reopen(OpenFlags(read_only=True, unmap=True))
    assert change is not None
    change.commit()
    assert not is_dirty(child, tmp_path / "a.qcow2")
    change = disk.prepare_reopen(OpenFlags(unmap=True))
    assert change is not None
    change.commit()
    write(disk, 65536, b"more")
    assert is_dirty(child, tmp_path / "a.qcow2")
    disk.close()
    assert not is_dirty(child, tmp_path / "a.qcow2")
    assert qemu_check(tmp_path / "a.qcow2") == SOUND


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16, 32, 64])
def test_a_crash_leaves_what_either_side_repairs(tmp_path: Path, bits: int) -> None:
    """After a flush the data is there and the counts are not: QEMU says so and mends it, and so
    does opening here."""
    child = new_image(8 << 20, lazy_refcounts=True, refcount_bits=bits, cluster_size=4096)
    disk = open_qcow2(child)
    write(disk, 1 << 20, b"lazy" * 500_000)
    disk.flush()
    path = tmp_path / "a.qcow2"
    path.write_bytes(child.content)
    assert qemu_check(path)["corruptions"] > 400
    content = bytes(1 << 20) + (b"lazy" * 500_000).ljust(7 << 20, b"\0")
    run("qemu-img", "check", "-q", "-r", "all", path)
    assert qemu_check(path) == SOUND
    assert qemu_content(path) == content
    left = MemoryChild(bytes(child.content))
    ours = open_qcow2(left)
    assert read(ours) == content
    write(ours, 0, b"and on")
    ours.close()
    path.write_bytes(left.content)
    assert qemu_check(path) == SOUND


def test_a_flush_carries_no_refcounts(tmp_path: Path) -> None:
    """That is what they are lazy for."""
    child = RecordingChild(bytes(new_image(1 << 20, lazy_refcounts=True).content))
    disk = open_qcow2(child)
    write(disk, 0, b"first")
    disk.flush()
    child.events.clear()
    write(disk, 65536, b"second")
    disk.flush()
    blocks = range(2 << 16, 3 << 16)
    written = [event.offset for event in child.events if isinstance(event, Write)]
    assert not [offset for offset in written if offset in blocks]
    disk.close()
    written = [event.offset for event in child.events if isinstance(event, Write)]
    assert [offset for offset in written if offset in blocks]
