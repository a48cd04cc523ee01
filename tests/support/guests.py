"""Guests that write to a disk at random, and disks for them."""

from __future__ import annotations

import asyncio
import random
import threading
from pathlib import Path

from monitor.engine.graph.drive import Drive
from monitor.engine.graph.node import Node
from tests.support import tools

MIB = 1 << 20
SIZE = 6 * MIB + 512
"""Bytes of a disk: not a whole number of clusters."""


def contents(node: Node) -> bytes:
    """What a node shows, read past all clients."""
    seen = bytearray(node.length())
    node.driver.read(memoryview(seen), 0)
    return bytes(seen)


class Guests:
    """Threads that write at random until the end of the block; ``busy`` once each wrote a bit."""

    def __init__(self, drive: Drive, seed: int, count: int = 2) -> None:
        self._drive = drive
        self._stop = threading.Event()
        self._wrote = [threading.Event() for _ in range(count)]
        self._threads = [
            threading.Thread(target=self._main, args=(seed + number, self._wrote[number]))
            for number in range(count)
        ]

    def __enter__(self) -> Guests:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    async def busy(self) -> None:
        for wrote in self._wrote:
            wrote.clear()
            assert await asyncio.to_thread(wrote.wait, 20)

    def _main(self, seed: int, wrote: threading.Event) -> None:
        chance = random.Random(seed)
        lane, root = self._drive.lane(), self._drive.roots[0]
        while not self._stop.is_set():
            offset = chance.randrange(root.length() // 512) * 512
            length = min(chance.choice([512, 4096, 65536, 150_000]), root.length() - offset)
            with lane:
                match chance.randrange(6):
                    case 0:
                        root.write_zeroes(offset, length, True, False)
                    case 1:
                        root.discard(offset, length)
                    case _:
                        root.write(memoryview(chance.randbytes(length)), offset)
            wrote.set()
        self._drive.drop_lane(lane)


def make_disk(folder: Path, fmt: str) -> Path:
    """A disk with data and holes; a qcow2 one on a backing image."""
    tools.need("qemu-img", "qemu-io")
    disk = folder / f"disk.{fmt}"
    if fmt == "qcow2":
        base = folder / "base.qcow2"
        tools.run("qemu-img", "create", "-q", "-f", "qcow2", base, str(SIZE))
        tools.run("qemu-io", "-f", "qcow2", "-c", "write -P 1 1M 2M", base)
        tools.run("qemu-img", "create", "-q", "-f", fmt, "-b", base, "-F", "qcow2", disk)
    else:
        tools.run("qemu-img", "create", "-q", "-f", fmt, disk, str(SIZE))
    tools.run("qemu-io", "-f", fmt, "-c", "write -P 2 500k 1M", "-c", "write -z 3M 64k", disk)
    return disk
