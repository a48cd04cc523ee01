"""``throttling.…`` of ``-drive``, and the older names of those options."""

from __future__ import annotations

import re
from typing import Any

from monitor.engine.errors import RequestError
from monitor.engine.schema.drive import THROTTLING
from monitor.engine.schema.mistakes import NumberExpected
from monitor.engine.schema.scalars import parse_uint64
from monitor.engine.throttle import NAMES, Limit, Limits

_DIGITS = re.compile(r"[+-]?(0[xX][0-9a-fA-F]+|[0-9]+)")


class NumberTooLarge(RequestError):
    template = "Value '{value}' is too large for parameter '{option}'"
    value: str
    option: str


def take_limits(flat: dict[str, Any]) -> tuple[Limits, str | None]:
    """Takes the options out of ``flat``: the limits, which are to be checked, and the group's name.
    Raises RequestError for what is no number."""
    limits = {}
    for name in NAMES:
        option = THROTTLING[name]
        rate, burst = _number(flat, option), _number(flat, f"{option}-max")
        limits[name] = Limit(rate, burst, _number(flat, f"{option}-max-length", 1))
    taken = Limits(limits, _number(flat, "throttling.iops-size"))
    group = flat.pop("throttling.group", None)
    return taken, group


def _number(flat: dict[str, Any], option: str, default: int = 0) -> int:
    text = flat.pop(option, None)
    if text is None:
        return default
    value = parse_uint64(text)
    if value is None:
        if _DIGITS.fullmatch(text.strip()):
            raise NumberTooLarge(text, option)
        raise NumberExpected(option)
    return value
