"""The ``raw`` format: the bytes of its file, or a part of them.

    file    |<-- offset -->|<-------- size -------->|            |
    disk                   |0                       |

Without ``offset`` and ``size`` the driver does nothing to reads, writes and flushes, and the graph
may go past it (``passes_to``). Where nobody said that the image is raw (``probed``), nobody may
write another format's header into its first sector, which would be obeyed when it is probed next.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Final

from monitor.engine import permissions
from monitor.engine.drivers import registry
from monitor.engine.drivers.base import (
    Child,
    Driver,
    DriverKind,
    Extent,
    ExtentKind,
    OpenContext,
    OpenFlags,
    Reopen,
    Reservation,
)
from monitor.engine.drivers.buffers import zero
from monitor.engine.errors import RequestError
from monitor.engine.schema.blockdev import BlockdevOptionsRaw
from monitor.engine.schema.mistakes import UnsignedExpected
from monitor.engine.units import SECTOR

_GROWING: Final = permissions.WRITE | permissions.RESIZE


class OffsetBeyondFile(RequestError):
    template = (
        "Offset ({offset}) cannot be greater than size of the containing file ({file_length})"
    )
    offset: int
    file_length: int


class SizeBeyondFile(RequestError):
    template = (  # two blanks, as QEMU has them
        "The sum of offset ({offset}) and size ({size}) has to be smaller or equal to the "
        " actual size of the containing file ({file_length})"
    )
    offset: int
    size: int
    file_length: int


class SizeUnaligned(RequestError):
    template = "Specified size is not multiple of {sector}"
    sector: int = SECTOR


class FixedSize(RequestError):
    template = "Cannot resize fixed-size raw disks"


class TooLargeForOffset(RequestError):
    template = "Disk size too large for the chosen offset"


class _Change:
    """A prepared change of ``discard``, and of the part of the file that is the disk."""

    def __init__(self, driver: RawDriver, unmap: bool, offset: int, size: int | None) -> None:
        self._driver, self._unmap, self._part = driver, unmap, (offset, size)

    def commit(self) -> None:
        self._driver.unmap = self._unmap
        self._driver._offset, self._driver._size = self._part

    def abort(self) -> None:
        """Nothing was prepared."""


class RawDriver(Driver):
    name = "raw"
    kind = DriverKind.FORMAT
    child_roles: ClassVar[tuple[str, ...]] = ("file",)
    changeable: ClassVar[frozenset[str]] = frozenset({"offset", "size"})
    opens_at_once = True

    file: Child
    unmap: bool = False
    _opened_as_part = False
    _offset: int = 0
    _size: int | None = None  # None: to the end of the file

    # -- life --------------------------------------------------------------------------------

    def open(self, context: OpenContext) -> None:
        options: BlockdevOptionsRaw = context.options
        self.file = context.children["file"]
        self.unmap = context.flags.unmap
        self._first_sector = threading.Lock()
        self._offset, self._size = self._part_of_file(options)
        self._opened_as_part = self._is_part

    def _part_of_file(self, options: BlockdevOptionsRaw) -> tuple[int, int | None]:
        """Where the disk begins in the file, and its size where that is not all of the rest."""
        offset, size = _given("offset", options.offset) or 0, _given("size", options.size)
        if not offset and size is None:
            return 0, None
        length = self.file.length()
        if offset > length:
            raise OffsetBeyondFile(offset, length)
        if size is None:
            return offset, None
        if length - offset < size:
            raise SizeBeyondFile(offset, size, length)
        if size % SECTOR:  # rounded up, the last sector would reach beyond the part
            raise SizeUnaligned()
        return offset, size

    def close(self) -> None:
        """Nothing of its own to let go of."""

    def prepare_reopen(self, flags: OpenFlags, options: Any = None) -> Reopen | None:
        before = (self._offset, self._size)
        part = before if options is None else self._part_of_file(options)
        if flags.unmap == self.unmap and part == before:
            return None
        return _Change(self, flags.unmap, *part)

    def passes_to(self) -> str | None:
        return None if self._is_part or self.probed or self.file.event else "file"

    def event_sink(self) -> Callable[[str], None] | None:
        return self.file.event

    @property
    def _is_part(self) -> bool:
        return bool(self._offset) or self._size is not None

    def child_permissions(
        self, role: str, taken: int, shared: int, writable: bool
    ) -> tuple[int, int]:
        """All of a file is handed on like a filter's child. Around a part of it there may be
        other parts: the file must keep its size, and nothing is taken that no parent asked for."""
        if not self._opened_as_part:  # a reopened node keeps the kind of its child, as in QEMU
            return permissions.through_filter(taken, shared)
        needed, shared = permissions.for_data(taken, shared)
        return needed & ~_GROWING | taken & _GROWING, shared

    # -- data --------------------------------------------------------------------------------

    def length(self) -> int:
        length = max(self.file.length() - self._offset, 0)
        return length if self._size is None else min(self._size, length)

    def read(self, buffer: memoryview, offset: int) -> None:
        inside = len(buffer)
        if self.file.event is not None:
            self.file.event("read_aio")
        if self._size is not None and offset + inside > self._size:
            inside = max(self._size - offset, 0)
            zero(buffer[inside:])  # what follows in the file is not ours to show
        if inside:
            self.file.read(buffer[:inside], self._offset + offset)

    def write(self, buffer: memoryview, offset: int) -> None:
        self._check_fits(offset, len(buffer))
        if self.probed and offset < SECTOR and buffer:
            self._write_first_sector(buffer, offset)
        else:
            if self.file.event is not None:
                self.file.event("write_aio")
            self.file.write(buffer, self._offset + offset)

    def write_zeroes(
        self, offset: int, length: int, may_unmap: bool = False, no_fallback: bool = False
    ) -> None:
        self._check_fits(offset, length)
        part = self._part_of_first_sector(offset, length)
        if part:  # a byte that becomes zero may complete a header; a whole sector of them cannot
            self._write_first_sector(memoryview(bytes(part)), offset)
            offset, length = offset + part, length - part
        may_unmap = may_unmap and self.unmap
        self.file.write_zeroes(self._offset + offset, length, may_unmap, no_fallback)

    def discard(self, offset: int, length: int) -> None:
        """Handed on when the node is open with ``discard=unmap``, else nothing."""
        if not self.unmap:
            return
        self._check_fits(offset, length)
        kept = self._part_of_first_sector(offset, length)
        self.file.discard(self._offset + offset + kept, length - kept)

    def flush(self) -> None:
        if self.file.event is not None:
            self.file.event("flush_to_os")
            self.file.event("flush_to_disk")
        self.file.flush()

    def truncate(self, size: int) -> None:
        self._check_new(size)
        self.file.truncate(self._offset + size)

    def grow(self, size: int, preallocation: str) -> None:
        self._check_new(size)
        self.file.grow(self._offset + size, preallocation)

    def _check_new(self, size: int) -> None:
        if self._size is not None:
            raise FixedSize()
        if size + self._offset >= 1 << 63:
            raise TooLargeForOffset()

    def map(self, offset: int, length: int) -> list[Extent]:
        """The file's runs. What the file leaves to a backing image of *its* own is data here:
        this node has no backing image that would decide."""
        runs = self.file.map(self._offset + offset, length)
        return [
            run if run.kind is not ExtentKind.UNALLOCATED else Extent(ExtentKind.DATA, run.length)
            for run in runs
        ]

    def hold(self) -> AbstractContextManager[None]:
        return self.file.hold()

    def map_for_write(self, offset: int, length: int) -> Reservation | None:
        """The file's, but not of a first sector that is guarded: its bytes must be seen."""
        self._check_fits(offset, length)
        if self.probed and offset < SECTOR:
            return None
        return self.file.map_for_write(self._offset + offset, length)

    def _check_fits(self, offset: int, length: int) -> None:
        if self._size is not None and offset + length > self._size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    # -- the first sector of a guess ---------------------------------------------------------

    def _part_of_first_sector(self, offset: int, length: int) -> int:
        """Bytes of the request in a first sector that is guarded and not covered as a whole."""
        if not self.probed or offset >= SECTOR or (offset == 0 and length >= SECTOR):
            return 0
        return min(length, SECTOR - offset)

    def _write_first_sector(self, buffer: memoryview, offset: int) -> None:
        """Refuses with EPERM what would make the first sector another format's header.

        One at a time: two harmless halves may make a header. Waiting here is waiting for another
        request in flight on this node, as with any read-modify-write.
        """
        with self._first_sector:
            sector = bytearray(SECTOR)
            self.file.read(memoryview(sector), self._offset)
            end = min(offset + len(buffer), SECTOR)
            sector[offset:end] = buffer[: end - offset]
            if registry.probe(bytes(sector)) != self.name:
                raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
            self.file.write(buffer, self._offset + offset)

    # -- facts -------------------------------------------------------------------------------

    def image_facts(self) -> None:
        """Its file's."""

    @property
    def alignment(self) -> int:  # type: ignore[override]  # the file's may change when reopened
        return self.file.alignment


def _given(option: str, value: object) -> int | None:
    if not isinstance(value, int):
        return None
    if value < 0:
        raise UnsignedExpected(option)
    return value
