"""Making a file longer, with or without storage for what is added: for new files and resizing."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from typing import Final

from monitor.engine.drivers import syscalls
from monitor.engine.drivers.buffers import PIECE, zeroes
from monitor.engine.drivers.file.host import resize
from monitor.engine.errors import HostFailure, RequestError, host_failure

_BLOCK: Final = 4096
_PLENTY: Final = 8
"""How many times what is taken up ahead has to be free on the host."""


class UnsupportedPreallocation(RequestError):
    template = "Unsupported preallocation mode: {mode}"
    mode: str


class PreallocationWhileShrinking(RequestError):
    template = "Cannot use preallocation for shrinking files"


def extend(
    fd: int, old: int, size: int, preallocation: str, write: Callable[[memoryview, int], None]
) -> None:
    """Makes the file, ``old`` bytes long, ``size`` bytes long; it is not shorter than before.

    ``preallocation``: "off" leaves a hole, "falloc" reserves the blocks, "full" has ``write`` write
    zeroes and syncs them. Raises RequestError in QEMU's words; the file is as long as it was then.
    """
    if preallocation == "off":
        resize(fd, size)
        if not old:
            _allocate_first_block(fd, size)
        return
    if size < old:
        raise PreallocationWhileShrinking
    try:
        match preallocation:
            case "falloc":
                _reserve(fd, old, size)
            case "full":
                _write_zeroes(fd, old, size, write)
            case _:
                raise UnsupportedPreallocation(preallocation)
    except RequestError:
        with contextlib.suppress(OSError):
            os.ftruncate(fd, old)
        raise
    if preallocation == "falloc" and not old:
        _allocate_first_block(fd, size)


def reserve(fd: int, old: int, size: int) -> None:
    """Has the file take up room to be ``size`` bytes long, unless room is scarce: others may need
    it more. Raises OSError."""
    host = os.fstatvfs(fd)
    if host.f_bavail * host.f_frsize >= _PLENTY * (size - old):
        syscalls.fallocate(fd, 0, old, size - old)


def _allocate_first_block(fd: int, size: int) -> None:
    """Where the file begins with a hole, nobody can find out by reading what O_DIRECT wants. As
    QEMU does it; a file without that block is as good."""
    with contextlib.suppress(OSError):
        os.pwrite(fd, zeroes()[: min(size, _BLOCK)], 0)


def _reserve(fd: int, old: int, size: int) -> None:
    try:
        if size > old:
            os.posix_fallocate(fd, old, size - old)
    except (OSError, OverflowError) as error:
        code = error.errno if isinstance(error, OSError) else None
        raise HostFailure("Could not preallocate new data", code or errno.EFBIG) from error


def _write_zeroes(fd: int, old: int, size: int, write: Callable[[memoryview, int], None]) -> None:
    resize(fd, size)  # a size that cannot be is told before anything is written
    try:
        for start in range(old, size, PIECE):
            write(zeroes()[: min(PIECE, size - start)], start)
    except OSError as error:
        raise host_failure("Could not write zeros for preallocation", error) from error
    try:
        os.fsync(fd)
    except OSError as error:
        raise host_failure("Could not flush file to disk", error) from error
