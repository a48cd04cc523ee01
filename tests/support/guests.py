"""Guests that write to a disk at random, and disks for them."""

from __future__ import annotations

import asyncio
import random
import threading
from pathlib import Path

from monitor.engine.graph.drive import Drive
from monitor.engine.graph.node import Node, skip_filters
from tests.support import tools

MIB = 1 << 20
SIZE = 6 * MIB + 512
"""Bytes of a disk: not a whole number of clusters."""


def contents(node: Node) -> bytes:
    """What a node shows, read past all clients."""
    seen = bytearray(node.length())
    node.driver.read(memoryview(seen), 0)
    return bytes(seen)


STRIPE = 200_192
"""Bytes that belong to one guest: whole sectors, not whole clusters."""


class Guests:
    """Threads that write at random until the end of the block, each into stripes of its own.

    ``model`` is what the disk must show, right whenever the disk is drained. ``written`` are the
    ranges that were changed, in order.
    """

    def __init__(self, drive: Drive, seed: int, count: int = 2) -> None:
        assert drive.node is not None
        self.model = bytearray(contents(drive.node))
        self.written: list[tuple[int, int]] = []
        self._drive = drive
        self._stop = threading.Event()
        self._wrote = [threading.Event() for _ in range(count)]
        self._failure: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._main, args=(seed + number, number))
            for number in range(count)
        ]

    def __enter__(self) -> Guests:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self.stop()
        if self._failure is not None and reason[1] is None:
            raise self._failure

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    async def busy(self) -> None:
        """Until each has written once more, unless they were stopped."""
        if self._stop.is_set():
            return
        for wrote in self._wrote:
            wrote.clear()
            assert await asyncio.to_thread(wrote.wait, 20)
        if self._failure is not None:
            raise self._failure

    def _main(self, seed: int, number: int) -> None:
        chance = random.Random(seed)
        lane = self._drive.lane()
        try:
            while not self._stop.wait(0.001):  # a breath, or two cores do nothing but this
                with lane:
                    self._write(chance, number)
                self._wrote[number].set()
        except BaseException as error:
            self._failure = error
            self._wrote[number].set()
        finally:
            self._drive.drop_lane(lane)

    def _write(self, chance: random.Random, number: int) -> None:
        """One write, and what the model is to show, in one lane."""
        root, size = self._drive.roots[0], len(self.model)
        stripes = -(-size // STRIPE)
        stripe = chance.randrange(number, stripes, len(self._threads))
        begin, end = stripe * STRIPE, min(size, (stripe + 1) * STRIPE)
        offset = chance.randrange(begin, end, 512)
        length = min(chance.choice([512, 4096, 65536, 150_016]), end - offset)
        data = bytes(length)
        match chance.randrange(6):
            case 0:
                root.write_zeroes(offset, length, True, False)
            case 1:  # what it reads as then is the format's to say, and stays so
                root.discard(offset, length)
                seen = memoryview(bytearray(length))
                root.read(seen, offset)
                data = bytes(seen)
                image = skip_filters(self._drive.node)
                if image is not None and not image.flags.unmap:
                    assert data == self.model[offset : offset + length]
                    return  # discard=ignore
            case _:
                data = chance.randbytes(length)
                root.write(memoryview(data), offset)
        self.model[offset : offset + length] = data
        self.written.append((offset, length))


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
