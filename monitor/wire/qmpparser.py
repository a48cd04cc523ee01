"""QEMU's dialect of JSON: what its parser takes.

Beyond the standard (RFC 8259): strings in single quotes, and ``\\'``. Refused: a member named
twice, code points that are no characters (surrogates, U+FFFE…), a zero with an exponent (``0e1``).
Text is UTF-8 in which U+0000 may be written as C0 80. Integers outside 64 bits are floating-point
numbers.
"""

from __future__ import annotations

import re
from typing import Any, Literal, NamedTuple

from monitor.wire.qmpjson import JSONParseError

__all__ = ["Kind", "Token", "lenient_text", "parse"]

_INT64_MIN, _UINT64_MAX = -(1 << 63), (1 << 64) - 1


def _parse_error(reason: str) -> JSONParseError:
    return JSONParseError(f"JSON parse error, {reason}")


Kind = Literal["{", "}", "[", "]", ":", ",", "string", "integer", "float", "keyword"]


class Token(NamedTuple):
    kind: Kind
    text: bytes  # as it was sent, quotes included


def parse(tokens: list[Token]) -> Any:
    """One value. ``tokens`` end with it, or with the first that cannot belong to it.

    Without recursion: QEMU allows 1024 levels, Python's stack does not.
    Raises ``JSONParseError`` for the first mistake.
    """
    return _Parser(tokens).value()


class _Open(NamedTuple):
    """An object or list whose end has not been seen; ``key`` waits for its value."""

    container: dict[str, Any] | list[Any]
    key: list[str]


class _Parser:
    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._next = 0
        self._open: list[_Open] = []

    def value(self) -> Any:
        while True:
            value = self._begin()
            if value is _BEGUN:
                continue
            while self._open:
                if not self._take(self._open[-1], value):
                    break
                value = self._open.pop().container
            else:
                return value

    def _token(self, missing: str = "premature EOI") -> Token:
        if self._next == len(self._tokens):
            raise _parse_error(missing)
        self._next += 1
        return self._tokens[self._next - 1]

    def _peek(self) -> Kind:
        if self._next == len(self._tokens):
            raise _parse_error("premature EOI")
        return self._tokens[self._next].kind

    def _begin(self) -> Any:
        """A scalar or an empty object or list; ``_BEGUN`` after the start of a longer one."""
        kind, text = self._token("expecting value")
        if kind == "string":
            return _string(text)
        if kind == "integer":
            number = int(text) if len(text) <= 20 else None
            in_range = number is not None and _INT64_MIN <= number <= _UINT64_MAX
            return number if in_range else float(text)
        if kind == "float":
            return float(text)
        if kind == "keyword":
            if text not in _KEYWORDS:
                raise _parse_error(f"invalid keyword '{text.decode()}'")
            return _KEYWORDS[text]
        if kind not in _CLOSING:
            raise _parse_error("expecting value")
        container: dict[str, Any] | list[Any] = {} if kind == "{" else []
        if self._peek() == _CLOSING[kind]:
            self._next += 1
            return container
        self._open.append(_Open(container, []))
        return _BEGUN

    def _take(self, holder: _Open, value: Any) -> bool:
        """Puts ``value`` where it belongs; tells whether that was the end of ``holder``."""
        container, key = holder
        if isinstance(container, list):
            container.append(value)
            return self._ends("]", "list")
        if key:
            name = key.pop()
            if name in container:
                raise _parse_error("duplicate key")
            container[name] = value
            return self._ends("}", "dict")
        if not isinstance(value, str):
            raise _parse_error("key is not a string in object")
        if self._token().kind != ":":
            raise _parse_error("missing : in object pair")
        key.append(value)
        return False

    def _ends(self, closing: Kind, what: str) -> bool:
        kind = self._token().kind
        if kind == closing:
            return True
        if kind != ",":
            raise _parse_error(f"expected separator in {what}")
        if closing == "}":
            self._peek()
        return False


_BEGUN = object()
_CLOSING: dict[Kind, Kind] = {"{": "}", "[": "]"}
_KEYWORDS = {b"true": True, b"false": False, b"null": None}

_STRING_PART = re.compile(rb"[^\\]+|\\u(?:[0-9a-fA-F]{4})?|\\.", re.DOTALL)
_LOW_SURROGATE = re.compile(rb"\\u([dD][c-fC-F][0-9a-fA-F]{2})")
_SHORT_ESCAPES = {b"b": "\b", b"f": "\f", b"n": "\n", b"r": "\r", b"t": "\t"} | {
    bytes((c,)): chr(c) for c in b"\"'\\/"
}
_NO_CHARACTER = re.compile(
    "[\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
    + "]"
)


def _string(quoted: bytes) -> str:
    """The characters of a string token."""
    end = len(quoted) - 1
    if b"\\" not in quoted and quoted.isascii():
        return quoted[1:end].decode()
    parts: list[str] = []
    at = 1
    while at < end:
        match = _STRING_PART.match(quoted, at, end)
        assert match is not None  # the lexer ends no string in the middle of an escape
        part, at = match[0], match.end()
        if part[:1] != b"\\":
            parts.append(_characters(part))
        elif part[:2] == b"\\u":
            character, at = _unicode_escape(quoted, match.start(), at)
            parts.append(character)
        elif part[1:] in _SHORT_ESCAPES:
            parts.append(_SHORT_ESCAPES[part[1:]])
        else:
            raise _parse_error("invalid escape sequence in string")
    return "".join(parts)


def _characters(encoded: bytes) -> str:
    try:
        text = encoded.replace(b"\xc0\x80", b"\x00").decode()
    except UnicodeDecodeError:
        text = "\ufffe"
    if _NO_CHARACTER.search(text):
        raise _parse_error("invalid UTF-8 sequence in string")
    return text


def _unicode_escape(quoted: bytes, start: int, end: int) -> tuple[str, int]:
    """The character of the escape at ``start`` (two escapes for a surrogate pair), and its end."""
    character = "\ufffe"
    if end - start == 6:
        code = int(quoted[start + 2 : end], 16)
        low = _LOW_SURROGATE.match(quoted, end) if 0xD800 <= code < 0xDC00 else None
        if low:
            code = 0x10000 + ((code & 0x3FF) << 10 | int(low[1], 16) & 0x3FF)
            end = low.end()
        character = chr(code)
    else:
        end = start + 6  # QEMU shows four characters in any case, closing quote included
    if _NO_CHARACTER.match(character):
        escape = lenient_text(quoted[start:end])
        raise _parse_error(f"{escape} is not a valid Unicode character")
    return character, end


_SEQUENCE = re.compile(
    rb"[\x00-\x7f]+|[\xc0-\xdf][\x80-\xbf]?|[\xe0-\xef][\x80-\xbf]{0,2}|[\xf0-\xf7][\x80-\xbf]{0,3}"
    rb"|[\xf8-\xfb][\x80-\xbf]{0,4}|[\xfc\xfd][\x80-\xbf]{0,5}|[\x80-\xff]"
)


def lenient_text(encoded: bytes) -> str:
    """Any bytes as text: U+FFFD for each sequence that is no character, as QEMU divides them."""
    return _SEQUENCE.sub(_lenient_sequence, encoded).decode()


def _lenient_sequence(match: re.Match[bytes]) -> bytes:
    try:
        return _characters(match[0]).encode()
    except JSONParseError:
        return "\ufffd".encode()
