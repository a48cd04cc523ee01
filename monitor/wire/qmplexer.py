"""QEMU's lexer and streamer of JSON, exactly: bytes -> values and mistakes.

Loaded for the first value that ``qmpstream`` cannot leave to the standard library: most sessions
have none, and pay for none of these tables.
"""

from __future__ import annotations

import re
from typing import Any

from monitor.wire.qmpjson import JSONParseError
from monitor.wire.qmpparser import Kind, Token, lenient_text, parse

__all__ = ["Lexer"]


# Where the lexer can be between two pieces of its input; for each place inside a token, what may
# follow and where that leads. Bytes that match nothing end the token at a place in _COMPLETE, and
# are a mistake elsewhere.
_START = "between tokens"
_RECOVERY = "after a mistake"
_FOLLOWING: dict[str, tuple[tuple[re.Pattern[bytes], str], ...]] = {
    place: tuple((re.compile(pattern), after) for pattern, after in following)
    for place, following in {
        'after "': (
            (rb'[^"\\\x00-\x1f\xfe\xff]+', 'after "'),
            (rb'"', "string"),
            (rb"\\", 'after " and \\'),
        ),
        'after " and \\': ((rb"[^\x00-\x1f\xfe\xff]", 'after "'),),
        "after '": (
            (rb"[^'\\\x00-\x1f\xfe\xff]+", "after '"),
            (rb"'", "string"),
            (rb"\\", "after ' and \\"),
        ),
        "after ' and \\": ((rb"[^\x00-\x1f\xfe\xff]", "after '"),),
        "after -": ((rb"0", "after 0"), (rb"[1-9]", "in an integer")),
        "after 0": ((rb"\.", "after a point"),),
        "in an integer": (
            (rb"[0-9]+", "in an integer"),
            (rb"\.", "after a point"),
            (rb"[eE]", "after e"),
        ),
        "after a point": ((rb"[0-9]", "in a fraction"),),
        "in a fraction": ((rb"[0-9]+", "in a fraction"), (rb"[eE]", "after e")),
        "after e": ((rb"[+-]", "after e and a sign"), (rb"[0-9]", "in an exponent")),
        "after e and a sign": ((rb"[0-9]", "in an exponent"),),
        "in an exponent": ((rb"[0-9]+", "in an exponent"),),
        "in a word": ((rb"[a-z]+", "in a word"),),
    }.items()
}
_COMPLETE: dict[str, Kind] = {
    "after 0": "integer",
    "in an integer": "integer",
    "in a fraction": "float",
    "in an exponent": "float",
    "in a word": "keyword",
}
_FIRST: dict[int, str] = (
    {ord('"'): 'after "', ord("'"): "after '", ord("-"): "after -", ord("0"): "after 0"}
    | dict.fromkeys(b"123456789", "in an integer")
    | dict.fromkeys(range(ord("a"), ord("z") + 1), "in a word")
)
_RESYNCHRONISE = re.compile(rb"[\x00-\x08\x0a-\x1f\xfe\xff\[\]{}:,]")
_BLANKS = re.compile(rb"[ \t\r\n]*+")

# The common tokens, whole and in one go; where none matches, the table above is asked. A number or
# word is whole only if what follows it is there to be seen.
_WHOLE_TOKEN = re.compile(
    rb"""[ \t\r\n]*+(?:
        ([{}\[\]:,])
      | ("[^"\\\x00-\x1f\xfe\xff]*+(?:\\[^\x00-\x1f\xfe\xff][^"\\\x00-\x1f\xfe\xff]*+)*+"
        |'[^'\\\x00-\x1f\xfe\xff]*+(?:\\[^\x00-\x1f\xfe\xff][^'\\\x00-\x1f\xfe\xff]*+)*+')
      | (-?+(?:0|[1-9][0-9]*+)(?=[^0-9.eE]))
      | ([a-z]++(?=[^a-z]))
    )""",
    re.VERBOSE,
)
_STRUCTURAL: dict[bytes, Kind] = {
    b"{": "{",
    b"}": "}",
    b"[": "[",
    b"]": "]",
    b":": ":",
    b",": ",",
}
_LEVELS: dict[Kind, tuple[int, int]] = {"{": (1, 0), "}": (-1, 0), "[": (0, 1), "]": (0, -1)}
_WHOLE_KINDS: tuple[Kind, ...] = ("string", "integer", "keyword")


class Lexer:
    """``take`` bytes, get values and ``JSONParseError``s in the order of their ends."""

    max_token_bytes = 64 << 20  # of all tokens of one value together, too
    max_tokens = 2 << 20
    max_nesting = 1024

    def __init__(self) -> None:
        self._state = _START
        self._token = bytearray()
        self._forget_value()

    @property
    def between_values(self) -> bool:
        return self._state is _START and not self._tokens

    def take(self, data: bytes, position: int, found: list[Any]) -> int:
        """Goes on from ``position`` to where a value or mistake ends and the next may begin, or to
        the end of ``data``; returns that place."""
        while position < len(data):
            before = len(found)
            position = self._step(data, position, found)
            if len(found) > before and self._state is _START:
                break
        return position

    def end(self) -> list[Any]:
        """What the end of the input makes of the value it stands in, if any."""
        found: list[Any] = []
        if self._state is not _START and self._state is not _RECOVERY:
            # NUL belongs to no token; what a mistake quotes ends before it.
            closing = b"\n" if self._state in _COMPLETE else b"\0"
            position = 0
            while position < len(closing):
                position = self.take(closing, position, found)
        if self._tokens:
            found.append(JSONParseError("JSON parse error, premature EOI"))
            self._forget_value()
        return found

    def _step(self, data: bytes, position: int, found: list[Any]) -> int:
        """One token or piece of a token; returns where the next begins."""
        if self._state is _START:
            return self._start(data, position, found)
        if self._state is _RECOVERY:
            match = _RESYNCHRONISE.search(data, position)
            if match is None:
                return len(data)
            self._state = _START
            return match.start()
        room = self.max_token_bytes + 1 - len(self._token)
        for pattern, after in _FOLLOWING[self._state]:
            match = pattern.match(data, position, position + room)
            if match:
                self._token += match[0]
                self._move(after, found)
                return match.end()
        if self._state in _COMPLETE and not self._leading_zero(data[position]):
            self._finish(_COMPLETE[self._state], found)
            return position
        self._token.append(data[position])
        self._stray(found)
        return position + 1

    def _leading_zero(self, byte: int) -> bool:
        return self._state == "after 0" and 0x30 <= byte <= 0x39

    def _start(self, data: bytes, position: int, found: list[Any]) -> int:
        match = _WHOLE_TOKEN.match(data, position)
        if match and match.end() - position <= self.max_token_bytes:
            group = match.lastindex or 0
            text = match[group]
            self._add(_STRUCTURAL[text] if group == 1 else _WHOLE_KINDS[group - 2], text, found)
            return match.end()
        match = _BLANKS.match(data, position)
        position = match.end() if match else position
        if position == len(data):
            return position
        self._token.append(data[position])
        if data[position] in _FIRST:
            self._state = _FIRST[data[position]]
        else:
            self._stray(found)
        return position + 1

    def _move(self, after: str, found: list[Any]) -> None:
        if after == "string" or len(self._token) > self.max_token_bytes:
            self._finish("string", found)  # over the limit, its kind does not matter
        else:
            self._state = after

    def _stray(self, found: list[Any]) -> None:
        text = lenient_text(bytes(self._token).partition(b"\0")[0])
        found.append(JSONParseError(f"JSON parse error, stray '{text}'"))
        self._token.clear()
        self._forget_value()
        self._state = _RECOVERY

    def _finish(self, kind: Kind, found: list[Any]) -> None:
        text = bytes(self._token)
        self._token.clear()
        self._state = _START
        self._add(kind, text, found)

    def _add(self, kind: Kind, text: bytes, found: list[Any]) -> None:
        """A token is whole; with it a value may be."""
        if kind in _LEVELS:
            braces, brackets = _LEVELS[kind]
            self._braces += braces
            self._brackets += brackets
        exceeded = self._exceeded(len(text))
        if exceeded:
            found.append(JSONParseError(f"JSON {exceeded} limit exceeded"))
            self._forget_value()
            return
        self._tokens.append(Token(kind, text))
        self._bytes += len(text)
        if (self._braces > 0 <= self._brackets) or (self._brackets > 0 <= self._braces):
            return
        try:
            found.append(parse(self._tokens))
        except JSONParseError as error:
            found.append(error)
        self._forget_value()

    def _exceeded(self, size: int) -> str | None:
        if self._bytes + size + 1 > self.max_token_bytes:
            return "token size"
        if len(self._tokens) + 1 > self.max_tokens:
            return "token count"
        return "nesting depth" if self._braces + self._brackets > self.max_nesting else None

    def _forget_value(self) -> None:
        self._tokens: list[Token] = []
        self._bytes = 0
        self._braces = 0  # open; below 0 when one too many was closed
        self._brackets = 0
