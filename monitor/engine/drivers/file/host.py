"""Opening a host's regular file, and moving bytes between it and memory.

The user's file name may lead anywhere. Opening a FIFO would wait for a writer that never comes, and
opening a device may act (a tape rewinds), so the name is looked at before it is opened, and what
was opened is looked at again. The errors' texts are those of QEMU's file driver.
"""

from __future__ import annotations

import errno
import os
import stat

from monitor.engine.drivers.buffers import zero
from monitor.engine.errors import HostFailure, RequestError, host_failure


class FileNameMissing(RequestError):
    template = "The '{driver}' block driver requires a file name"
    driver: str


class NotRegularFile(RequestError):
    template = "'file' driver requires '{filename}' to be a regular file"
    filename: str


class DirectIoUnsupported(RequestError):
    template = "Could not open '{filename}': filesystem does not support O_DIRECT"
    filename: str


def open_regular(filename: str, *, writable: bool, direct: bool) -> int:
    """A descriptor of the regular file ``filename``. Raises RequestError in QEMU's words."""
    if not filename:
        raise FileNameMissing("file")
    _look_before(filename, "open")
    fd = open_host(filename, filename, writable=writable, direct=direct)
    return _look_after(fd, filename)


def create_regular(filename: str, mode: int) -> int:
    """A read-write descriptor of ``filename``, which is created unless it exists."""
    _look_before(filename, "create")
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    try:
        fd = os.open(filename, flags, mode)
    except OSError as error:
        raise host_failure(f"Could not create '{filename}'", error) from error
    return _look_after(fd, filename)


def reopen_regular(fd: int, filename: str, *, writable: bool, direct: bool) -> int:
    """Another descriptor of the file behind ``fd``, which may have been renamed meanwhile."""
    return open_host(f"/proc/self/fd/{fd}", filename, writable=writable, direct=direct)


def look_at_name(filename: str, action: str) -> int | None:
    """The mode of what the name leads to; None where it is absent, or opening will say what is
    wrong. Refuses names without a meaning."""
    try:
        return os.stat(filename).st_mode
    except OSError:
        return None
    except ValueError as error:  # a NUL, or what the host's encoding cannot say
        raise HostFailure(f"Could not {action} {filename!a}", errno.EINVAL) from error


def _look_before(filename: str, action: str) -> None:
    """Refuses what must not even be opened."""
    mode = look_at_name(filename, action)
    if mode is None:
        return
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        raise NotRegularFile(filename)


def _look_after(fd: int, filename: str) -> int:
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise NotRegularFile(filename)
    return fd


def open_host(path: str, shown: str, *, writable: bool, direct: bool) -> int:
    """A descriptor of whatever ``path`` leads to; messages call it ``shown``."""
    # O_NONBLOCK: should the name have become a FIFO since it was looked at, open() must not wait.
    flags = os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    flags |= os.O_RDWR if writable else os.O_RDONLY
    try:
        return os.open(path, flags | os.O_DIRECT if direct else flags)
    except OSError as error:
        if direct and error.errno == errno.EINVAL and _opens(path, flags):
            raise DirectIoUnsupported(shown) from error
        raise host_failure(f"Could not open '{shown}'", error) from error


def _opens(path: str, flags: int) -> bool:
    try:
        os.close(os.open(path, flags))
    except OSError:
        return False
    return True


def file_size(fd: int) -> int:
    """Bytes of a regular file."""
    return os.fstat(fd).st_size


def resize(fd: int, size: int) -> None:
    """Makes the file ``size`` bytes long. Raises HostFailure."""
    try:
        os.ftruncate(fd, size)
    except OSError as error:
        raise host_failure("Could not resize file", error) from error
    except OverflowError as error:  # 2^63 and more
        raise HostFailure("Could not resize file", errno.EFBIG) from error


def read_fully(fd: int, buffer: memoryview, offset: int) -> None:
    """Fills ``buffer``; what lies beyond the end of the file reads as zeroes."""
    count = os.preadv(fd, (buffer,), offset)
    while count < len(buffer):
        moved = os.preadv(fd, (buffer[count:],), offset + count)
        if moved == 0:
            zero(buffer[count:])
            return
        count += moved


def write_fully(fd: int, buffer: memoryview, offset: int) -> None:
    """Writes all of ``buffer``; the file grows where it ends earlier."""
    count = os.pwrite(fd, buffer, offset)
    while count < len(buffer):
        moved = os.pwrite(fd, buffer[count:], offset + count)
        if moved == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        count += moved
