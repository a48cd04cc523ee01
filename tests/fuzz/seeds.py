"""What a fuzzer begins with: one of each kind of thing that makes sense."""

from __future__ import annotations

from struct import pack

from monitor.wire.nbd import layout as n
from monitor.wire.nbd.client import request
from tests.support.qmp_corpus import JSON, NESTED


def option(number: int, data: bytes = b"") -> bytes:
    return n.OPTION.pack(n.OPTION_MAGIC, number, len(data)) + data


def reply(number: int, kind: int, data: bytes = b"") -> bytes:
    return n.OPTION_REPLY.pack(n.REPLY_MAGIC, number, kind, len(data)) + data


def text(value: str) -> bytes:
    return pack(">I", len(value)) + value.encode()


_FLAGS = n.CLIENT_FLAGS.pack(3)
_GO = option(n.OPT_GO, text("disk") + pack(">HH", 1, n.INFO_BLOCK_SIZE))
_CONTEXT = text("disk") + pack(">I", 1) + text("base:allocation")
_REQUESTS = b"".join(
    request(kind, kind, 4096, 512, flags) + (bytes(512) if kind == n.CMD_WRITE else b"")
    for kind in range(9)
    for flags in (0, 1, 8)
    if kind != n.CMD_DISC
)

NBD_SERVER = [
    _FLAGS + _GO + _REQUESTS,
    _FLAGS + option(n.OPT_STRUCTURED_REPLY) + option(n.OPT_SET_META_CONTEXT, _CONTEXT) + _GO
    + _REQUESTS,
    _FLAGS + option(n.OPT_LIST) + option(n.OPT_LIST_META_CONTEXT, _CONTEXT),
    _FLAGS + option(n.OPT_STARTTLS) + option(n.OPT_INFO, text("disk") + pack(">H", 0)),
    _FLAGS + option(n.OPT_EXPORT_NAME, b"disk") + _REQUESTS,
    _FLAGS + option(n.OPT_ABORT),
]  # fmt: skip

_SERVER = (
    n.GREETING.pack(n.INIT_MAGIC, n.OPTION_MAGIC, 3)
    + reply(n.OPT_STRUCTURED_REPLY, n.REP_ACK)
    + reply(n.OPT_SET_META_CONTEXT, n.REP_META_CONTEXT, pack(">I", 1) + b"base:allocation")
    + reply(n.OPT_SET_META_CONTEXT, n.REP_ACK)
    + reply(n.OPT_GO, n.REP_INFO, n.INFO_EXPORT_REPLY.pack(n.INFO_EXPORT, 1 << 20, 1))
    + reply(n.OPT_GO, n.REP_INFO, n.INFO_BLOCK_SIZE_REPLY.pack(3, 1, 4096, 1 << 20))
    + reply(n.OPT_GO, n.REP_ACK)
)


def _chunk(kind: int, cookie: int, data: bytes, *, done: bool = True) -> bytes:
    magic = n.STRUCTURED_REPLY_MAGIC
    return n.STRUCTURED_REPLY.pack(magic, int(done), kind, cookie, len(data)) + data


_REPLIES = (
    _chunk(n.REPLY_TYPE_OFFSET_HOLE, 1, n.OFFSET_HOLE.pack(256, 256), done=False)
    + _chunk(n.REPLY_TYPE_OFFSET_DATA, 1, n.OFFSET.pack(0) + bytes(256))
    + n.SIMPLE_REPLY.pack(n.SIMPLE_REPLY_MAGIC, 0, 2)
    + _chunk(n.REPLY_TYPE_BLOCK_STATUS, 3, pack(">IIIII", 1, 4096, 0, 61440, 3))
)
_FAILURE = _chunk(n.REPLY_TYPE_ERROR, 1, n.ERROR.pack(n.EIO, 3) + b"oh!")


def _halves(first: bytes, second: bytes) -> bytes:
    size = max(len(first), len(second))
    return first.ljust(size, b"\0") + second.ljust(size, b"\0")


NBD_CLIENT = [_halves(_SERVER, _REPLIES), _halves(_SERVER, _FAILURE), _halves(b"", _REPLIES)]

SEEDS = {"nbd-server": NBD_SERVER, "nbd-client": NBD_CLIENT, "qmp": [*JSON, *NESTED]}
