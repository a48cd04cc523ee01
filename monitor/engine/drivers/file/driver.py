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
import threading
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

from monitor.engine import permissions
from monitor.engine.drivers.base import (
    Driver,
    DriverKind,
    Extent,
    ExtentKind,
    OpenContext,
    OpenFlags,
    Reopen,
    Reservation,
)
from monitor.engine.drivers.buffers import PIECE, zeroes
from monitor.engine.drivers.file.direct import DirectIO
from monitor.engine.drivers.file.extend import extend
from monitor.engine.drivers.file.host import (
    open_regular,
    read_fully,
    reopen_regular,
    resize,
    write_fully,
)
from monitor.engine.drivers.file.locks import ImageLocks
from monitor.engine.drivers.file.space import Space, host_extents
from monitor.engine.errors import RequestError
from monitor.engine.schema.blockdev import BlockdevOptionsFile

_WRITERS: Final = permissions.WRITE | permissions.WRITE_UNCHANGED | permissions.RESIZE


class NativeAioNeedsDirect(RequestError):
    template = "aio=native was specified, but it requires cache.direct=on, which was not specified."


class NoPersistentReservationManager(RequestError):
    template = "No persistent reservation manager with id '{name}'"
    name: str


class _Handle:
    """An open descriptor, and how it is open."""

    def __init__(self, fd: int, *, writable: bool, direct: bool) -> None:
        self.fd = fd
        self.writable = writable
        self.direct = DirectIO(fd) if direct else None

    def suits(self, *, writable: bool, direct: bool) -> bool:
        return self.writable == writable and (self.direct is not None) == direct


@dataclass(frozen=True, slots=True)
class _State:
    """Everything that a transaction may change."""

    flags: OpenFlags
    handle: _Handle
    taken: int = 0
    shared: int = permissions.ALL

    @property
    def shared_with_others(self) -> int:
        return permissions.ALL if self.flags.force_share else self.shared


class _Change:
    """A prepared state (``Reopen`` of the contract)."""

    def __init__(self, driver: FileDriver, state: _State) -> None:
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

    _state: _State
    _fd: int
    _direct: DirectIO | None

    # -- life --------------------------------------------------------------------------------

    def open(self, context: OpenContext) -> None:
        options: BlockdevOptionsFile = context.options
        flags = context.flags
        if isinstance(options.pr_manager, str):
            raise NoPersistentReservationManager(options.pr_manager)
        self._filename = options.filename
        writable = _wants_writable(flags, taken=0)
        fd = open_regular(self._filename, writable=writable, direct=flags.direct)
        if options.aio == "native" and not flags.direct:
            os.close(fd)
            raise NativeAioNeedsDirect()
        self._locks = None if options.locking == "off" else ImageLocks(fd, self._filename)
        self._space = Space()
        self._flush_errno = 0
        self._was_writable = False
        self._changes: list[_Change] = []
        self._fds = {fd}
        self._length = 0
        self._length_lock = threading.Lock()
        self._use(_State(flags, _Handle(fd, writable=writable, direct=flags.direct)))
        self._look_at_length()

    def _use(self, state: _State) -> None:
        self._state = state
        self._fd = state.handle.fd
        self._direct = state.handle.direct
        self._was_writable = self._was_writable or state.handle.writable
        self.alignment = self._direct.alignment if self._direct is not None else 1

    def close(self) -> None:
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()

    def prepare_reopen(self, flags: OpenFlags, options: Any = None) -> Reopen | None:
        self._look_at_length()
        return self._prepare(replace(self._newest(), flags=flags))

    def check_permissions(self, taken: int, shared: int) -> Reopen | None:
        return self._prepare(replace(self._newest(), taken=taken, shared=shared))

    # -- preparing and finishing changes -----------------------------------------------------

    def _newest(self) -> _State:
        return self._changes[-1].state if self._changes else self._state

    def _prepare(self, wanted: _State) -> Reopen | None:
        if wanted == self._newest():
            return None
        writable = _wants_writable(wanted.flags, wanted.taken)
        direct = wanted.flags.direct
        opened = -1
        if not wanted.handle.suits(writable=writable, direct=direct):
            opened = reopen_regular(self._fd, self._filename, writable=writable, direct=direct)
            wanted = replace(wanted, handle=_Handle(opened, writable=writable, direct=direct))
        try:
            if self._locks is not None:
                self._locks.extend(wanted.taken, wanted.shared_with_others)
        except RequestError:
            if opened >= 0:
                os.close(opened)
            raise
        if opened >= 0:
            self._fds.add(opened)
        change = _Change(self, wanted)
        self._changes.append(change)
        return change

    def _finish(self, change: _Change, *, committed: bool) -> None:
        change.committed = committed
        if any(other.committed is None for other in self._changes):
            return
        kept = [other.state for other in self._changes if other.committed]
        self._changes.clear()
        self._use(kept[-1] if kept else self._state)
        needed = {self._fd}
        if self._locks is not None:
            self._locks.narrow(self._state.taken, self._state.shared_with_others)
            if self._locks.fd != self._fd and not self._locks.move(self._fd):
                needed.add(self._locks.fd)
        for fd in self._fds - needed:
            os.close(fd)
        self._fds = needed

    # -- data --------------------------------------------------------------------------------

    def length(self) -> int:
        return self._length

    def _look_at_length(self) -> os.stat_result:
        """After whatever may have changed it. The last of several to look sees the last change."""
        with self._length_lock:
            status = os.fstat(self._fd)
            self._length = status.st_size
        return status

    def read(self, buffer: memoryview, offset: int) -> None:
        if self._direct is None:
            read_fully(self._fd, buffer, offset)
        else:
            self._direct.read(buffer, offset)

    def write(self, buffer: memoryview, offset: int) -> None:
        try:
            if self._direct is None:
                write_fully(self._fd, buffer, offset)
            else:
                self._direct.write(buffer, offset)
        finally:
            if offset + len(buffer) > self._length:
                self._look_at_length()

    def write_zeroes(
        self, offset: int, length: int, may_unmap: bool = False, no_fallback: bool = False
    ) -> None:
        if length == 0:
            return
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
        for start in range(offset, end, PIECE):
            self.write(zeroes()[: min(PIECE, end - start)], start)

    def discard(self, offset: int, length: int) -> None:
        """Punches a hole when the node is open with ``discard=unmap``, else nothing."""
        if self._state.flags.unmap and length:
            with self._excluding_mended_writes(offset, offset + length):
                self._space.discard(self._fd, offset, length)

    def flush(self) -> None:
        """fdatasync. After a failure the page cache cannot be trusted: the kernel may have dropped
        what it could not write, and would answer the next call with success. So without O_DIRECT
        every later flush fails too."""
        if self._flush_errno:
            raise OSError(self._flush_errno, os.strerror(self._flush_errno))
        if self._state.flags.no_flush or not self._was_writable:
            return
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            if self._direct is None:
                self._flush_errno = error.errno or errno.EIO
            raise

    def truncate(self, size: int) -> None:
        with self._direct.resizing() if self._direct is not None else nullcontext():
            try:
                resize(self._fd, size)
            finally:
                self._look_at_length()

    def grow(self, size: int, preallocation: str) -> None:
        try:
            extend(self._fd, self._length, size, preallocation, self.write)
        finally:
            self._look_at_length()

    def map(self, offset: int, length: int) -> list[Extent]:
        # A descriptor with O_DIRECT is of no use to those who do not know its alignment.
        offered = self._fd if self._direct is None else -1
        return host_extents(self._fd, offset, length, offered=offered)

    def map_for_write(self, offset: int, length: int) -> Reservation | None:
        """The range as it is; nothing need be allocated for it to be written."""
        if self._direct is not None:
            return None
        runs = [Extent(ExtentKind.DATA, length, self._fd, offset)] if length else []
        return Reservation(runs, self._written_past, self._written_past)

    def _written_past(self) -> None:
        self._look_at_length()

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


def _wants_writable(flags: OpenFlags, taken: int) -> bool:
    """An auto-read-only file is open read-write only while somebody writes."""
    if flags.read_only:
        return False
    return not flags.auto_read_only or bool(taken & _WRITERS)
