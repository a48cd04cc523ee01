"""Requests of the kernel for one exported file, carried out on the export.

A few threads wait for requests on one descriptor; each takes one, carries it out in its own lane,
and answers. What changes the size is done by the engine, with nobody at the node, and waited for
in no lane.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from monitor.engine.errors import HostFailure, RequestError
from monitor.wire import fuse as f

if TYPE_CHECKING:
    from monitor.engine.api import Exported, Lane

THREADS: Final = 4

# of fallocate(2)
KEEP_SIZE: Final = 0x01
PUNCH_HOLE: Final = 0x02
ZERO_RANGE: Final = 0x10

_ENDED: Final = frozenset({errno.ENODEV, errno.EBADF})
_AGAIN: Final = frozenset({errno.EAGAIN, errno.EINTR, errno.ENOENT})
"""Nothing there for this thread: another was faster, or who asked has given up."""


class Serving:
    """The file: what it looks like, and what is done with it, from several threads."""

    def __init__(self, export: Exported, *, growable: bool, allow_other: bool) -> None:
        self.export = export
        self.growable = growable
        self._allow_other = allow_other
        self._mode = stat.S_IFREG | stat.S_IRUSR | (stat.S_IWUSR if export.writable else 0)
        self._uid, self._gid = os.getuid(), os.getgid()
        self._time = int(time.time())

    def answer(self, request: f.FuseRequest, lane: Lane) -> tuple[bytes | memoryview, ...] | None:
        """The buffers of the reply; None where there is to be none."""
        if request.opcode in f.UNANSWERED:
            return None
        operation = _OPERATIONS.get(request.opcode)
        try:
            if operation is None:
                raise OSError(errno.ENOSYS, "no such operation")
            if request.opcode == f.OPEN and os.path.exists(f"/proc/self/task/{request.task}"):
                # What this process asks of itself could wait for a turn, or a section, of its own.
                raise OSError(errno.EDEADLK, "opened by its own server")
            body = operation(self, request.body, lane)
        except f.Malformed:
            return (f.failure(request.unique, errno.EINVAL),)
        except HostFailure as error:
            return (f.failure(request.unique, error.errno),)
        except RequestError:
            return (f.failure(request.unique, errno.EINVAL),)
        except OSError as error:
            return (f.failure(request.unique, error.errno or errno.EIO),)
        return f.reply(request.unique, len(body)), body

    # -- what it looks like ------------------------------------------------------------------

    def _init(self, body: memoryview, lane: Lane) -> bytes:
        return f.init(body)

    def _getattr(self, body: memoryview, lane: Lane) -> bytes:
        with lane:
            size, used = self.export.length(), self.export.allocated()
        blocks = -(-(size if used is None else used) // 512)
        return f.attributes(
            f.Attributes(size, blocks, self._time, self._mode, self._uid, self._gid)
        )

    def _setattr(self, body: memoryview, lane: Lane) -> bytes:
        changes = f.changes(body)
        owners = f.FATTR_MODE | f.FATTR_UID | f.FATTR_GID
        refused = 0 if self._allow_other else owners
        if not changes.valid & f.FATTR_SIZE:
            refused |= f.FATTR_TIMES
        if changes.valid & refused:
            raise OSError(errno.ENOTSUP, "fixed")
        if changes.valid & f.FATTR_MODE:
            if changes.mode & 0o111 or (changes.mode & 0o222 and not self.export.writable):
                raise OSError(errno.EROFS, "neither executable nor writable")
            self._mode = stat.S_IFREG | stat.S_IMODE(changes.mode)
        if changes.valid & f.FATTR_UID:
            self._uid = changes.uid
        if changes.valid & f.FATTR_GID:
            self._gid = changes.gid
        if changes.valid & f.FATTR_SIZE:
            self._check_writable()
            self.export.resize(changes.size, at_least=False)
        return self._getattr(body, lane)

    def _open(self, body: memoryview, lane: Lane) -> bytes:
        return f.opened()

    def _statfs(self, body: memoryview, lane: Lane) -> bytes:
        return f.statfs()

    def _nothing(self, body: memoryview, lane: Lane) -> bytes:
        return b""

    def _lseek(self, body: memoryview, lane: Lane) -> bytes:
        offset, whence = f.seek(body)
        if whence not in (os.SEEK_DATA, os.SEEK_HOLE):
            raise OSError(errno.EINVAL, "whence")
        with lane:
            length = self.export.length()
            if offset >= length:
                raise OSError(errno.ENXIO, "past the end")
            for size, _, zero in self.export.allocation(offset, length - offset):
                if zero == (whence == os.SEEK_HOLE):
                    return f.sought(offset)
                offset += size
        if whence == os.SEEK_DATA:
            raise OSError(errno.ENXIO, "no data from here")
        return f.sought(offset)  # the end is a hole

    # -- its bytes ---------------------------------------------------------------------------

    def _read(self, body: memoryview, lane: Lane) -> memoryview:
        offset, size = f.read_range(body)
        with lane:
            room = memoryview(bytearray(max(0, min(size, self.export.length() - offset))))
            if room:
                self.export.read(room, offset)
        return room

    def _write(self, body: memoryview, lane: Lane) -> bytes:
        self._check_writable()
        offset, data = f.written_data(body)
        if self.growable and offset + len(data) > self.export.length():
            self.export.resize(offset + len(data), at_least=True)
        with lane:
            data = data[: max(0, self.export.length() - offset)]
            if not data:
                raise OSError(errno.ENOSPC, "past the end")
            self.export.write(data, offset)
            self._end()
        return f.written(len(data))

    def _flush(self, body: memoryview, lane: Lane) -> bytes:
        with lane:
            self.export.flush()
        return b""

    def _fallocate(self, body: memoryview, lane: Lane) -> bytes:
        self._check_writable()
        offset, length, mode = f.allocation(body)
        size = self.export.length()
        if mode & KEEP_SIZE:
            length = min(length, max(0, size - offset))
        if not mode:
            if offset < size:  # there is no way to allocate without to write
                raise OSError(errno.EOPNOTSUPP, "in the middle")
            self.export.resize(offset + length, at_least=True)
        elif mode & PUNCH_HOLE:
            if not mode & KEEP_SIZE:
                raise OSError(errno.EINVAL, "a hole that changes the size")
            self._zero(offset, length, lane, may_unmap=True)
        elif mode & ZERO_RANGE:
            if offset + length > size:
                self.export.resize(offset + length, at_least=True)
            self._zero(offset, length, lane, may_unmap=False)
        else:
            raise OSError(errno.EOPNOTSUPP, "mode")
        return b""

    def _zero(self, offset: int, length: int, lane: Lane, *, may_unmap: bool) -> None:
        if not length:
            return
        with lane:
            self.export.write_zeroes(offset, length, may_unmap, False)
            self._end()

    def _end(self) -> None:
        if self.export.writethrough:
            self.export.flush()

    def _check_writable(self) -> None:
        if not self.export.writable:
            raise OSError(errno.EACCES, "read-only")


_OPERATIONS: Final[dict[int, Callable[[Serving, memoryview, Lane], bytes | memoryview]]] = {
    f.INIT: Serving._init,
    f.DESTROY: Serving._nothing,
    f.GETATTR: Serving._getattr,
    f.SETATTR: Serving._setattr,
    f.OPEN: Serving._open,
    f.RELEASE: Serving._nothing,
    f.STATFS: Serving._statfs,
    f.READ: Serving._read,
    f.WRITE: Serving._write,
    f.FSYNC: Serving._flush,
    f.FLUSH: Serving._flush,
    f.FALLOCATE: Serving._fallocate,
    f.LSEEK: Serving._lseek,
}


class Threads:
    """Those that serve a file, from ``start`` to ``stop``."""

    def __init__(self, serving: Serving, descriptor: int) -> None:
        self._serving = serving
        self._descriptor = descriptor
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._threads = [
            threading.Thread(target=self._run, name="fuse export", daemon=True)
            for _ in range(THREADS)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Waits until each has ended its request."""
        os.eventfd_write(self._wake, 1)
        for thread in self._threads:
            thread.join()
        os.close(self._wake)

    def _run(self) -> None:
        room = memoryview(bytearray(f.REQUEST))
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        lane = self._serving.export.lane()
        try:
            while True:
                ready = {descriptor for descriptor, _ in poll.poll()}
                if self._wake in ready or not self._one(room, lane):
                    return
        finally:
            self._serving.export.drop_lane(lane)

    def _one(self, room: memoryview, lane: Lane) -> bool:
        """Serves one request, if there is one still. False when there will be none any more."""
        try:
            count = os.readv(self._descriptor, [room])
            reply = self._serving.answer(f.request(room[:count]), lane)
            if reply is not None:
                os.writev(self._descriptor, reply)
        except OSError as error:
            return error.errno in _AGAIN
        except f.Malformed:
            return False
        return True
