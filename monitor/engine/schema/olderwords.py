"""Mistakes in options of ``-drive`` and ``drive_add``, in the words of QEMU's drivers.

There each driver reads its own options from a flat list, most of them with QEMU's older parser
(util/qemu-option.c); the address of an NBD server is read apart, and so are blkdebug's rules. The
walk is that of ``schema.decode``; only what is said of the mistake differs.
"""

from __future__ import annotations

from typing import Any

from monitor.engine.errors import RequestError
from monitor.engine.schema.mistakes import (
    SUFFIXES,
    InvalidOptionValue,
    MissingParameter,
    NoBackingFiles,
    NumberExpected,
    ParameterError,
    UnacceptedValue,
    UnexpectedParameter,
    UnsignedExpected,
    UnsupportedProtocolOption,
    WrongParameterType,
    WrongParameterValue,
)

SIZES = frozenset(
    {
        "size",
        "offset",
        "align",
        "max-transfer",
        "opt-write-zero",
        "max-write-zero",
        "opt-discard",
        "max-discard",
        "cache-size",
        "l2-cache-size",
        "l2-cache-entry-size",
        "refcount-cache-size",
    }
)
"""Options that take units."""

_WORDS = frozenset({"locking", "detect-zeroes", "aio", "event", "iotype"})
"""Enumerations whose mistakes are told without their names."""

_RULES = ("inject-error", "set-state")


class InvalidDiscardOption(RequestError):
    template = "Invalid discard option"
    value: str


class UnsupportedOverlapCheck(RequestError):
    template = (
        "Unsupported value '{value}' for qcow2 option 'overlap-check'. "
        "Allowed are any of the following: none, constant, cached, all"
    )
    value: str


class NoAddress(RequestError):
    template = "NBD server address missing"


class UnexpectedInAddress(RequestError):
    template = "Parameter '{parameter}' is unexpected"
    parameter: str


class Gaps(RequestError):
    template = "List indices are not contiguous, saw {count} elements but {largest} largest index"
    count: int
    largest: int


class ListAndKeys(RequestError):
    template = "Cannot mix list and non-list keys"


class UnusedRule(RequestError):
    template = "Unused option '{option}' for [{rules}]"
    option: str
    rules: str


class RuleWithoutKeys(RequestError):
    template = "[{rules}] section (index {index}) does not consist of keys"
    rules: str
    index: str


class UnknownInRule(RequestError):
    template = "[{rules}] section doesn't support the option '{option}'"
    rules: str
    option: str


class EventMissing(RequestError):
    template = "Missing event name for rule"


def in_older_words(error: ParameterError, tree: dict[str, Any]) -> RequestError:
    """What QEMU says of a mistake in ``tree``, the options of one driver."""
    driver, path = tree.get("driver"), error.path
    first, _, rest = path.partition(".")
    if driver == "nbd" and first == "server":
        return _of_address(error, rest, tree.get("server"))
    if driver == "blkdebug" and first in _RULES:
        return _of_rules(error, first, rest, tree[first])
    if driver == "copy-before-write":
        return error  # newer than the older parser
    return _of_option(error)


def _of_option(error: ParameterError) -> RequestError:
    name = error.path.rpartition(".")[2]
    if isinstance(error, WrongParameterValue):
        if name in SIZES:
            unsigned = UnsignedExpected(name)
            unsigned.hint = SUFFIXES
            return unsigned
        if error.expected == "integer":
            return NumberExpected(name)
    if isinstance(error, UnacceptedValue):
        if name in _WORDS:
            return InvalidOptionValue(error.value)
        if name == "discard":
            return InvalidDiscardOption(error.value)
        if error.path in ("overlap-check", "overlap-check.template"):
            return UnsupportedOverlapCheck(error.value)
    if isinstance(error, UnexpectedParameter) and name == "backing":
        return NoBackingFiles()
    if isinstance(error, WrongParameterType) and error.path == "cache":
        return UnexpectedParameter("cache")  # a mode, which is -drive's
    return error


def _of_address(error: ParameterError, rest: str, server: Any) -> RequestError:
    """The address is read by itself, so that names begin below ``server``."""
    if not isinstance(server, dict | list):
        return NoAddress()
    if isinstance(server, list):
        return WrongParameterType("<anonymous>", "object")
    indices = [int(key) for key in server if key.isdecimal()]
    if indices and len(indices) < len(server):
        return ListAndKeys()
    if indices:
        return Gaps(len(indices), max(indices))
    if isinstance(error, MissingParameter):
        return MissingParameter(rest)
    if isinstance(error, UnexpectedParameter):
        return UnexpectedInAddress(rest)
    return error


def _of_rules(error: ParameterError, rules: str, rest: str, value: Any) -> RequestError:
    if not isinstance(value, dict | list):
        return UnsupportedProtocolOption("blkdebug", rules)
    if isinstance(value, dict):
        return _first_unused(rules, value)
    index, _, name = rest.partition(".")
    if not name:
        return RuleWithoutKeys(rules, index)
    if isinstance(error, UnexpectedParameter):
        return UnknownInRule(rules, name)
    if isinstance(error, MissingParameter) and name == "event":
        return EventMissing()
    if isinstance(error, WrongParameterValue) and error.expected != "integer":
        return WrongParameterValue(name, error.expected)
    return _of_option(error)


def _first_unused(rules: str, value: dict[str, Any]) -> RequestError:
    """Of a list with a gap, what stands behind it."""
    from monitor.wire.qmpjson import member_order

    index = 0
    while str(index) in value:
        index += 1
    left = [key for key in value if not (key.isdecimal() and int(key) < index)]
    flat = [
        f"{key}.{name}" if isinstance(value[key], dict) else key
        for key in left
        for name in (value[key] if isinstance(value[key], dict) else ("",))
    ]
    return UnusedRule(member_order(flat)[0], rules)
