"""The ``file`` driver: a regular file of the host.

One descriptor serves all threads by positioned calls. What the driver holds beside it are QEMU's
image locks, which are taken when the graph asks for permissions (``check_permissions``), not when
the file is opened.

A change of flags or permissions may need another descriptor (read-write instead of read-only, with
O_DIRECT or without). It is opened while the change is prepared and replaces the old one on commit.
A transaction may prepare several changes of one file, each on top of the one before; they take
effect together, when the last of them has been committed, so that the order of commits does not
matter.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from typing import Any, ClassVar

from monitor.engine.drivers import syscalls
from monitor.engine.drivers.base import (
    MAX_LENGTH,
    Driver,
    DriverKind,
    Extent,
    ExtentKind,
    OpenContext,
    OpenFlags,
    Ranges,
    Reopen,
    Reservation,
    one_by_one,
)
from monitor.engine.drivers.buffers import write_zeroes, zeroes
from monitor.engine.drivers.file.closing import close_soon
from monitor.engine.drivers.file.direct import DirectIO
from monitor.engine.drivers.file.extend import extend, reserve
from monitor.engine.drivers.file.handles import Handle, State, wants_writable
from monitor.engine.drivers.file.host import (
    file_size,
    open_regular,
    read_fully,
    reopen_regular,
    resize,
    write_fully,
)
from monitor.engine.drivers.file.locks import ImageLocks
from monitor.engine.drivers.file.space import Space, host_extents
from monitor.engine.errors import HostFailure, RequestError
from monitor.engine.schema.blockdev import BlockdevOptionsFile


class NativeAioNeedsDirect(RequestError):
    template = "aio=native was specified, but it requires cache.direct=on, which was not specified."


class NoPersistentReservationManager(RequestError):
    template = "No persistent reservation manager with id '{name}'"
    name: str


class _Change:
    """A prepared state (``Reopen`` of the contract)."""

    def __init__(self, driver: FileDriver, state: State) -> None:
        self._driver = driver
        self.state = state
        self.committed: bool | None = None  # None: still prepared

    def commit(self) -> None:
        self._driver._finish(self, committed=True)

    def abort(self) -> None:
        self._driver._finish(self, committed=False)


class FileDriver(Driver):
    name = "file"
    kind = DriverKind.PROTOCOL
    changeable: ClassVar[frozenset[str]] = frozenset({"drop-cache", "x-check-cache-dropped"})
    is_protocol = True
    space: ClassVar[type[Space]] = Space
    fixed_size: ClassVar[bool] = False

    _state: State
    _fd: int
    _direct: DirectIO | None

    # -- life --------------------------------------------------------------------------------

    def open(self, context: OpenContext) -> None:
        options: BlockdevOptionsFile = context.options
        flags = context.flags
        if isinstance(options.pr_manager, str):
            raise NoPersistentReservationManager(options.pr_manager)
        self._filename = options.filename
        writable = wants_writable(flags, taken=0)
        fd = self._open_host(self._filename, writable=writable, direct=flags.direct)
        if options.aio == "native" and not flags.direct:
            os.close(fd)
            raise NativeAioNeedsDirect()
        self._locks = None if options.locking == "off" else ImageLocks(fd, self._filename)
        self._space = self.space()
        self._flush_errno = 0
        self._was_writable = False
        self._untouched = True
        self._changes: list[_Change] = []
        self._fds = {fd}
        self._spare: Handle | None = None
        self._handles_lock = threading.Lock()
        self._length = 0
        self._length_lock = threading.Lock()
        self._use(State(flags, Handle(fd, self._size_of, writable=writable, direct=flags.direct)))
        self._look_at_length()
        if self._length > MAX_LENGTH:
            self.close()
            raise HostFailure("Could not refresh total sector count", errno.EFBIG)

    def _use(self, state: State) -> None:
        self._state = state
        self._fd = state.handle.fd
        self._direct = state.handle.direct
        self._was_writable = self._was_writable or state.handle.writable
        self.alignment = self._direct.alignment if self._direct is not None else 1

    def _open_host(self, filename: str, *, writable: bool, direct: bool) -> int:
        return open_regular(filename, writable=writable, direct=direct)

    @staticmethod
    def _size_of(fd: int) -> int:
        return file_size(fd)

    def close(self) -> None:
        with self._handles_lock:
            for fd in self._fds:
                os.close(fd)
            self._fds.clear()

    def prepare_reopen(self, flags: OpenFlags, options: Any = None) -> Reopen | None:
        self._look_at_length()
        return self._prepare(replace(self._newest(), flags=flags))

    def check_permissions(self, taken: int, shared: int) -> Reopen | None:
        return self._prepare(replace(self._newest(), taken=taken, shared=shared))

    # -- preparing and finishing changes -----------------------------------------------------

    def _newest(self) -> State:
        return self._changes[-1].state if self._changes else self._state

    def waits_for(self, taken: int) -> bool:
        state = self._newest()
        return self._spare_for(replace(state, taken=state.taken | taken)) is None

    def make_ready(self, taken: int) -> None:
        """An auto-read-only file that is about to be written to is opened read-write, beside the
        descriptor in use, which is kept for the way back."""
        state = self._newest()
        wanted = replace(state, taken=state.taken | taken)
        if self._spare_for(wanted) is not None:
            return
        opened = self._open_again(wanted)
        with self._handles_lock:
            if self._spare is not None or not self._fds:  # somebody was faster, or it is closed
                os.close(opened.fd)
                return
            self._fds.add(opened.fd)
            self._spare = opened

    def _spare_for(self, wanted: State) -> Handle | None:
        """The handle that suits ``wanted``, if it is open already."""
        writable = wants_writable(wanted.flags, wanted.taken)
        for handle in (wanted.handle, self._spare):
            if handle is not None and handle.suits(writable=writable, direct=wanted.flags.direct):
                return handle
        return None

    def _open_again(self, wanted: State) -> Handle:
        writable = wants_writable(wanted.flags, wanted.taken)
        direct = wanted.flags.direct
        fd = reopen_regular(self._fd, self._filename, writable=writable, direct=direct)
        return Handle(fd, self._size_of, writable=writable, direct=direct)

    def _prepare(self, wanted: State) -> Reopen | None:
        if wanted == self._newest():
            return None
        handle = self._spare_for(wanted)
        opened = None
        if handle is None:
            handle = opened = self._open_again(wanted)
        wanted = replace(wanted, handle=handle)
        try:
            if self._locks is not None:
                self._locks.extend(wanted.taken, wanted.shared_with_others)
        except RequestError:
            if opened is not None:
                os.close(opened.fd)
            raise
        if opened is not None:
            self._fds.add(opened.fd)
        change = _Change(self, wanted)
        self._changes.append(change)
        return change

    def _finish(self, change: _Change, *, committed: bool) -> None:
        change.committed = committed
        if any(other.committed is None for other in self._changes):
            return
        kept = [other.state for other in self._changes if other.committed]
        self._changes.clear()
        before = self._state.handle
        self._use(kept[-1] if kept else self._state)
        with self._handles_lock:
            self._close_others(before)

    def _close_others(self, before: Handle) -> None:
        """What is not in use any more. The read-only descriptor of a file that is open read-write
        only while somebody writes stays, since the way back must not wait for the host."""
        needed = {self._fd}
        spares = [h for h in (before, self._spare) if h is not None and self._is_way_back(h)]
        self._spare = spares[0] if spares else None
        if self._spare is not None:
            needed.add(self._spare.fd)
        if self._locks is not None:
            self._locks.narrow(self._state.taken, self._state.shared_with_others)
            if self._locks.fd != self._fd and not self._locks.move(self._fd):
                needed.add(self._locks.fd)
        close_soon(self._fds - needed)
        self._fds = needed

    def _is_way_back(self, handle: Handle) -> bool:
        flags, now = self._state.flags, self._state.handle
        return (
            flags.auto_read_only
            and not handle.writable
            and now.writable
            and handle.suits(writable=False, direct=flags.direct)
        )

    # -- data --------------------------------------------------------------------------------

    def length(self) -> int:
        return self._length

    def _look_at_length(self) -> os.stat_result:
        """After whatever may have changed it. The last of several to look sees the last change."""
        with self._length_lock:
            status = os.fstat(self._fd)
            regular = stat.S_ISREG(status.st_mode)
            self._length = status.st_size if regular else self._size_of(self._fd)
        return status

    def read(self, buffer: memoryview, offset: int) -> None:
        if self._direct is None:
            read_fully(self._fd, buffer, offset)
        else:
            self._direct.read(buffer, offset)

    def write(self, buffer: memoryview, offset: int) -> None:
        self._untouched = False
        try:
            if self._direct is None:
                write_fully(self._fd, buffer, offset)
            else:
                self._direct.write(buffer, offset)
        finally:
            if offset + len(buffer) > self._length:
                self._look_at_length()

    def write_ranges(self, buffer: memoryview, ranges: Ranges) -> None:
        """Who writes so copies: see ``_written_past``."""
        one_by_one(self.write, buffer, ranges)
        if self._direct is None and ranges:
            start, (last, length) = ranges[0][0], ranges[-1]
            self._start_writeback(start, last + length - start)

    def write_zeroes(
        self, offset: int, length: int, may_unmap: bool = False, no_fallback: bool = False
    ) -> None:
        if length == 0:
            return
        self._untouched = False
        end = offset + length
        with self._excluding_mended_writes(offset, end):
            done = self._space.zero(
                self._fd, offset, length, may_unmap=may_unmap and self._state.flags.unmap
            )
        if done:
            if end > self._length:
                self._look_at_length()
                if end > self._length:  # punching a hole leaves the size alone
                    self.write(zeroes()[:1], end - 1)
            return
        if no_fallback:
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
        write_zeroes(self.write, offset, length)

    def discard(self, offset: int, length: int) -> None:
        """Punches a hole when the node is open with ``discard=unmap``, else nothing."""
        if self._state.flags.unmap and length:
            self._untouched = False
            with self._excluding_mended_writes(offset, offset + length):
                self._space.discard(self._fd, offset, length)

    def flush(self) -> None:
        """fdatasync. After a failure the page cache cannot be trusted: the kernel may have dropped
        what it could not write, and would answer the next call with success. So without O_DIRECT
        every later flush fails too.

        What nobody has changed since it was opened needs none, which is felt where many images are
        opened and closed: a flush is the slowest thing that can be asked of a disk."""
        if self._flush_errno:
            raise OSError(self._flush_errno, os.strerror(self._flush_errno))
        if self._untouched or self._state.flags.no_flush or not self._was_writable:
            return
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            if self._direct is None:
                self._flush_errno = error.errno or errno.EIO
            raise

    def truncate(self, size: int) -> None:
        self._untouched = False
        with self._direct.resizing() if self._direct is not None else nullcontext():
            try:
                resize(self._fd, size)
            finally:
                self._look_at_length()

    def grow(self, size: int, preallocation: str) -> None:
        self._untouched = False
        try:
            extend(self._fd, self._length, size, preallocation, self.write)
        finally:
            self._look_at_length()

    def reserve(self, size: int) -> None:
        if self._direct is None or self.fixed_size or size <= self._length:
            return
        self._untouched = False
        with suppress(OSError):  # where the host cannot, it goes without
            reserve(self._fd, self._length, size)
        self._look_at_length()

    def map(self, offset: int, length: int) -> list[Extent]:
        # A descriptor with O_DIRECT is of no use to those who do not know its alignment.
        offered = self._fd if self._direct is None else -1
        return host_extents(self._fd, offset, length, offered=offered)

    def map_for_write(self, offset: int, length: int) -> Reservation | None:
        """The range as it is; nothing need be allocated for it to be written."""
        if self._direct is not None or (self.fixed_size and offset + length > self._length):
            return None
        self._untouched = False
        runs = [Extent(ExtentKind.DATA, length, self._fd, offset)] if length else []

        def written() -> None:
            self._written_past(offset, length)

        return Reservation(runs, written, written)

    def _written_past(self, offset: int, length: int) -> None:
        """Who reserves copies much, and has it flushed in the end: the disk need not be idle until
        then, while the copy keeps a core busy."""
        if offset + length > self._length:
            self._look_at_length()
        self._start_writeback(offset, length)

    def _start_writeback(self, offset: int, length: int) -> None:
        if not self._state.flags.no_flush:
            syscalls.start_writeback(self._fd, offset, length)

    def _excluding_mended_writes(self, start: int, end: int) -> AbstractContextManager[None]:
        """With O_DIRECT, an unaligned write that read a block before must not write it after."""
        return nullcontext() if self._direct is None else self._direct.writing(start, end)

    # -- facts -------------------------------------------------------------------------------

    @property
    def filename(self) -> str:
        return self._filename

    def specific_stats(self) -> dict[str, int]:
        return self._space.stats()

    def allocated_bytes(self) -> int:
        return self._look_at_length().st_blocks * 512
