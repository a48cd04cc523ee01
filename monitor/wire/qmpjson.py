"""QEMU's dialect of JSON: how its writer spells (what its parser takes: ``qmpparser``).

One line, ASCII only, ``\\u`` escapes in capital letters, a blank after each colon and comma, the
members of an object in the order of QEMU's dictionaries (``member_order``).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from json.encoder import encode_basestring_ascii
from typing import Any

__all__ = ["JSONParseError", "encode", "member_order", "quote", "respell"]


class JSONParseError(ValueError):
    """``str()`` of it is QEMU's whole sentence."""


def member_order(names: Iterable[str]) -> list[str]:
    """Names of an object's members in the order in which QEMU writes and looks at them.

    That is the order of the 512 buckets of its dictionaries; of two names in one bucket the
    later comes first.
    """
    latest_first = list(names)
    latest_first.reverse()
    return sorted(latest_first, key=_bucket)


def _bucket(name: str) -> int:
    return _known_bucket(name) if len(name) < 64 else _hash(name) % 512


@functools.lru_cache(1024)
def _known_bucket(name: str) -> int:
    return _hash(name) % 512


def _hash(name: str) -> int:
    encoded = name.encode("utf-8", "surrogateescape")
    value = 0x238F13AF * len(encoded)
    for index, byte in enumerate(encoded):
        value += byte << index * 5 % 24
    return 1103515243 * value + 12345 & 0xFFFFFFFF


class _Verbatim(str):
    """Text that is JSON already."""

    __slots__ = ()


def encode(value: Any) -> str:
    """``value`` (of dictionaries, lists and scalars) as QEMU writes it. Raises TypeError."""
    written: list[str] = []
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Mapping):
            waiting.extend(reversed(_object(item)))
        elif isinstance(item, (list, tuple)):
            waiting.extend(reversed(_list(item)))
        else:
            written.append(_scalar(item))
    return "".join(written)


def _object(members: Mapping[str, Any]) -> list[Any]:
    pieces: list[Any] = [_Verbatim("{")]
    for name in member_order(members):
        comma = ", " if len(pieces) > 1 else ""
        pieces += (_Verbatim(f"{comma}{quote(name)}: "), members[name])
    return [*pieces, _Verbatim("}")]


def _list(items: list[Any] | tuple[Any, ...]) -> list[Any]:
    pieces: list[Any] = [_Verbatim("[")]
    for item in items:
        if len(pieces) > 1:
            pieces.append(_Verbatim(", "))
        pieces.append(item)
    return [*pieces, _Verbatim("]")]


def _scalar(value: Any) -> str:
    if isinstance(value, _Verbatim):
        return str(value)
    if isinstance(value, str):
        return quote(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return f"{value:.17g}"
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def quote(text: str) -> str:
    """A string as QEMU writes it."""
    if not text.isascii():
        from monitor.wire.qmpparser import lenient_text

        text = lenient_text(text.encode("utf-8", "surrogateescape"))
    return respell(encode_basestring_ascii(text))


# Compiled when it is first used, as few answers need it.
_ESCAPE = r"\\(?:u([0-9a-fA-F]{4})|.)|[^\x00-\x7e]"


def respell(json: str) -> str:
    """JSON text with its strings in QEMU's spelling: ``\\u00E9`` for all but plain ASCII."""
    if json.isascii() and "\\u" not in json and "\x7f" not in json:
        return json
    return re.sub(_ESCAPE, _respelt, json)


def _respelt(match: re.Match[str]) -> str:
    text = match[0]
    if match[1]:
        return text.upper().replace("U", "u", 1)
    if text[0] == "\\":
        return text
    if text > "\uffff":
        high, low = divmod(ord(text) - 0x10000, 0x400)
        return f"\\u{0xD800 + high:04X}\\u{0xDC00 + low:04X}"
    return f"\\u{ord(text):04X}"
