"""qcow2 images over any child, with a model of what a guest must see."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monitor.engine.drivers.base import BitmapList, Child, OpenContext, OpenFlags
from monitor.engine.drivers.qcow2 import CreateOptions, Qcow2Driver, create_image
from monitor.engine.schema.blockdev import BlockdevOptionsQcow2
from tests.support.children import MemoryChild


def open_qcow2(
    file: Child,
    backing: Child | None = None,
    *,
    options: dict[str, Any] | None = None,
    bitmaps: BitmapList | None = None,
    **flags: bool,
) -> Qcow2Driver:
    """The image in ``file`` open with ``flags`` (fields of OpenFlags), discards passed on."""
    driver = Qcow2Driver()
    driver.bitmaps = bitmaps
    chosen = BlockdevOptionsQcow2(file="file", **(options or {}))
    driver.open(OpenContext(chosen, OpenFlags(**({"unmap": True} | flags)), "node", {"file": file}))
    driver.attach_backing(backing)
    return driver


def read(driver: Qcow2Driver, offset: int = 0, length: int | None = None) -> bytes:
    buffer = bytearray(driver.length() - offset if length is None else length)
    driver.read(memoryview(buffer), offset)
    return bytes(buffer)


def write(driver: Qcow2Driver, offset: int, data: bytes) -> None:
    driver.write(memoryview(data), offset)


def new_image(size: int, **options: Any) -> MemoryChild:
    """A new image in memory."""
    child = MemoryChild()
    create_image(child, CreateOptions(size=size, **options))
    return child


class Disk:
    """An open image and what it must read as."""

    def __init__(self, file: Child, backing: MemoryChild | None = None) -> None:
        self.file = file
        self.backing = backing
        self.driver = open_qcow2(file, backing)
        below = bytes(backing.content) if backing else b""
        size = self.driver.length()
        self.model = bytearray(below[:size].ljust(size, b"\0"))

    @property
    def size(self) -> int:
        return len(self.model)

    def write(self, offset: int, data: bytes) -> None:
        write(self.driver, offset, data)
        self.model[offset : offset + len(data)] = data

    def write_ranges(self, data: bytes, ranges: Sequence[tuple[int, int]]) -> None:
        self.driver.write_ranges(memoryview(data), ranges)
        at = 0
        for offset, length in ranges:
            self.model[offset : offset + length] = data[at : at + length]
            at += length

    def read_ranges(self, ranges: Sequence[tuple[int, int]]) -> bytes:
        buffer = bytearray(b"?" * sum(length for _, length in ranges))
        self.driver.read_ranges(memoryview(buffer), ranges)
        return bytes(buffer)

    def write_compressed(self, offset: int, data: bytes) -> None:
        self.driver.write_compressed(memoryview(data), offset)
        self.model[offset : offset + len(data)] = data

    def copy_into(self, offset: int, data: bytes, *, commit: bool = True) -> None:
        """Through ``map_for_write``, as a copy engine does; what it does not cover is written."""
        reserved = self.driver.map_for_write(offset, len(data))
        if reserved is None:
            return
        position = 0
        for run in reserved.runs:
            os.pwrite(run.host, data[position : position + run.length], run.host_offset)
            position += run.length
        if commit:
            reserved.commit()
            self.model[offset : offset + position] = data[:position]
        else:
            reserved.abort()

    def write_zeroes(self, offset: int, length: int, may_unmap: bool = False) -> None:
        self.driver.write_zeroes(offset, length, may_unmap)
        self.model[offset : offset + length] = bytes(length)

    def discard(self, offset: int, length: int) -> None:
        """Whole clusters read as zeroes afterwards, but in version 2 on a backing file."""
        self.driver.discard(offset, length)
        cluster = self.driver.cluster_size() or 1
        end = offset + length
        first = -(-offset // cluster) * cluster
        last = end if end == self.size else end // cluster * cluster
        compat = (self.driver.specific_info() or {})["data"]["compat"]
        if first < last and (compat != "0.10" or self.backing is None):
            self.model[first:last] = bytes(last - first)

    def truncate(self, size: int) -> None:
        self.driver.truncate(size)
        self.model = self.model[:size].ljust(size, b"\0")

    def grow(self, size: int, mode: str) -> None:
        self.driver.grow(size, mode)
        self.model = self.model.ljust(size, b"\0")

    def reopen(self) -> None:
        self.driver.close()
        self.driver = open_qcow2(self.file, self.backing)

    def check(self) -> None:
        assert self.driver.length() == self.size
        assert read(self.driver) == self.model


def qemu_check(path: Path) -> dict[str, int]:
    """``qemu-img check``: how many leaks and corruptions it finds."""
    result = subprocess.run(
        ["qemu-img", "check", "-f", "qcow2", "--output=json", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode in (0, 2, 3), result.stderr
    report = json.loads(result.stdout)
    assert not report["check-errors"], result.stderr
    return {"leaks": report.get("leaks", 0), "corruptions": report.get("corruptions", 0)}


def qemu_content(path: Path) -> bytes:
    """What QEMU reads from the image."""
    raw = path.with_suffix(".raw")
    subprocess.run(
        ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(path), str(raw)],
        check=True,
        timeout=60,
    )
    try:
        return raw.read_bytes()
    finally:
        raw.unlink()
