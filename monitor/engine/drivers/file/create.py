"""Creating an image file on the host, as QEMU's ``file`` driver does it.

A file that exists is emptied, but only under the image locks: a running QEMU's disk is not.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from typing import Final

from monitor.engine import permissions
from monitor.engine.drivers.file.extend import extend
from monitor.engine.drivers.file.host import create_regular, resize, write_fully
from monitor.engine.drivers.file.locks import ImageLocks
from monitor.engine.errors import RequestError

_MODE: Final = 0o644
_FS_IOC_GETFLAGS: Final = 0x80086601
_FS_IOC_SETFLAGS: Final = 0x40086602
_FS_NOCOW: Final = 0x00800000
_FS_IOC_FSGETXATTR: Final = 0x801C581F
_FS_IOC_FSSETXATTR: Final = 0x401C5820
_FS_XFLAG_EXTSIZE: Final = 0x800
_FSXATTR: Final = struct.Struct("@5I8x")
"""struct fsxattr: xflags, extsize, nextents, projid, cowextsize."""

DEFAULT_EXTENT_SIZE: Final = 1 << 20


class ExtentSizeTooLarge(RequestError):
    template = "Extent size hint is too large"


def create_file(
    filename: str,
    size: int,
    preallocation: str = "off",
    *,
    nocow: bool = False,
    extent_size: int = DEFAULT_EXTENT_SIZE,
) -> None:
    """Creates or empties ``filename`` and makes it ``size`` bytes long.

    ``preallocation``: "off" leaves a hole, "falloc" reserves the blocks, "full" writes zeroes and
    syncs them. ``nocow`` asks a copy-on-write filesystem not to; ``extent_size`` is a hint in bytes
    to allocate in multiples of (both ignored where the host has no such thing, as by QEMU). Raises
    RequestError; a file that could not get its size is left empty.
    """
    if extent_size >= 1 << 32:
        raise ExtentSizeTooLarge
    fd = create_regular(filename, _MODE)
    try:
        locks = ImageLocks(fd, filename)
        locks.extend(permissions.WRITE | permissions.RESIZE, permissions.ALL & ~permissions.RESIZE)
        resize(fd, 0)
        if nocow:
            _set_nocow(fd)
        if extent_size:
            _set_extent_size(fd, extent_size)
        extend(fd, 0, size, preallocation, lambda data, at: write_fully(fd, data, at))
    finally:
        os.close(fd)  # and with it the locks


def _set_nocow(fd: int) -> None:
    with contextlib.suppress(OSError):
        flags = int.from_bytes(fcntl.ioctl(fd, _FS_IOC_GETFLAGS, bytes(8))[:4], "little")
        fcntl.ioctl(fd, _FS_IOC_SETFLAGS, (flags | _FS_NOCOW).to_bytes(8, "little"))


def _set_extent_size(fd: int, size: int) -> None:
    """XFS: new extents are multiples of that. ioctl_xfs_fsop_geometry(2), FS_IOC_FSSETXATTR."""
    with contextlib.suppress(OSError):
        attributes = bytearray(fcntl.ioctl(fd, _FS_IOC_FSGETXATTR, bytes(_FSXATTR.size)))
        flags = _FSXATTR.unpack(attributes)[0] | _FS_XFLAG_EXTSIZE
        struct.pack_into("@II", attributes, 0, flags, size)
        fcntl.ioctl(fd, _FS_IOC_FSSETXATTR, bytes(attributes))
