"""The ``host_device`` driver: a block (or character) device of the host.

As ``file`` but for what a device does differently: its size is asked for by ``ioctl`` and fixed,
discarding and zeroing are requests to the device, and it has no holes that could be found.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from typing import Final

from monitor.engine.drivers import syscalls
from monitor.engine.drivers.base import Extent, ExtentKind, PreallocationUnsupported
from monitor.engine.drivers.file.driver import FileDriver
from monitor.engine.drivers.file.host import FileNameMissing, look_at_name, open_host
from monitor.engine.drivers.file.space import Space
from monitor.engine.errors import RequestError

_BLKGETSIZE64: Final = 0x80081272  # linux/fs.h
_BLKDISCARD: Final = 0x1277
_BLKZEROOUT: Final = 0x127F
_RANGE: Final = struct.Struct("@QQ")


class NotADevice(RequestError):
    template = "'host_device' driver requires '{filename}' to be either a character or block device"
    filename: str


class CannotGrowDevice(RequestError):
    template = "Cannot grow device files"


def open_device(filename: str, *, writable: bool, direct: bool) -> int:
    """A descriptor of the device ``filename``. Raises RequestError in QEMU's words."""
    if not filename:
        raise FileNameMissing("host_device")
    mode = look_at_name(filename, "open")
    if mode is not None and not (_is_device(mode) or stat.S_ISDIR(mode)):
        raise NotADevice(filename)  # a FIFO must not even be opened
    fd = open_host(filename, filename, writable=writable, direct=direct)
    if not _is_device(os.fstat(fd).st_mode):
        os.close(fd)
        raise NotADevice(filename)
    return fd


def _is_device(mode: int) -> bool:
    return stat.S_ISBLK(mode) or stat.S_ISCHR(mode)


def device_length(fd: int) -> int:
    """Bytes of a block device; 0 for what has no size."""
    try:
        return int.from_bytes(fcntl.ioctl(fd, _BLKGETSIZE64, bytes(8)), "little")
    except OSError:
        return 0


def _discard(fd: int, offset: int, length: int) -> None:
    fcntl.ioctl(fd, _BLKDISCARD, _RANGE.pack(offset, length))


def _zero_out(fd: int, offset: int, length: int) -> None:
    fcntl.ioctl(fd, _BLKZEROOUT, _RANGE.pack(offset, length))


class DeviceSpace(Space):
    """Zeroing and discarding by ``ioctl``, in whole sectors of the device."""

    def zero(self, fd: int, offset: int, length: int, *, may_unmap: bool) -> bool:
        if may_unmap and self._try(syscalls.punch_hole, fd, offset, length):
            return True
        return self._try(_zero_out, fd, offset, length)

    def _give_back(self, fd: int, offset: int, length: int) -> bool:
        return self._try(_discard, fd, offset, length)


class HostDeviceDriver(FileDriver):
    name = "host_device"
    space = DeviceSpace
    fixed_size = True

    def _open_host(self, filename: str, *, writable: bool, direct: bool) -> int:
        return open_device(filename, writable=writable, direct=direct)

    @staticmethod
    def _size_of(fd: int) -> int:
        return device_length(fd)

    def write(self, buffer: memoryview, offset: int) -> None:
        """A device ends where it ends: what lies beyond is ENOSPC, and nothing is written then."""
        if offset + len(buffer) > self._length and buffer:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().write(buffer, offset)

    def write_zeroes(
        self, offset: int, length: int, may_unmap: bool = False, no_fallback: bool = False
    ) -> None:
        if offset + length > self._length and length:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().write_zeroes(offset, length, may_unmap, no_fallback)

    def truncate(self, size: int) -> None:
        """Nothing, unless it should grow: as QEMU, the device is used in part then."""
        self._look_at_length()
        if size > self._length:
            raise CannotGrowDevice

    def grow(self, size: int, preallocation: str) -> None:
        if preallocation != "off":
            raise PreallocationUnsupported(preallocation)
        self.truncate(size)

    def map(self, offset: int, length: int) -> list[Extent]:
        offered = self._fd if self._direct is None else -1
        inside = max(0, min(length, self._length - offset))
        runs = []
        if inside:
            runs.append(Extent(ExtentKind.DATA, inside, offered, offset if offered >= 0 else 0))
        if inside < length:
            runs.append(Extent(ExtentKind.ZERO, length - inside))
        return runs
