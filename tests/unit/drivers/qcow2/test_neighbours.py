"""Every kind of request from several threads on neighbouring clusters: the same L2 tables, the same
refcount blocks, caches that hold few of them, a file that fails now and then."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monitor.engine.drivers.base import Ranges
from tests.support.edges import DriverEdge
from tests.support.files import open_file
from tests.support.qcow2 import new_image, open_qcow2, qemu_check, read
from tests.support.tools import need
from tests.unit.drivers.qcow2.test_threads import together

CLUSTERS = 256
THREADS = 4


class Unreliable(DriverEdge):
    """A file of which one access in so many fails; 0: none."""

    def __init__(self, path: Path, one_in: int) -> None:
        super().__init__(open_file(path))
        self.one_in = one_in
        chance = random.Random(one_in)

        def failing(request: Callable[..., Any]) -> Callable[..., Any]:
            def attempt(*args: Any) -> Any:
                if self.one_in and not chance.randrange(self.one_in):
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                return request(*args)

            return attempt

        for name in ("read", "write", "write_ranges", "discard", "flush", "map", "map_for_write"):
            setattr(self, name, failing(getattr(self, name)))


class Copier:
    """Makes requests on every fourth cluster, and knows what is in them."""

    def __init__(self, disk: Any, file: Unreliable, model: bytearray, number: int) -> None:
        self.disk = disk
        self.file = file
        self.model = model
        self.chance = random.Random(number)
        self.clusters = range(number, CLUSTERS, THREADS)
        self.cluster = disk.cluster_size()

    def run(self) -> None:
        kinds = [self.write, self.compress, self.copy, self.scatter, self.zero, self.discard]
        for _ in range(150):
            count = self.chance.randint(1, 5)
            picked = sorted(self.chance.sample(self.clusters, count))
            request = self.chance.choice(kinds)
            at = [number * self.cluster for number in picked]
            request([(start, min(self.cluster, len(self.model) - start)) for start in at])

    def attempt(self, request: Callable[[], object], ranges: Ranges, data: bytes) -> None:
        """After it has failed the ranges hold old and new bytes."""
        try:
            request()
        except OSError:
            failed = True
        else:
            failed = False
        done = 0
        for offset, length in ranges:
            new, old = data[done : done + length], self.model[offset : offset + length]
            done += length
            if failed:
                found = self.look(offset, length)
                assert all(f in (a, b) for f, a, b in zip(found, old, new, strict=True))
                new = found
            self.model[offset : offset + length] = new

    def look(self, offset: int, length: int) -> bytes:
        while True:
            try:
                return read(self.disk, offset, length)
            except OSError:
                assert self.file.one_in

    def data(self, length: int) -> bytes:
        if self.chance.random() < 0.3:
            return self.chance.randbytes(length)
        return bytes([self.chance.randrange(256)]) * length

    def write(self, ranges: Ranges) -> None:
        start, length = ranges[0]
        offset = start + self.chance.randrange(length)
        data = self.data(self.chance.randint(1, start + length - offset))
        part = [(offset, len(data))]
        self.attempt(lambda: self.disk.write(memoryview(data), offset), part, data)

    def compress(self, ranges: Ranges) -> None:
        start, length = ranges[0]
        data = self.data(length)
        write = self.disk.write_compressed
        self.attempt(lambda: write(memoryview(data), start), ranges[:1], data)

    def copy(self, ranges: Ranges) -> None:
        start, length = ranges[0]
        data = self.data(length)

        def past_the_driver() -> None:
            reserved = self.disk.map_for_write(start, length)
            at = 0
            try:
                for run in reserved.runs:
                    self.file.write(memoryview(data)[at : at + run.length], run.host_offset)
                    at += run.length
            except OSError:
                reserved.abort()
                raise
            reserved.commit()

        self.attempt(past_the_driver, ranges[:1], data)

    def scatter(self, ranges: Ranges) -> None:
        data = self.data(sum(length for _, length in ranges))
        self.attempt(lambda: self.disk.write_ranges(memoryview(data), ranges), ranges, data)

    def zero(self, ranges: Ranges) -> None:
        start, length = ranges[0]
        unmap = self.chance.random() < 0.5
        zeroes = self.disk.write_zeroes
        self.attempt(lambda: zeroes(start, length, unmap), ranges[:1], bytes(length))

    def discard(self, ranges: Ranges) -> None:
        start, length = ranges[0]
        self.attempt(lambda: self.disk.discard(start, length), ranges[:1], bytes(length))


@pytest.mark.parametrize("one_in", [0, 60], ids=["reliable", "unreliable"])
@pytest.mark.parametrize("lazy", [False, True], ids=["eager", "lazy"])
@pytest.mark.parametrize("cluster", [512, 4096])
def test_neighbouring_clusters(tmp_path: Path, cluster: int, lazy: bool, one_in: int) -> None:
    path = tmp_path / "a.qcow2"
    path.write_bytes(new_image((CLUSTERS - 1) * cluster + 512, cluster_size=cluster).content)
    file = Unreliable(path, 0)
    small = {"l2_cache_size": 4 * cluster, "refcount_cache_size": 4 * cluster}
    disk = open_qcow2(file, options={"lazy_refcounts": lazy, **small})
    model = bytearray(disk.length())
    file.one_in = one_in

    def flush() -> None:
        for _ in range(60):
            try:
                disk.flush()
            except OSError:
                assert one_in

    copiers = [Copier(disk, file, model, number) for number in range(THREADS)]
    together(flush, *(copier.run for copier in copiers))
    file.one_in = 0
    assert not disk._image.claims
    assert not disk._image._active
    assert read(disk) == model
    disk.close()
    file.driver.close()
    need("qemu-img")
    assert qemu_check(path) == {"leaks": 0, "corruptions": 0}
