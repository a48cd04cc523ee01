"""A stream of bytes -> the JSON values in it, as QEMU's lexer and streamer find them.

Values need no separator: an object ends with its bracket, a number with the first byte that cannot
belong to it. After garbage the lexer skips to a structural character, an ASCII control character
other than tab, or FE or FF, which no UTF-8 holds: a client sends FF to be heard again after a
mistake (docs/interop/qmp-spec.txt, "Compatibility considerations").

Plain well-formed objects take a short cut through the standard library's decoder; anything else,
be it half an object or a subtlety of the dialect, goes through the exact lexer (``qmplexer``).
"""

from __future__ import annotations

import re
from json import JSONDecoder
from typing import TYPE_CHECKING, Any

from monitor.wire.qmpjson import JSONParseError

if TYPE_CHECKING:
    from monitor.wire.qmplexer import Lexer

__all__ = ["JSONStream", "one_value"]

# What the standard decoder would read otherwise than QEMU: escaped code points, integers that may
# not fit 64 bits, an exponent after a lone zero.
_SUBTLE = re.compile(r"[\\0-9](?:(?<=\\)u|(?<=0)[eE]|(?<=[0-9])[0-9]{18})")
_PLAIN_BLANKS = re.compile(r"[ \t\r\n]*")


class JSONStream:
    """``feed`` bytes, get values and ``JSONParseError``s in the order of their ends."""

    max_short_cut = 128 << 10  # bytes at once that the standard decoder may be given

    def __init__(self) -> None:
        self._lexer: Lexer | None = None

    def feed(self, data: bytes) -> list[Any]:
        found: list[Any] = []
        position = 0
        plain = self._plain(data)
        while position < len(data):
            if plain and (self._lexer is None or self._lexer.between_values):
                position = _short_cut(plain, position, found)
            if position < len(data):
                self._lexer = self._lexer or self._make_lexer()
                position = self._lexer.take(data, position, found)
        return found

    def end(self) -> list[Any]:
        """What the end of the input makes of the value it stands in, if any."""
        return [] if self._lexer is None else self._lexer.end()

    def _make_lexer(self) -> Lexer:
        from monitor.wire.qmplexer import Lexer

        return Lexer()

    def _plain(self, data: bytes) -> str:
        """``data`` as text, if the standard decoder reads it as QEMU would; "" otherwise."""
        if len(data) > self.max_short_cut or not data.isascii():
            return ""
        text = data.decode("ascii")
        return "" if _SUBTLE.search(text) else text


def one_value(text: str) -> Any:
    """The value that is the whole of ``text``. Raises ``JSONParseError``."""
    stream = JSONStream()
    values = stream.feed(text.encode(errors="surrogateescape")) + stream.end()
    if not values:
        raise JSONParseError("Expecting a JSON value")
    if isinstance(values[0], JSONParseError):
        raise values[0]
    if len(values) > 1:
        raise JSONParseError("Expecting at most one JSON value")
    return values[0]


def _short_cut(text: str, position: int, found: list[Any]) -> int:
    """Takes plain objects from ``position`` on; returns where the rest begins."""
    while True:
        start = _match_end(_PLAIN_BLANKS, text, position)
        if not text.startswith("{", start):
            return start
        try:
            value, position = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            return start
        found.append(value)


def _match_end(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return match.end() if match else position


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate key")
    return members


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


_DECODER = JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse)
