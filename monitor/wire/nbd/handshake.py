"""A server's side of the fixed newstyle negotiation (doc/proto.md, 'Newstyle negotiation').

    CLIENT_FLAGS --flags--> OPTIONS --EXPORT_NAME, GO--> TRANSMISSION
                             |  ^  \\--ABORT, nonsense-->  ENDED
                    STARTTLS v  | tls_started
                             TLS

Bytes go in by ``feed``; what is to be sent is fetched by ``take``. Lengths are checked before what
they count is waited for: an option of a reasonable length that is too long for its kind is answered
with ERR_TOO_BIG, any longer one ends the connection.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from struct import Struct
from typing import Final

from monitor.wire.nbd import layout as n
from monitor.wire.nbd.buffers import Buffers
from monitor.wire.nbd.offers import Offer, Offers, matching

_COUNT: Final = Struct(">I")
_INFO: Final = Struct(">H")


class Phase(enum.Enum):
    CLIENT_FLAGS = enum.auto()
    OPTIONS = enum.auto()
    TLS = enum.auto()
    """The acknowledgement of STARTTLS is to be sent; then the TLS handshake, then
    ``tls_started``."""
    TRANSMISSION = enum.auto()
    ENDED = enum.auto()


class _Refused(Exception):
    """An option is answered with an error; the negotiation goes on."""

    def __init__(self, reply: int, text: str) -> None:
        super().__init__(text)
        self.reply = reply


class _Data:
    """An option's data, read forward; every length in it is checked against what is there."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self, kind: Struct) -> int:
        return int(kind.unpack(self._take(kind.size))[0])

    def string(self) -> str:
        """A length, and as many bytes of UTF-8. Raises _Refused: ERR_TOO_BIG, ERR_INVALID."""
        length = self.number(_COUNT)
        if length > n.MAX_STRING:
            raise _Refused(n.REP_ERR_TOO_BIG, "name too long")
        try:
            return self._take(length).decode()
        except UnicodeDecodeError:
            raise _Refused(n.REP_ERR_INVALID, "name is not valid UTF-8") from None

    def end(self) -> None:
        if self._at != len(self._data):
            raise _Refused(n.REP_ERR_INVALID, "option has excess data")

    def _take(self, count: int) -> bytes:
        if count > len(self._data) - self._at:
            raise _Refused(n.REP_ERR_INVALID, "option data is too short")
        self._at += count
        return self._data[self._at - count : self._at]


class ServerHandshake(Buffers):
    """One connection's negotiation.

    ``tls``: the server has credentials, and nothing is told before the connection is encrypted.
    Once ``phase`` is TRANSMISSION, ``offer`` is the export, ``structured`` whether structured
    replies were agreed on, ``contexts`` the metadata contexts by id, and ``rest`` what the client
    has already sent behind its last option.
    """

    def __init__(self, offers: Offers, *, tls: bool = False) -> None:
        super().__init__()
        self.phase = Phase.CLIENT_FLAGS
        self.offer: Offer | None = None
        self.structured = False
        self.contexts: dict[int, str] = {}
        self._offers = offers
        self._tls = tls
        self._encrypted = False
        self._fixed = False
        self._no_zeroes = False
        self._contexts_of = ""
        self._options = 0
        flags = n.FLAG_FIXED_NEWSTYLE | n.FLAG_NO_ZEROES
        self._out += n.GREETING.pack(n.INIT_MAGIC, n.OPTION_MAGIC, flags)

    @property
    def over(self) -> bool:
        """Whether the negotiation has led to an export (``offer``), or nowhere."""
        return self.phase in (Phase.TRANSMISSION, Phase.ENDED)

    @property
    def wants_tls(self) -> bool:
        return self.phase is Phase.TLS

    def tls_started(self) -> None:
        """The connection is encrypted from here on; what was agreed on before counts no more."""
        assert self.phase is Phase.TLS
        self._encrypted = True
        self.structured = False
        self.contexts = {}
        self.phase = Phase.OPTIONS

    def feed(self, data: bytes) -> None:
        """Takes in bytes of the client, as many as there are."""
        self._in += data
        if self.phase is Phase.CLIENT_FLAGS and len(self._in) >= n.CLIENT_FLAGS.size:
            self._client_flags(*n.CLIENT_FLAGS.unpack(self._take(n.CLIENT_FLAGS.size)))
        while self.phase is Phase.OPTIONS and len(self._in) >= n.OPTION.size:
            magic, option, length = n.OPTION.unpack_from(self._in)
            if magic != n.OPTION_MAGIC or length > n.MAX_OPTION or self._options >= n.MAX_OPTIONS:
                self._end()
                return
            if len(self._in) < n.OPTION.size + length:
                return
            self._options += 1
            self._option(option, self._take(n.OPTION.size + length)[n.OPTION.size :])

    def _end(self) -> None:
        self.phase = Phase.ENDED
        self._in.clear()

    def _client_flags(self, flags: int) -> None:
        if flags & ~(n.FLAG_FIXED_NEWSTYLE | n.FLAG_NO_ZEROES):
            self._end()
            return
        self._fixed = bool(flags & n.FLAG_FIXED_NEWSTYLE)
        self._no_zeroes = bool(flags & n.FLAG_NO_ZEROES)
        self.phase = Phase.OPTIONS

    # -- options -----------------------------------------------------------------------------

    def _option(self, option: int, data: bytes) -> None:
        if option == n.OPT_EXPORT_NAME:
            self._export_name(data)
        elif not self._fixed:
            self._end()
        elif self._tls and not self._encrypted and option not in _BEFORE_TLS:
            text = f"Option 0x{option:x} not permitted before TLS"
            self._reply(option, n.REP_ERR_TLS_REQD, text.encode())
        elif option in _OPTIONS:
            try:
                _OPTIONS[option](self, option, data)
            except _Refused as refused:
                self._reply(option, refused.reply, str(refused).encode()[: n.MAX_STRING])
        else:
            self._reply(option, n.REP_ERR_UNSUP, f"Unsupported option {option}".encode())

    def _reply(self, option: int, reply: int, data: bytes = b"") -> None:
        self._out += n.OPTION_REPLY.pack(n.REPLY_MAGIC, option, reply, len(data)) + data

    def _export_name(self, data: bytes) -> None:
        """The old way in: no error can be told, so a mistake ends the connection."""
        offer = None
        if len(data) <= n.MAX_STRING and not (self._tls and not self._encrypted):
            offer = self._offers.find(data.decode(errors="surrogateescape"))
        if offer is None:
            self._end()
            return
        self._out += n.EXPORT.pack(offer.size, offer.flags)
        if not self._no_zeroes:
            self._out += n.EXPORT_NAME_PADDING
        self._enter(offer)

    def _enter(self, offer: Offer) -> None:
        if offer.name != self._contexts_of:
            self.contexts = {}
        self.offer = offer
        self.phase = Phase.TRANSMISSION

    def _abort(self, option: int, data: bytes) -> None:
        self._reply(option, n.REP_ACK)
        self._end()

    def _list(self, option: int, data: bytes) -> None:
        _Data(data).end()
        for name, description in self._offers.names().items():
            text = name.encode(errors="surrogateescape")
            told = description.encode()[: n.MAX_STRING]
            self._reply(option, n.REP_SERVER, _COUNT.pack(len(text)) + text + told)
        self._reply(option, n.REP_ACK)

    def _starttls(self, option: int, data: bytes) -> None:
        _Data(data).end()
        if not self._tls:
            raise _Refused(n.REP_ERR_POLICY, "TLS not configured")
        if self._encrypted:
            raise _Refused(n.REP_ERR_INVALID, "TLS already enabled")
        self._reply(option, n.REP_ACK)
        self._in.clear()  # nothing that came unencrypted may count as if it had not
        self.phase = Phase.TLS

    def _info(self, option: int, data: bytes) -> None:
        """INFO and GO, which is INFO and then the export's way in."""
        reader = _Data(data)
        name = reader.string()
        wanted = {reader.number(_INFO) for _ in range(reader.number(_INFO))}
        reader.end()
        offer = self._found(name)
        if n.INFO_NAME in wanted:
            self._reply(option, n.REP_INFO, _INFO.pack(n.INFO_NAME) + name.encode())
        if n.INFO_DESCRIPTION in wanted and offer.description:
            told = offer.description.encode()[: n.MAX_STRING]
            self._reply(option, n.REP_INFO, _INFO.pack(n.INFO_DESCRIPTION) + told)
        aware = n.INFO_BLOCK_SIZE in wanted
        minimum = offer.minimum_block if aware or option == n.OPT_INFO else 1
        sizes = (minimum, offer.preferred_block, offer.maximum_block)
        self._reply(option, n.REP_INFO, n.INFO_BLOCK_SIZE_REPLY.pack(n.INFO_BLOCK_SIZE, *sizes))
        export = n.INFO_EXPORT_REPLY.pack(n.INFO_EXPORT, offer.size, offer.flags)
        self._reply(option, n.REP_INFO, export)
        if option == n.OPT_INFO and not aware and offer.minimum_block > 1:
            raise _Refused(n.REP_ERR_BLOCK_SIZE_REQD, "request NBD_INFO_BLOCK_SIZE to use export")
        self._reply(option, n.REP_ACK)
        if option == n.OPT_GO:
            self._enter(offer)

    def _found(self, name: str) -> Offer:
        offer = self._offers.find(name)
        if offer is None:
            raise _Refused(n.REP_ERR_UNKNOWN, f"export '{name}' not present")
        return offer

    def _structured_reply(self, option: int, data: bytes) -> None:
        _Data(data).end()
        if self.structured:
            raise _Refused(n.REP_ERR_INVALID, "structured reply already negotiated")
        self.structured = True
        self._reply(option, n.REP_ACK)

    def _meta_context(self, option: int, data: bytes) -> None:
        listing = option == n.OPT_LIST_META_CONTEXT
        if not listing:
            self.contexts = {}
        if not self.structured:
            raise _Refused(
                n.REP_ERR_INVALID,
                "metadata contexts need structured replies to be negotiated first",
            )
        reader = _Data(data)
        offer = self._found(reader.string())
        # A count of millions ends at the first string that is not there.
        queries = [reader.string() for _ in range(reader.number(_COUNT))]
        reader.end()
        chosen = list(offer.contexts) if listing and not queries else []
        for query in queries:
            chosen += matching(offer.contexts, query, listing=listing)
        found = {offer.contexts.index(context): context for context in dict.fromkeys(chosen)}
        for number, context in found.items():
            told = _COUNT.pack(0 if listing else number) + context.encode()
            self._reply(option, n.REP_META_CONTEXT, told)
        self._reply(option, n.REP_ACK)
        if not listing:
            self.contexts, self._contexts_of = found, offer.name


_BEFORE_TLS: Final = (n.OPT_STARTTLS, n.OPT_ABORT)

_OPTIONS: Final[dict[int, Callable[[ServerHandshake, int, bytes], None]]] = {
    n.OPT_ABORT: ServerHandshake._abort,
    n.OPT_LIST: ServerHandshake._list,
    n.OPT_STARTTLS: ServerHandshake._starttls,
    n.OPT_INFO: ServerHandshake._info,
    n.OPT_GO: ServerHandshake._info,
    n.OPT_STRUCTURED_REPLY: ServerHandshake._structured_reply,
    n.OPT_LIST_META_CONTEXT: ServerHandshake._meta_context,
    n.OPT_SET_META_CONTEXT: ServerHandshake._meta_context,
}
