"""Creating an image file on the host, as QEMU's ``file`` driver does it.

A file that exists is emptied, but only under the image locks: a running QEMU's disk is not.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from typing import Final

from monitor.engine import permissions
from monitor.engine.drivers.buffers import PIECE, zeroes
from monitor.engine.drivers.file.host import create_regular, resize, write_fully
from monitor.engine.drivers.file.locks import ImageLocks
from monitor.engine.errors import HostFailure, RequestError, host_failure

_MODE: Final = 0o644
_FS_IOC_GETFLAGS: Final = 0x80086601
_FS_IOC_SETFLAGS: Final = 0x40086602
_FS_NOCOW: Final = 0x00800000


class UnsupportedPreallocation(RequestError):
    template = "Unsupported preallocation mode: {mode}"
    mode: str


def create_file(
    filename: str, size: int, preallocation: str = "off", *, nocow: bool = False
) -> None:
    """Creates or empties ``filename`` and makes it ``size`` bytes long.

    ``preallocation``: "off" leaves a hole, "falloc" reserves the blocks, "full" writes zeroes and
    syncs them. ``nocow`` asks a copy-on-write filesystem not to (ignored elsewhere, as by QEMU).
    Raises RequestError; a file that could not get its size is left empty.
    """
    fd = create_regular(filename, _MODE)
    try:
        locks = ImageLocks(fd, filename)
        locks.extend(permissions.WRITE | permissions.RESIZE, permissions.ALL & ~permissions.RESIZE)
        resize(fd, 0)
        if nocow:
            _set_nocow(fd)
        try:
            _fill(fd, size, preallocation)
        except RequestError:
            with contextlib.suppress(OSError):
                os.ftruncate(fd, 0)
            raise
    finally:
        os.close(fd)  # and with it the locks


def _set_nocow(fd: int) -> None:
    with contextlib.suppress(OSError):
        flags = int.from_bytes(fcntl.ioctl(fd, _FS_IOC_GETFLAGS, bytes(8))[:4], "little")
        fcntl.ioctl(fd, _FS_IOC_SETFLAGS, (flags | _FS_NOCOW).to_bytes(8, "little"))


def _fill(fd: int, size: int, preallocation: str) -> None:
    match preallocation:
        case "off":
            resize(fd, size)
        case "falloc":
            _reserve(fd, size)
        case "full":
            _write_zeroes(fd, size)
        case _:
            raise UnsupportedPreallocation(preallocation)


def _reserve(fd: int, size: int) -> None:
    try:
        if size:
            os.posix_fallocate(fd, 0, size)
    except (OSError, OverflowError) as error:
        code = error.errno if isinstance(error, OSError) else None
        text = "Could not preallocate data for the new file"
        raise HostFailure(text, code or errno.EFBIG) from error


def _write_zeroes(fd: int, size: int) -> None:
    try:
        for start in range(0, size, PIECE):
            write_fully(fd, zeroes()[: min(PIECE, size - start)], start)
    except OSError as error:
        raise host_failure("Could not write zeros for preallocation", error) from error
    try:
        os.fsync(fd)
    except OSError as error:
        raise host_failure("Could not flush file to disk", error) from error
