"""O_DIRECT: whole blocks only, from and to aligned memory.

A request whose ends lie on blocks goes straight from the caller's buffer, unless the kernel finds
the buffer's address wanting (EINVAL). Everything else goes through a bounce buffer: an anonymous
mapping, hence page-aligned, reused (``Blocks``, with ``RangeLocks`` against other writers).

Writing whole blocks may grow a file past the last byte that the caller wrote. Such a write excludes
all that follows it in the file, and cuts the padding off again.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from monitor.engine.drivers.blocks import Blocks
from monitor.engine.drivers.buffers import zero
from monitor.engine.drivers.file.host import file_size
from monitor.engine.drivers.ranges import END, RangeLocks

BOUNCE_SIZE: Final = 1 << 20
SAFE_ALIGNMENT: Final = 4096
_KEPT_BUFFERS: Final = 8


def probe_alignment(fd: int) -> int:
    """The block size in bytes that O_DIRECT on ``fd`` asks of offsets and lengths.

    Tried by reading. Where a single byte can be read the answer means nothing (an empty file, a
    filesystem that ignores O_DIRECT) and the safe value is taken.
    """
    block = memoryview(mmap.mmap(-1, SAFE_ALIGNMENT))
    for size in (1, 512, 1024, 2048, SAFE_ALIGNMENT):
        try:
            os.preadv(fd, (block[:size],), 0)
        except OSError as error:
            if error.errno == errno.EINVAL:
                continue
        return SAFE_ALIGNMENT if size == 1 else size
    return SAFE_ALIGNMENT


class DirectIO:
    """Reads and writes of any offset and length on one O_DIRECT descriptor."""

    def __init__(self, fd: int, size_of: Callable[[int], int] = file_size) -> None:
        self._fd = fd
        self._size_of = size_of
        self.alignment = probe_alignment(fd)
        self._blocks = Blocks(
            self.alignment, BOUNCE_SIZE, self._read_blocks, self._write_blocks, self._bounce
        )
        self._ranges = RangeLocks()
        self._buffers: list[memoryview] = []

    def read(self, buffer: memoryview, offset: int) -> None:
        if not self._blocks.misaligned(offset | len(buffer)):
            try:
                self._read_blocks(buffer, offset)
                return
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
        self._blocks.read(buffer, offset)

    def write(self, buffer: memoryview, offset: int) -> None:
        end = offset + len(buffer)
        if not self._blocks.misaligned(offset | len(buffer)):
            with self.writing(offset, end):
                try:
                    self._write_blocks(buffer, offset)
                    return
                except OSError as error:
                    if error.errno != errno.EINVAL:
                        raise
                self._blocks.write(buffer, offset)
            return
        padded = self._blocks.up(end)
        grows = padded != end and padded > self._size_of(self._fd)
        with self._ranges.hold(self._blocks.down(offset), END if grows else padded, exclusive=True):
            size = self._size_of(self._fd)
            self._blocks.write(buffer, offset)
            if grows and padded > size:
                os.ftruncate(self._fd, max(size, end))

    def writing(self, start: int, end: int) -> AbstractContextManager[None]:
        """Held while something else changes these bytes: keeps read-modify-write off them."""
        return self._ranges.hold(self._blocks.down(start), self._blocks.up(end), exclusive=False)

    def resizing(self) -> AbstractContextManager[None]:
        """Held while the file's size changes: no write is in flight."""
        return self._ranges.hold(0, END, exclusive=True)

    # -- blocks ------------------------------------------------------------------------------

    def _read_blocks(self, buffer: memoryview, offset: int) -> None:
        count = 0
        while count < len(buffer):
            moved = os.preadv(self._fd, (buffer[count:],), offset + count)
            count += moved
            # Only the end of the file splits a block.
            if moved == 0 or self._blocks.misaligned(count):
                zero(buffer[count:])
                return

    def _write_blocks(self, buffer: memoryview, offset: int) -> None:
        count = 0
        while count < len(buffer):
            moved = self._blocks.down(os.pwrite(self._fd, buffer[count:], offset + count))
            if moved == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            count += moved

    @contextmanager
    def _bounce(self, size: int) -> Iterator[memoryview]:
        try:
            buffer = self._buffers.pop()
        except IndexError:
            buffer = memoryview(mmap.mmap(-1, BOUNCE_SIZE))
        try:
            yield buffer[:size]
        finally:
            if len(self._buffers) < _KEPT_BUFFERS:
                self._buffers.append(buffer)
