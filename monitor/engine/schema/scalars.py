"""Numbers and switches written as text, read as QEMU's option strings read them.

Each function returns None for text that is not such a value: the caller knows the name of the
parameter, and so the sentence. Nothing here skips trailing blanks, because QEMU does not.
"""

from __future__ import annotations

import re

INT64_MIN = -(1 << 63)
INT64_MAX = (1 << 63) - 1
UINT64_MAX = (1 << 64) - 1

_C_INTEGER = re.compile(r"[ \t\n\v\f\r]*([+-]?)(?:0[xX]([0-9a-fA-F]+)|(0[0-7]*)|([1-9][0-9]*))")
_SIZE = re.compile(
    r"[ \t\n\v\f\r]*\+?(?:0[xX]([0-9a-fA-F]+)|([0-9]+)(\.[0-9]*)?)([bBkKmMgGtTpPeE]?)"
)

_TRUE = frozenset(("on", "yes", "true", "y"))
_FALSE = frozenset(("off", "no", "false", "n"))

_SHIFT = {"b": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50, "e": 60}


def parse_bool(text: str) -> bool | None:
    """``on yes true y`` and ``off no false n``; the case of the letters matters."""
    if text in _TRUE:
        return True
    return False if text in _FALSE else None


def _c_integer(text: str) -> int | None:
    """What strtol gives with base 0 (``0x10``, ``010`` is 8), unless something is left over."""
    match = _C_INTEGER.fullmatch(text)
    if match is None:
        return None
    sign, hexadecimal, octal, decimal = match.groups()
    if hexadecimal:
        magnitude = int(hexadecimal, 16)
    elif octal:
        magnitude = int(octal, 8)
    elif len(decimal) <= 20:  # a longer one is over 2^64, whatever it is
        magnitude = int(decimal)
    else:
        return None
    return -magnitude if sign == "-" else magnitude


def parse_int64(text: str) -> int | None:
    value = _c_integer(text)
    return value if value is not None and INT64_MIN <= value <= INT64_MAX else None


def parse_uint64(text: str) -> int | None:
    """As strtoull: a minus sign is taken, and wraps around 2^64."""
    value = _c_integer(text)
    return value & UINT64_MAX if value is not None and abs(value) <= UINT64_MAX else None


def parse_size(text: str, unit: str = "B") -> int | None:
    """A count of bytes: ``65536``, ``64k``, ``1.5G``, ``0x10000``; leading zeros are decimal.

    ``unit`` is the suffix of a number that has none ("M" in HMP). A fraction needs a unit
    larger than a byte and is rounded down. Results over 2^64 - 1 are refused.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        return None
    hexadecimal, decimal, fraction, suffix = match.groups()
    digits = hexadecimal or decimal.lstrip("0") or "0"
    if len(digits) > 20:
        return None
    shift = _SHIFT[(suffix or unit).lower()]
    part = int(float(f"0{fraction}0") * (1 << 64)) if fraction else 0
    if part and not shift:
        return None
    size = (int(digits, 16 if hexadecimal else 10) << shift) + (part << shift >> 64)
    return size if size <= UINT64_MAX else None
