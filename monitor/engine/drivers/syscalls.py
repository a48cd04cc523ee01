"""System calls that Python's ``os`` module has no wrapper for, and that tests listen to.

Every function releases the interpreter's lock while the call runs and raises ``OSError`` with the
call's errno. ctypes is imported on first use: most runs never punch a hole.
"""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable
from typing import Final

FALLOC_FL_KEEP_SIZE: Final = 0x01
FALLOC_FL_PUNCH_HOLE: Final = 0x02
FALLOC_FL_ZERO_RANGE: Final = 0x10

UNSUPPORTED: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.ENODEV, errno.ENOTTY})
"""What ``fallocate`` and ``ioctl`` answer where the host does not know the request at all."""


_SYNC_FILE_RANGE_WRITE: Final = 0x02


@functools.cache
def _libc_fallocate() -> tuple[Callable[[int, int, int, int], int], Callable[[], int]]:
    import ctypes

    function = ctypes.CDLL(None, use_errno=True).fallocate64
    function.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    function.restype = ctypes.c_int
    return function, ctypes.get_errno


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """``fallocate(2)``: ``mode`` is a union of the flags above, 0 allocates and grows the file."""
    function, get_errno = _libc_fallocate()
    while function(fd, mode, offset, length) != 0:
        code = get_errno()
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))


def copy_range(source: int, source_at: int, target: int, target_at: int, length: int) -> int:
    """``copy_file_range(2)`` between two descriptors; the bytes that were copied."""
    return os.copy_file_range(source, target, length, source_at, target_at)


def punch_hole(fd: int, offset: int, length: int) -> None:
    """Gives the range's storage back; it reads as zeroes. The file's size stays."""
    fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length)


def zero_range(fd: int, offset: int, length: int) -> None:
    """Turns the range into zeroes that keep their storage. Grows the file where it ends earlier."""
    fallocate(fd, FALLOC_FL_ZERO_RANGE, offset, length)


@functools.cache
def _libc_sync_file_range() -> Callable[[int, int, int, int], int] | None:
    import ctypes

    function = getattr(ctypes.CDLL(None, use_errno=True), "sync_file_range", None)
    if function is not None:
        function.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return function


def start_writeback(fd: int, offset: int, length: int) -> None:
    """Has the host begin to write the range to the disk, and waits for none of it. A hint: nothing
    is raised, and what goes wrong is for the next ``fdatasync`` to tell."""
    function = _libc_sync_file_range()
    if function is not None:
        function(fd, offset, length, _SYNC_FILE_RANGE_WRITE)
