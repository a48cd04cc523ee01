"""The transmission phase: requests read from a buffer, replies built into one.

A reply's header stands right before its data, so that what is read from the disk goes straight
behind it and one call sends both (doc/proto.md, 'Transmission').
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Final, NamedTuple

from monitor.wire.nbd import layout as n

ERRORS: Final = frozenset(
    {n.EPERM, n.EIO, n.ENOMEM, n.EINVAL, n.ENOSPC, n.EOVERFLOW, n.ENOTSUP, n.ESHUTDOWN}
)
_SAME: Final = {
    errno.EROFS: n.EPERM,
    errno.EFBIG: n.ENOSPC,
    errno.EDQUOT: n.ENOSPC,
}


class ProtocolError(Exception):
    """The client sends what is no NBD: the connection ends."""


class NbdRequest(NamedTuple):
    """One request as it is on the wire; a write's data follows it there."""

    flags: int
    type: int
    cookie: int
    offset: int
    length: int


def read_request(buffer: memoryview, at: int) -> NbdRequest:
    """The request whose 28 bytes stand at ``at``. Raises ProtocolError."""
    magic, flags, kind, cookie, offset, length = n.REQUEST.unpack_from(buffer, at)
    if magic != n.REQUEST_MAGIC:
        raise ProtocolError(f"invalid magic (got 0x{magic:x})")
    return NbdRequest(flags, kind, cookie, offset, length)


def error_code(number: int | None) -> int:
    """An errno of this host as the number that the protocol has for it."""
    if number in ERRORS:
        return number
    return n.EIO if number is None else _SAME.get(number, n.EIO)


def simple(cookie: int, error: int = 0) -> bytes:
    """A reply without data, or the header of one to a read."""
    return n.SIMPLE_REPLY.pack(n.SIMPLE_REPLY_MAGIC, error, cookie)


def chunk(cookie: int, kind: int, length: int, *, done: bool) -> bytes:
    """The header of one chunk of a structured reply, ``length`` bytes of which follow."""
    flags = n.REPLY_FLAG_DONE if done else 0
    return n.STRUCTURED_REPLY.pack(n.STRUCTURED_REPLY_MAGIC, flags, kind, cookie, length)


def finished(cookie: int) -> bytes:
    return chunk(cookie, n.REPLY_TYPE_NONE, 0, done=True)


def data_header(cookie: int, offset: int, length: int, *, done: bool) -> bytes:
    """What stands before ``length`` bytes of data of a structured reply."""
    size = n.OFFSET.size + length
    return chunk(cookie, n.REPLY_TYPE_OFFSET_DATA, size, done=done) + n.OFFSET.pack(offset)


def hole(cookie: int, offset: int, length: int, *, done: bool) -> bytes:
    header = chunk(cookie, n.REPLY_TYPE_OFFSET_HOLE, n.OFFSET_HOLE.size, done=done)
    return header + n.OFFSET_HOLE.pack(offset, length)


def failed(cookie: int, error: int, text: str = "") -> bytes:
    """A structured error that ends the reply."""
    told = text.encode(errors="replace")[: n.MAX_STRING]
    size = n.ERROR.size + len(told)
    header = chunk(cookie, n.REPLY_TYPE_ERROR, size, done=True)
    return header + n.ERROR.pack(error, len(told)) + told


def block_status(
    cookie: int, context: int, extents: Iterable[tuple[int, int]], *, done: bool
) -> bytes:
    """One context's runs: (length in bytes, flags)."""
    body = n.CONTEXT_ID.pack(context) + b"".join(n.EXTENT.pack(*extent) for extent in extents)
    return chunk(cookie, n.REPLY_TYPE_BLOCK_STATUS, len(body), done=done) + body
