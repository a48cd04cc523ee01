"""Children that a format driver under test is given: bytes in memory, and a record of what it does.

A record can be replayed in part, which is what a killed process or a power cut leaves behind.
"""

from __future__ import annotations

import errno
import os
import random
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from monitor.engine.drivers.base import Extent, ExtentKind, Ranges, Reservation, one_by_one

SECTOR = 512
_ZEROES = bytes(1 << 20)


class MemoryChild:
    """``Child`` of the contract over a bytearray."""

    event: Callable[[str], None] | None = None
    alignment = 1
    filename = ""
    compresses = False

    def __init__(self, content: bytes = b"", node_name: str = "child") -> None:
        self.content = bytearray(content)
        self.node_name = node_name
        self.flushes = 0
        self.discards: list[tuple[int, int]] = []

    def length(self) -> int:
        return len(self.content)

    def cluster_size(self) -> int | None:
        return None

    def read(self, buffer: memoryview, offset: int) -> None:
        data = memoryview(self.content)[offset : offset + len(buffer)]
        buffer[: len(data)] = data
        for at in range(len(data), len(buffer), len(_ZEROES)):
            rest = len(buffer) - at
            buffer[at : at + len(_ZEROES)] = _ZEROES[:rest]

    def write(self, buffer: memoryview, offset: int) -> None:
        end = offset + len(buffer)
        if end > len(self.content):
            self.content.extend(bytes(end - len(self.content)))
        self.content[offset:end] = buffer

    def write_zeroes(
        self, offset: int, length: int, may_unmap: bool = False, no_fallback: bool = False
    ) -> None:
        self.write(memoryview(bytes(length)), offset)

    def discard(self, offset: int, length: int) -> None:
        self.discards.append((offset, length))

    def flush(self) -> None:
        self.flushes += 1

    def map(self, offset: int, length: int) -> list[Extent]:
        inside = min(length, len(self.content) - offset)
        return [Extent(ExtentKind.DATA, inside)] if inside > 0 else []

    def hold(self) -> AbstractContextManager[None]:
        return nullcontext()

    def map_for_write(self, offset: int, length: int) -> Reservation | None:
        return None

    def read_ranges(self, buffer: memoryview, ranges: Ranges) -> None:
        one_by_one(self.read, buffer, ranges)

    def write_ranges(self, buffer: memoryview, ranges: Ranges) -> None:
        one_by_one(self.write, buffer, ranges)

    def write_compressed(self, buffer: memoryview, offset: int) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    def grow(self, size: int, preallocation: str) -> None:
        self.truncate(size)

    def expect(self, length: int) -> None:
        """Nothing is taken up ahead."""

    def reserve(self, size: int) -> None:
        """Neither here."""

    def truncate(self, size: int) -> None:
        del self.content[size:]
        self.content.extend(bytes(size - len(self.content)))


@dataclass(frozen=True)
class Write:
    offset: int
    data: bytes


@dataclass(frozen=True)
class Truncate:
    size: int


@dataclass(frozen=True)
class Flush:
    pass


Event = Write | Truncate | Flush


class FailingChild(MemoryChild):
    """Fails the n-th change from now on, once."""

    def __init__(self, content: bytes = b"") -> None:
        super().__init__(content)
        self.countdown = -1
        self.errno = errno.ENOSPC

    def _count(self) -> None:
        self.countdown -= 1
        if self.countdown == 0:
            raise OSError(self.errno, os.strerror(self.errno))

    def write(self, buffer: memoryview, offset: int) -> None:
        self._count()
        super().write(buffer, offset)

    def flush(self) -> None:
        self._count()
        super().flush()


class RecordingChild(MemoryChild):
    """Keeps every change in order, beside the content it began with."""

    def __init__(self, content: bytes = b"", node_name: str = "child") -> None:
        super().__init__(content, node_name)
        self.begin = bytes(content)
        self.events: list[Event] = []

    def write(self, buffer: memoryview, offset: int) -> None:
        self.events.append(Write(offset, bytes(buffer)))
        super().write(buffer, offset)

    def flush(self) -> None:
        super().flush()
        self.events.append(Flush())

    def truncate(self, size: int) -> None:
        self.events.append(Truncate(size))
        super().truncate(size)


class HostChild(RecordingChild):
    """Offers a host file to write into; what was written there is recorded when it is committed,
    or given up: the file holds it then in any case."""

    def __init__(self, content: bytes = b"", node_name: str = "child") -> None:
        super().__init__(content, node_name)
        self.host = os.memfd_create("host")
        weakref.finalize(self, os.close, self.host)

    def map_for_write(self, offset: int, length: int) -> Reservation | None:
        half = max(1, length // 2)  # two runs, as a file's owner may answer
        runs = [
            Extent(ExtentKind.DATA, size, self.host, at)
            for at, size in ((offset, half), (offset + half, length - half))
            if size
        ]

        def ended() -> None:
            self.write(memoryview(os.pread(self.host, length, offset)), offset)

        return Reservation(runs, ended, ended)


def replay(begin: bytes, events: Sequence[Event]) -> bytes:
    """The content after ``events``."""
    child = MemoryChild(begin)
    for event in events:
        if isinstance(event, Write):
            child.write(memoryview(event.data), event.offset)
        elif isinstance(event, Truncate):
            child.truncate(event.size)
    return bytes(child.content)


def killed(begin: bytes, events: Sequence[Event]) -> Iterator[tuple[int, bytes]]:
    """What a process killed after each of its system calls leaves: (events done, content)."""
    child = MemoryChild(begin)
    yield 0, bytes(child.content)
    for done, event in enumerate(events, 1):
        if isinstance(event, Write):
            child.write(memoryview(event.data), event.offset)
        elif isinstance(event, Truncate):
            child.truncate(event.size)
        else:
            continue
        yield done, bytes(child.content)


def power_cut(
    begin: bytes, events: Sequence[Event], done: int, chance: random.Random, kept: float = 0.5
) -> bytes:
    """What a power cut after ``done`` events may leave.

    All that came before the last flush is there; of what came after it, any part: whole sectors
    of writes, in any combination, each there with the probability ``kept``.
    """
    durable = max((i for i in range(done) if isinstance(events[i], Flush)), default=0)
    survived: list[Event] = list(events[:durable])
    for event in events[durable:done]:
        if isinstance(event, Write):
            survived += [part for part in _sectors(event) if chance.random() < kept]
        elif isinstance(event, Truncate) and chance.random() < kept:
            survived.append(event)
    return replay(begin, survived)


def _sectors(write: Write) -> Iterator[Write]:
    """A write as a disk does it: sector by sector, or, to be quick, whole when it is long."""
    if len(write.data) > 64 * SECTOR:
        yield write
        return
    at = 0
    while at < len(write.data):
        step = SECTOR - (write.offset + at) % SECTOR
        yield Write(write.offset + at, write.data[at : at + step])
        at += step


class SmallDisk(MemoryChild):
    """A sparse file on a disk with room for ``budget`` more blocks of 512 bytes.

    What does not fit raises ENOSPC, and the part before it has been written. Discarding and
    cutting off give room back. It offers itself as a host file: ``map_for_write`` answers, and
    whoever copies calls ``write`` for what a real file would be written with past the driver.
    """

    def __init__(self, content: bytes = b"", budget: int = 1 << 40) -> None:
        super().__init__(content)
        self.budget = budget
        self.taken = {n for n in range(-(-len(content) // SECTOR)) if any(self._block(n))}

    def _block(self, number: int) -> memoryview:
        return memoryview(self.content)[number * SECTOR : (number + 1) * SECTOR]

    def write(self, buffer: memoryview, offset: int) -> None:
        end = offset + len(buffer)
        for number in range(offset // SECTOR, -(-end // SECTOR)):
            if number in self.taken:
                continue
            if not self.budget:
                fits = max(0, number * SECTOR - offset)
                if fits:
                    super().write(buffer[:fits], offset)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.budget -= 1
            self.taken.add(number)
        super().write(buffer, offset)

    def discard(self, offset: int, length: int) -> None:
        super().discard(offset, length)
        length = min(length, len(self.content) - offset)
        for number in range(-(-offset // SECTOR), max(0, offset + length) // SECTOR):
            self._block(number)[:] = bytes(SECTOR)
            self._give_back(number)

    def truncate(self, size: int) -> None:
        super().truncate(size)
        for number in [n for n in self.taken if n * SECTOR >= size]:
            self._give_back(number)

    def _give_back(self, number: int) -> None:
        if number in self.taken:
            self.taken.remove(number)
            self.budget += 1

    def map(self, offset: int, length: int) -> list[Extent]:
        runs: list[Extent] = []
        end = offset + length
        for number in range(offset // SECTOR, -(-end // SECTOR)):
            inside = min(end, (number + 1) * SECTOR) - max(offset, number * SECTOR)
            kind = ExtentKind.DATA if number in self.taken else ExtentKind.ZERO
            before = runs.pop().length if runs and runs[-1].kind is kind else 0
            runs.append(Extent(kind, before + inside))
        return runs

    def map_for_write(self, offset: int, length: int) -> Reservation | None:
        runs = [Extent(ExtentKind.DATA, length, 0, offset)]
        return Reservation(runs, lambda: None, lambda: None)
