"""Keeping the old contents of a disk: each part is copied to a target once, before it changes.

    source   |aaaa|bbbb|cccc|dddd|     a guest is about to write into b; a job walks from the left
    todo     |....|####|####|####|     a is copied; the guest copies b itself, the job goes on at c
    target   |aaaa|    |    |    |

Whoever comes first copies a part, alone on its range: the others wait for the copy and find nothing
left to do. A part is taken off the list after it was written, so that what is off the list needs no
range: the usual write, whose part was copied long ago, costs one look.

Waiting happens in a lane, for another request in a lane; ranges are taken in order of arrival, so
nobody waits for somebody who waits for him.
"""

from __future__ import annotations

import mmap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from monitor.engine.bitmap import DirtyBitmap
from monitor.engine.drivers.base import Child, Ranges, batches, one_by_one
from monitor.engine.drivers.between_files import BetweenFiles, Side
from monitor.engine.drivers.buffers import by_zeroes
from monitor.engine.drivers.ranges import RangeLocks
from monitor.engine.drivers.zeroes import zero
from monitor.engine.units import whole_sectors

UNIT: Final = 64 << 10
"""The least that is copied, in bytes; more where the target's clusters are larger."""
_CHUNK: Final = 1 << 20
"""Bytes that a guest's thread copies in one step."""
_BUFFERS: Final = 16
"""Guests' threads that copy at once; further ones wait for one of them."""


class BlockCopy:
    """Copies what is in ``todo`` from ``source`` to ``target``, edges of one node that are looked
    up at each call. ``unit`` is a power of two in bytes; all of ``size`` bytes is to do at first.

    ``moved`` is called, from any thread, with the bytes that were taken off the list.
    """

    def __init__(self, source: Child, target: Child, size: int, unit: int) -> None:
        self.source = source
        self.target = target
        self.size = size
        self.unit = unit
        self.todo = DirtyBitmap(size, unit)
        self.todo.enabled = False
        self.todo.set(0, size)
        self.moved: Callable[[int], None] = lambda count: None
        self.compress = False
        self.between_files = True
        self._files = BetweenFiles()
        """Copies may be left to the host where both ends lie plainly in its files."""
        self._ranges = RangeLocks()
        self._buffers = _Buffers(max(unit, _CHUNK))

    def aligned(self, offset: int, length: int) -> tuple[int, int]:
        """Begin and end of the range in whole units."""
        end = offset + length + self.unit - 1
        return offset & -self.unit, min(self.size, end & -self.unit)

    def lacks(self, offset: int, length: int) -> bool:
        """Whether something of the range is to do."""
        return self.todo.next_dirty(*self.aligned(offset, length)) is not None

    def before_write(self, offset: int, length: int) -> None:
        """A guest is about to change the range: afterwards nothing of it is to do. Raises OSError,
        and then the guest must not go on."""
        if self.lacks(offset, length):
            start, end = self.aligned(offset, length)
            with self._buffers.borrowed() as buffer:
                self.copy(start, end - start, buffer, lambda side: None)

    def copy(self, offset: int, length: int, buffer: memoryview, at: Callable[[Side], None]) -> int:
        """Copies what is to do in a range of whole units, in order; the bytes that were. ``at`` is
        told which side an error will come from. The buffer holds a unit at least. Raises OSError,
        and leaves to do what was not written."""
        copied = 0
        most = len(buffer) & -self.unit
        with self._ranges.hold(offset, offset + length, exclusive=True):
            for batch in batches(self._left(offset, length), most):
                self._copy(batch, buffer, at)
                copied += sum(count for _, count in batch)
        return copied

    def zero(
        self, offset: int, length: int, most: int, blank: Callable[[int, int], bool]
    ) -> int | None:
        """The same for a range whose old contents are known to be zeroes. ``blank`` says of a part
        whether the target reads as zeroes there anyway. The bytes that had to be written as data;
        None where a part is longer than ``most``, and left to do. Raises OSError, of the target."""
        written = 0
        with self._ranges.hold(offset, offset + length, exclusive=True):
            for start, count in self._left(offset, length):
                if not blank(start, count):
                    done = zero(self.target, start, count, may_unmap=True, most=most)
                    if done is None:
                        return None
                    written += done
                self._finished([(start, count)])
        return written

    def skip(self, offset: int, length: int) -> None:
        """The range need not be copied after all."""
        self.todo.reset(offset, length)

    def _left(self, offset: int, length: int) -> Ranges:
        if self.todo.is_full(offset, length):
            return ((offset, length),)
        return list(self.todo.areas(offset, offset + length))

    def _finished(self, parts: Ranges) -> None:
        """Nothing is to do any more from the first of ``parts`` to the last."""
        start, (last, length) = parts[0][0], parts[-1]
        self.todo.reset(start, last + length - start)
        self.moved(sum(count for _, count in parts))

    # -- parts, held -------------------------------------------------------------------------

    def _copy(self, parts: Ranges, buffer: memoryview, at: Callable[[Side], None]) -> None:
        """Parts that fit into the buffer together; long ones are left to the host."""
        by_host = self.between_files and not self.compress
        short: list[tuple[int, int]] = []
        for offset, length in parts:
            if by_host and self._files.would_copy(length):
                self._carry(short, buffer, at)
                self._leave_to_host(offset, length, buffer, at)
                short = []
            else:
                short.append((offset, length))
        self._carry(short, buffer, at)

    def _leave_to_host(
        self, offset: int, length: int, buffer: memoryview, at: Callable[[Side], None]
    ) -> None:
        """What the host does not copy is carried."""
        done = self._files.copy(self.source, self.target, offset, length, at)
        if done < length:
            done &= -self.unit
        if done:
            self._finished([(offset, done)])
        if done < length:
            self._carry([(offset + done, length - done)], buffer, at)

    def _carry(self, parts: Ranges, buffer: memoryview, at: Callable[[Side], None]) -> None:
        """Reads ``parts`` behind one another and writes them."""
        if not parts:
            return
        data = buffer[: sum(length for _, length in parts)]
        at("read")
        try:
            if len(parts) == 1:
                self.source.read(data, parts[0][0])
            else:
                self.source.read_ranges(data, parts)
        except OSError:
            if len(parts) > 1:
                for part in parts:  # up to the one that fails
                    self._carry([part], buffer, at)
            at("read")
            raise  # also what does not come again
        at("write")
        self._put(parts, data)

    def _put(self, parts: Ranges, data: memoryview) -> None:
        """Writes what was read of ``parts``: plainly, as zeroes or compressed."""
        for group, held, zeroes in by_zeroes(parts, data):
            if zeroes:
                for offset, length in group:
                    self.target.write_zeroes(offset, length, True, False)
                    self._finished([(offset, length)])
            elif self.compress:
                one_by_one(self._write_compressed, held, group)
            else:
                self._write(group, held)

    def _write_compressed(self, data: memoryview, offset: int) -> None:
        self.target.write_compressed(_in_sectors(data), offset)
        self._finished([(offset, len(data))])

    def _write(self, parts: Ranges, data: memoryview) -> None:
        if not parts:
            return
        try:
            if len(parts) == 1:
                self.target.write(data, parts[0][0])
            else:
                self.target.write_ranges(data, parts)
        except OSError:
            if len(parts) > 1:
                self._write_apart(parts, data)
            raise
        self._finished(parts)

    def _write_apart(self, parts: Ranges, data: memoryview) -> None:
        """One after the other, so that only what is bad is left to do."""
        one_by_one(lambda part, offset: self._write([(offset, len(part))], part), data, parts)


def _in_sectors(data: memoryview) -> memoryview:
    """With zeroes up to the end of its last sector, where the disk ends within that."""
    missing = whole_sectors(len(data)) - len(data)
    return memoryview(bytes(data) + bytes(missing)) if missing else data


class _Buffers:
    """A few buffers that many threads take turns with; page-aligned, made when first needed."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._free = threading.Semaphore(_BUFFERS)
        self._idle: list[memoryview] = []

    @contextmanager
    def borrowed(self) -> Iterator[memoryview]:
        with self._free:
            try:
                buffer = self._idle.pop()
            except IndexError:
                buffer = memoryview(mmap.mmap(-1, self._size))
            try:
                yield buffer
            finally:
                self._idle.append(buffer)
