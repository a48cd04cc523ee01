"""The kernel's side of FUSE, as far as a file system of one regular file needs it.

Structures and numbers are those of Linux' ``include/uapi/linux/fuse.h`` (protocol 7.31 and later),
in the host's byte order, since both ends are one host. Nothing here does I/O.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

MAJOR: Final = 7
MINOR: Final = 31
OLDEST: Final = 23
"""Minor version from which the structures have the lengths that are used here."""

ROOT: Final = 1
"""The node that is mounted, here the only one."""

GETATTR: Final = 3
SETATTR: Final = 4
FORGET: Final = 2
OPEN: Final = 14
READ: Final = 15
WRITE: Final = 16
STATFS: Final = 17
RELEASE: Final = 18
FSYNC: Final = 20
FLUSH: Final = 25
INIT: Final = 26
INTERRUPT: Final = 36
DESTROY: Final = 38
BATCH_FORGET: Final = 42
FALLOCATE: Final = 43
LSEEK: Final = 46

UNANSWERED: Final = frozenset({FORGET, INTERRUPT, BATCH_FORGET})

# What both sides can do (INIT); the second word begins at bit 32.
ASYNC_READ: Final = 1 << 0
BIG_WRITES: Final = 1 << 5
ASYNC_DIO: Final = 1 << 15
MAX_PAGES: Final = 1 << 22
INIT_EXT: Final = 1 << 30
DIRECT_IO_ALLOW_MMAP: Final = 1 << 36

FATTR_MODE: Final = 1 << 0
FATTR_UID: Final = 1 << 1
FATTR_GID: Final = 1 << 2
FATTR_SIZE: Final = 1 << 3
FATTR_TIMES: Final = 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 10

FOPEN_DIRECT_IO: Final = 1 << 0
FOPEN_PARALLEL_DIRECT_WRITES: Final = 1 << 6

MAX_DATA: Final = 1 << 20
"""Bytes of a read or a write at most, as INIT and the mount's options say."""
PAGE: Final = 4096
REQUEST: Final = MAX_DATA + PAGE
"""Room for any request: the kernel wants to find it before it hands one out."""

_IN: Final = struct.Struct("=IIQQIIIHH")
_OUT: Final = struct.Struct("=IiQ")
_INIT_IN: Final = struct.Struct("=IIII")
_INIT_FLAGS2: Final = struct.Struct("=I")
_INIT_OUT: Final = struct.Struct("=IIIIHHIIHHI28x")
_ATTR: Final = struct.Struct("=QI4xQQQQQQIIIIIIIIII")
_SETATTR_IN: Final = struct.Struct("=I4xQQQQQQIIIIIIII")
_OPEN_OUT: Final = struct.Struct("=QI4x")
_STATFS: Final = struct.Struct("=QQQQQIII4x24x")
_RANGE_IN: Final = struct.Struct("=QQI")  # file handle, offset, size: reads and writes begin so
_WRITE_IN_SIZE: Final = 40
_WRITE_OUT: Final = struct.Struct("=I4x")
_FALLOCATE_IN: Final = struct.Struct("=QQQI")
_LSEEK_IN: Final = struct.Struct("=QQI")
_LSEEK_OUT: Final = struct.Struct("=Q")

HEADER: Final = _IN.size


class Malformed(Exception):
    """Not what a kernel says."""


class FuseRequest(NamedTuple):
    """``unique`` names it in its reply; ``task`` is the thread that asks; ``body`` is what follows
    the header."""

    opcode: int
    unique: int
    task: int
    body: memoryview


class Changes(NamedTuple):
    """SETATTR: ``valid`` says which are meant (FATTR_…)."""

    valid: int
    size: int
    mode: int
    uid: int
    gid: int


class Attributes(NamedTuple):
    """Of the file: bytes, blocks of 512 bytes on the disk, seconds since 1970."""

    size: int
    blocks: int
    time: int
    mode: int
    uid: int
    gid: int


def request(data: memoryview) -> FuseRequest:
    """Raises Malformed."""
    if len(data) < HEADER:
        raise Malformed(f"a request of {len(data)} bytes")
    length, opcode, unique, _, _, _, task, *_ = _IN.unpack_from(data)
    if length != len(data):
        raise Malformed(f"a request of {len(data)} bytes that says {length}")
    return FuseRequest(opcode, unique, task, data[HEADER:])


def reply(unique: int, size: int = 0) -> bytes:
    """The header of a success that ``size`` bytes follow."""
    return _OUT.pack(_OUT.size + size, 0, unique)


def failure(unique: int, number: int) -> bytes:
    """``number`` is an errno."""
    return _OUT.pack(_OUT.size, -number, unique)


def init(body: memoryview) -> bytes:
    """The answer to INIT. Raises Malformed for a kernel that is too old."""
    major, minor, readahead, flags = _unpack(_INIT_IN, body)
    if major > MAJOR:  # it will ask again, with ours
        return _INIT_OUT.pack(MAJOR, MINOR, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    if major < MAJOR or minor < OLDEST:
        raise Malformed(f"FUSE {major}.{minor} is too old")
    if flags & INIT_EXT and len(body) >= _INIT_IN.size + _INIT_FLAGS2.size:
        flags |= _INIT_FLAGS2.unpack_from(body, _INIT_IN.size)[0] << 32
    flags &= ASYNC_READ | BIG_WRITES | ASYNC_DIO | MAX_PAGES | INIT_EXT | DIRECT_IO_ALLOW_MMAP
    return _INIT_OUT.pack(
        MAJOR, min(minor, 38), readahead, flags & 0xFFFFFFFF, 64, 48, MAX_DATA, 1,
        MAX_DATA // PAGE, 0, flags >> 32,
    )  # fmt: skip


def attributes(a: Attributes) -> bytes:
    """What GETATTR and SETATTR are answered; not to be believed for any time: the size may be
    changed by others."""
    times = (a.time, a.time, a.time, 0, 0, 0)
    return _ATTR.pack(
        0, 0, ROOT, a.size, a.blocks, *times, a.mode, 1, a.uid, a.gid, 0, PAGE, 0
    )  # fmt: skip


def changes(body: memoryview) -> Changes:
    """Raises Malformed."""
    valid, _, size, *_, mode, _, uid, gid, _ = _unpack(_SETATTR_IN, body)
    return Changes(valid, size, mode, uid, gid)


def opened() -> bytes:
    """Reads and writes come to us and not to the host's page cache: others write to the node."""
    return _OPEN_OUT.pack(0, FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES)


def statfs() -> bytes:
    """A file system without room for further files."""
    return _STATFS.pack(0, 0, 0, 0, 0, 512, 255, 512)


def read_range(body: memoryview) -> tuple[int, int]:
    """Offset and bytes of a READ. Raises Malformed."""
    _, offset, size = _unpack(_RANGE_IN, body)
    if size > MAX_DATA:
        raise Malformed(f"a read of {size} bytes")
    return offset, size


def written_data(body: memoryview) -> tuple[int, memoryview]:
    """Offset and data of a WRITE. Raises Malformed."""
    _, offset, size = _unpack(_RANGE_IN, body)
    data = body[_WRITE_IN_SIZE:]
    if size != len(data):
        raise Malformed(f"a write of {size} bytes with {len(data)}")
    return offset, data


def written(size: int) -> bytes:
    return _WRITE_OUT.pack(size)


def allocation(body: memoryview) -> tuple[int, int, int]:
    """Offset, length and mode of a FALLOCATE. Raises Malformed."""
    _, offset, length, mode = _unpack(_FALLOCATE_IN, body)
    return offset, length, mode


def seek(body: memoryview) -> tuple[int, int]:
    """Offset and whence of an LSEEK. Raises Malformed."""
    _, offset, whence = _unpack(_LSEEK_IN, body)
    return offset, whence


def sought(offset: int) -> bytes:
    return _LSEEK_OUT.pack(offset)


def _unpack(layout: struct.Struct, body: memoryview) -> tuple[int, ...]:
    if len(body) < layout.size:
        raise Malformed(f"{len(body)} bytes instead of {layout.size}")
    return layout.unpack_from(body)
