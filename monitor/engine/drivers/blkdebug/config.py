"""Rules in a file, in the form of QEMU's configuration files.

# a comment
[inject-error]
event = "read_aio"
errno = "5"

[set-state]
event = "write_aio"
new_state = "2"
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any, Final

from monitor.engine.drivers.blkdebug.rules import ALL_BUT_STATUS, EVENTS, Injection, StateChange
from monitor.engine.errors import RequestError, host_failure
from monitor.engine.schema.mistakes import (
    InvalidOption,
    InvalidOptionValue,
    NumberExpected,
    SwitchExpected,
)
from monitor.engine.schema.scalars import parse_bool, parse_uint64
from monitor.engine.units import SECTOR

MAX_FILE: Final = 1 << 20
"""Bytes of rules that are read."""
MAX_RULES: Final = 10_000

_GROUPS: Final = {
    "inject-error": ("event", "state", "iotype", "errno", "sector", "once", "immediately"),
    "set-state": ("event", "state", "new_state"),
}
_GROUP = re.compile(r'\[\s*([^\s"\]]{1,63})\s*(?:"[^"]{1,63}")?\s*\]?')
_OPTION = re.compile(r'\s*(\S{1,63}+)(?:\s*=\s*"([^"]{1,1023}))?')
"""As QEMU reads it: the value may be missing, and so may all that is before it."""
_LONGEST_LINE: Final = 1023

_Group = tuple[str, dict[str, str]]


class MissingEvent(RequestError):
    template = "Missing event name for rule"


class UnknownGroup(RequestError):
    template = "There is no option group '{group}'"
    group: str


class NoGroup(RequestError):
    template = "no group defined"


class ParseError(RequestError):
    template = "parse error"


class TooManyRules(RequestError):
    template = "blkdebug config file '{path}' is too long"
    path: str


def read_rules(path: str) -> tuple[list[Injection], list[StateChange]]:
    """The rules of a file. Raises RequestError in QEMU's words."""
    text = _text(path)
    groups = _parse(text, path)
    if len(text) > MAX_FILE:
        raise TooManyRules(path)
    injections = [injection(values) for name, values in groups if name == "inject-error"]
    changes = [state_change(values) for name, values in groups if name == "set-state"]
    return injections, changes


def _text(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO must not hold us
    except OSError as error:
        raise host_failure("Could not read blkdebug config file", error) from error
    try:
        with open(fd, "rb", closefd=False) as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise host_failure("Cannot read config file", error) from error
    finally:
        os.close(fd)
    return (data or b"").decode(errors="replace")


def _parse(text: str, path: str) -> list[_Group]:
    groups: list[_Group] = []
    for line in _lines(text):
        if line.startswith("#"):
            continue
        if found := _GROUP.match(line):
            if found[1] not in _GROUPS:
                raise UnknownGroup(found[1])
            groups.append((found[1], {}))
        elif found := _OPTION.match(line):
            if not groups:
                raise NoGroup()
            name, values = groups[-1]
            if found[1] not in _GROUPS[name]:
                raise InvalidOption(found[1])
            values[found[1]] = found[2] or ""
        else:
            raise ParseError()
        if len(groups) > MAX_RULES:
            raise TooManyRules(path)
    for _, values in groups:
        _check_numbers(values)
    return groups


def _lines(text: str) -> Iterator[str]:
    """Lines that are not empty, as QEMU's C has them: pieces of the longest, up to a NUL."""
    for line in text.split("\n"):
        for start in range(0, len(line), _LONGEST_LINE):
            yield line[start : start + _LONGEST_LINE].partition("\0")[0]


def _check_numbers(values: dict[str, str]) -> None:
    for option in ("state", "errno", "sector", "new_state"):
        if option in values and parse_uint64(values[option]) is None:
            raise NumberExpected(option)
    for option in ("once", "immediately"):
        if option in values and parse_bool(values[option]) is None:
            raise SwitchExpected(option)


def injection(values: dict[str, Any]) -> Injection:
    """One rule of strings."""
    event = _event(values)
    kinds = ALL_BUT_STATUS
    if "iotype" in values:
        if values["iotype"] not in ALL_BUT_STATUS | {"block-status"}:
            raise InvalidOptionValue(values["iotype"])
        kinds = frozenset({values["iotype"]})
    return Injection(
        event,
        state=_number(values, "state", 0),
        code=_number(values, "errno", 5),
        kinds=kinds,
        offset=offset_of(_number(values, "sector", -1)),
        once=bool(parse_bool(values.get("once", "off"))),
    )


def offset_of(sector: int) -> int:
    """The byte that a rule's sector begins with, as QEMU's 64 bits have it; -1 for no sector."""
    return -1 if sector in (-1, (1 << 64) - 1) else sector * SECTOR % (1 << 64)


def state_change(values: dict[str, Any]) -> StateChange:
    event = _event(values)
    return StateChange(event, _number(values, "state", 0), _number(values, "new_state", 0))


def _event(values: dict[str, Any]) -> str:
    if "event" not in values:
        raise MissingEvent()
    if values["event"] not in EVENTS:
        raise InvalidOptionValue(values["event"])
    return str(values["event"])


def _number(values: dict[str, Any], name: str, default: int) -> int:
    return parse_uint64(values[name]) or 0 if name in values else default
