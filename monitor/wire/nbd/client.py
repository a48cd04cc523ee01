"""A client's side: the negotiation, requests built, replies read (doc/proto.md).

    GREETING --> [STARTTLS --> TLS] --> STRUCTURED --> [CONTEXT] --> GO --> TRANSMISSION
                                                                     |  \\-- unknown: EXPORT_NAME
                                                              refused v
                                                               ServerRefused

Bytes go in by ``feed``, what is to be sent is fetched by ``take``. A server is as untrusted as an
image: every length is checked against a limit before it is waited for.
"""

from __future__ import annotations

import enum
from struct import Struct
from typing import Final

from monitor.wire.nbd import layout as n
from monitor.wire.nbd.buffers import Buffers

_COUNT: Final = Struct(">I")
_INFO: Final = Struct(">H")
_MAX_REPLY: Final = n.MAX_STRING + 64
"""Bytes of the longest reply to an option that makes sense."""
_MAX_REPLIES: Final = 64
"""Replies to one option that a server may send before it comes to its point."""


class ServerRefused(Exception):
    """The server does not let us in; the text says why, in QEMU's words."""


class ServerBroken(ServerRefused):
    """The server does not speak NBD."""


class ClientPhase(enum.Enum):
    GREETING = enum.auto()
    TLS = enum.auto()
    """STARTTLS is acknowledged: the TLS handshake is to come, then ``tls_started``."""
    OPTION = enum.auto()
    EXPORT_NAME = enum.auto()
    TRANSMISSION = enum.auto()


_NAMES: Final = {
    n.OPT_GO: "go",
    n.OPT_STRUCTURED_REPLY: "structured reply",
    n.OPT_SET_META_CONTEXT: "set meta context",
    n.OPT_STARTTLS: "starttls",
}
_REFUSALS: Final = {
    n.REP_ERR_POLICY: "Denied by server for option {option}",
    n.REP_ERR_INVALID: "Invalid parameters for option {option}",
    n.REP_ERR_PLATFORM: "Server lacks support for option {option}",
    n.REP_ERR_TLS_REQD: "Server requires TLS for option {option}",
    n.REP_ERR_UNKNOWN: "Requested export not available",
    n.REP_ERR_SHUTDOWN: "Server shutting down before option {option}",
    n.REP_ERR_BLOCK_SIZE_REQD: "Server requires INFO_BLOCK_SIZE for option {option}",
}


class ClientHandshake(Buffers):
    """One connection's negotiation for ``export``, asking for one metadata ``context``.

    In TRANSMISSION ``size`` (bytes), ``flags``, ``structured``, ``context_id`` (None: the server
    does not have the context) and the block sizes are known, and ``rest`` is what the server has
    sent since.
    """

    def __init__(self, export: str, context: str | None, *, tls: bool = False) -> None:
        super().__init__()
        self.phase = ClientPhase.GREETING
        self.size = 0
        self.flags = 0
        self.structured = False
        self.context_id: int | None = None
        self.minimum_block = 1
        self.maximum_block = n.MAX_PAYLOAD
        self._export = export.encode(errors="surrogateescape")
        self._context = context
        self._tls = tls
        self._no_zeroes = False
        self._asked = 0
        self._replies = 0

    @property
    def over(self) -> bool:
        return self.phase is ClientPhase.TRANSMISSION

    @property
    def wants_tls(self) -> bool:
        return self.phase is ClientPhase.TLS

    def tls_started(self) -> None:
        """The connection is encrypted from here on."""
        assert self.phase is ClientPhase.TLS
        self._in.clear()
        self._ask(n.OPT_STRUCTURED_REPLY)

    def feed(self, data: bytes) -> None:
        """Takes in bytes of the server. Raises ServerRefused."""
        self._in += data
        while self._step():
            continue

    def _step(self) -> bool:
        """Whether something was taken in, so that there may be more."""
        match self.phase:
            case ClientPhase.GREETING:
                return self._greeting()
            case ClientPhase.OPTION:
                return self._reply()
            case ClientPhase.EXPORT_NAME:
                return self._export_reply()
        return False

    def _greeting(self) -> bool:
        if len(self._in) < n.GREETING.size:
            return False
        magic, option_magic, flags = n.GREETING.unpack(self._take(n.GREETING.size))
        if magic != n.INIT_MAGIC:
            raise ServerBroken(f"Bad initial magic received: 0x{magic:016x}")
        if option_magic != n.OPTION_MAGIC or not flags & n.FLAG_FIXED_NEWSTYLE:
            raise ServerBroken("Server does not support fixed newstyle negotiation")
        self._no_zeroes = bool(flags & n.FLAG_NO_ZEROES)
        self._out += n.CLIENT_FLAGS.pack(flags & (n.FLAG_FIXED_NEWSTYLE | n.FLAG_NO_ZEROES))
        self._ask(n.OPT_STARTTLS if self._tls else n.OPT_STRUCTURED_REPLY)
        return True

    def _ask(self, option: int) -> None:
        data = b""
        if option == n.OPT_GO:
            data = self._named() + _INFO.pack(1) + _INFO.pack(n.INFO_BLOCK_SIZE)
        elif option == n.OPT_SET_META_CONTEXT:
            assert self._context is not None
            query = self._context.encode()
            data = self._named() + _COUNT.pack(1) + _COUNT.pack(len(query)) + query
        elif option == n.OPT_EXPORT_NAME:
            data = self._export
        self._out += n.OPTION.pack(n.OPTION_MAGIC, option, len(data)) + data
        self._asked, self._replies = option, 0
        exporting = option == n.OPT_EXPORT_NAME
        self.phase = ClientPhase.EXPORT_NAME if exporting else ClientPhase.OPTION

    def _named(self) -> bytes:
        return _COUNT.pack(len(self._export)) + self._export

    # -- replies to options ------------------------------------------------------------------

    def _reply(self) -> bool:
        if len(self._in) < n.OPTION_REPLY.size:
            return False
        magic, option, reply, length = n.OPTION_REPLY.unpack_from(self._in)
        if magic != n.REPLY_MAGIC:
            raise ServerBroken("Unexpected option reply magic")
        if option != self._asked:
            raise ServerBroken("Unexpected option type")
        self._replies += 1
        if length > _MAX_REPLY or self._replies > _MAX_REPLIES:
            raise ServerBroken(f"Server's reply to option {_named(option)} is too long")
        if len(self._in) < n.OPTION_REPLY.size + length:
            return False
        data = self._take(n.OPTION_REPLY.size + length)[n.OPTION_REPLY.size :]
        if reply & n.REP_ERROR_BIT:
            self._refused(reply, data)
        elif reply == n.REP_ACK:
            self._acknowledged()
        else:
            self._told(reply, data)
        return True

    def _refused(self, reply: int, data: bytes) -> None:
        """Structured replies and contexts can be done without, and an old server's GO."""
        optional = (n.OPT_STRUCTURED_REPLY, n.OPT_SET_META_CONTEXT)
        if self._asked in optional and reply != n.REP_ERR_TLS_REQD:
            self._ask(n.OPT_GO)
        elif self._asked == n.OPT_GO and reply == n.REP_ERR_UNSUP:
            self._ask(n.OPT_EXPORT_NAME)
        else:
            text = _REFUSALS.get(reply, "Unknown error code when asking for option {option}")
            raise ServerRefused(text.format(option=_named(self._asked)))

    def _acknowledged(self) -> None:
        match self._asked:
            case n.OPT_STARTTLS:
                self.phase = ClientPhase.TLS
            case n.OPT_STRUCTURED_REPLY:
                self.structured = True
                self._ask(n.OPT_GO if self._context is None else n.OPT_SET_META_CONTEXT)
            case n.OPT_SET_META_CONTEXT:
                self._ask(n.OPT_GO)
            case n.OPT_GO:
                if not self.flags & n.FLAG_HAS_FLAGS:
                    raise ServerBroken("broken server omitted NBD_INFO_EXPORT")
                self._enter()

    def _told(self, reply: int, data: bytes) -> None:
        if self._asked == n.OPT_SET_META_CONTEXT and reply == n.REP_META_CONTEXT and len(data) > 4:
            if data[4:].decode(errors="replace") != self._context or self.context_id is not None:
                raise ServerBroken("Server replied with a wrong meta context")
            self.context_id = int(_COUNT.unpack_from(data)[0])
        elif self._asked == n.OPT_GO and reply == n.REP_INFO and len(data) >= _INFO.size:
            self._info(int(_INFO.unpack_from(data)[0]), data)
        else:
            raise ServerBroken(f"Unexpected reply to option {_named(self._asked)}")

    def _info(self, kind: int, data: bytes) -> None:
        if kind == n.INFO_EXPORT:
            if len(data) != n.INFO_EXPORT_REPLY.size:
                raise ServerBroken("invalid length for NBD_INFO_EXPORT reply")
            _, self.size, self.flags = n.INFO_EXPORT_REPLY.unpack(data)
        elif kind == n.INFO_BLOCK_SIZE:
            if len(data) != n.INFO_BLOCK_SIZE_REPLY.size:
                raise ServerBroken("invalid length for NBD_INFO_BLOCK_SIZE reply")
            _, minimum, _, maximum = n.INFO_BLOCK_SIZE_REPLY.unpack(data)
            if not 1 <= minimum <= 65536 or minimum & (minimum - 1) or maximum < minimum:
                raise ServerBroken(f"server block size {minimum} is not a power of two up to 64k")
            self.minimum_block = minimum
            self.maximum_block = min(maximum, n.MAX_PAYLOAD) // minimum * minimum

    def _export_reply(self) -> bool:
        size = n.EXPORT.size + (0 if self._no_zeroes else len(n.EXPORT_NAME_PADDING))
        if len(self._in) < size:
            return False
        self.size, self.flags = n.EXPORT.unpack_from(self._take(size))
        self._enter()
        return False

    def _enter(self) -> None:
        if self.size >= 1 << 63:
            raise ServerBroken("export length is too large")
        self.phase = ClientPhase.TRANSMISSION


def _named(option: int) -> str:
    return f"{option} ({_NAMES.get(option, 'unknown')})"


def request(kind: int, cookie: int, offset: int, length: int, flags: int = 0) -> bytes:
    """A request's 28 bytes; a write's data follows them."""
    return n.REQUEST.pack(n.REQUEST_MAGIC, flags, kind, cookie, offset, length)
