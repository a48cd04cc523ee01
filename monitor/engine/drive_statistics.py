"""``stats-account-…`` and ``stats-intervals`` of ``-drive``: what a drive's statistics take in."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from monitor.engine.errors import RequestError

_MOST = (1 << 32) - 1
_PREFIX = "stats-intervals."


class LeftOverInterval(RequestError):
    template = "Invalid option {option}"
    option: str


class InvalidInterval(RequestError):
    template = "Invalid interval length: {value}"
    value: str


class InvalidIntervals(RequestError):
    template = "The specification of stats-intervals is invalid"


@dataclass
class Statistics:
    """Whether invalid and failed requests count as requests that took their time, and the lengths
    of the intervals as they were given: None is one that has members."""

    account_invalid: bool = True
    account_failed: bool = True
    given: list[str | None] = field(default_factory=list)

    def intervals(self) -> list[int]:
        """In seconds. Raises RequestError; QEMU looks at them when the image is open."""
        return [_seconds(text) for text in self.given]


def take_statistics(
    flat: dict[str, Any], switch: Callable[[dict[str, Any], str, bool], bool]
) -> Statistics:
    """Takes the options out of ``flat``; ``switch`` takes out one that is on or off."""
    return Statistics(
        switch(flat, "stats-account-invalid", True), switch(flat, "stats-account-failed", True)
    )


def take_intervals(flat: dict[str, Any]) -> list[str | None]:
    """The list out of ``flat``: numbered from 0 on, without a gap. Raises RequestError."""
    members = {key: flat.pop(key) for key in list(flat) if key.startswith(_PREFIX)}
    lengths: list[str | None] = []
    while True:
        name = f"{_PREFIX}{len(lengths)}"
        inner = [key for key in members if key.startswith(f"{name}.")]
        if (name in members) == bool(inner):  # neither, or both
            break
        lengths.append(None if inner else members.pop(name))
        for key in inner:
            del members[key]
    if members:
        raise LeftOverInterval(next(iter(members)))
    return lengths


def _seconds(text: str | None) -> int:
    if text is None:
        raise InvalidIntervals
    if not re.fullmatch(r"\s*\+?0*[0-9]{1,10}", text, re.ASCII) or not 0 < int(text) <= _MOST:
        raise InvalidInterval(text)
    return int(text)
