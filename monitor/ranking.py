"""Which of many names fit a few typed letters, and in which order.

What begins with the letters as typed comes first, then what begins with them in either case, then
names whose parts they are the beginnings of (``bs`` is ``block-stream``), then names that contain
them, then names that have the letters in that order. Within a rank the order given is kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")

_BOUNDARY = re.compile(r"[-_.\s/#:=]+|(?<=[a-z])(?=[0-9A-Z])")


def rank(typed: str, items: Iterable[T], text_of: Callable[[T], str]) -> list[T]:
    """Those of ``items`` that fit ``typed``, best first."""
    if not typed:
        return list(items)
    exact: list[T] = []
    prefixed: list[T] = []
    others: list[tuple[int, int, int, T]] = []
    folded = typed.casefold()
    spread = re.compile(".*?".join(map(re.escape, folded)), re.DOTALL)
    for index, item in enumerate(items):
        text = text_of(item)
        if text.startswith(typed):
            (exact if text == typed else prefixed).append(item)
            continue
        lowered = text.casefold()
        found = spread.search(lowered)
        if found is None:
            continue
        gap = found.end() - found.start() - len(folded)
        others.append((_tier(folded, lowered, text), gap, index, item))
    others.sort(key=lambda other: other[:3])
    return exact + prefixed + [item for *_, item in others]


def _tier(folded: str, lowered: str, text: str) -> int:
    if lowered.startswith(folded):
        return 0
    if _are_beginnings(folded, [part.casefold() for part in _BOUNDARY.split(text) if part]):
        return 1
    return 2 if folded in lowered else 3


def _are_beginnings(letters: str, parts: list[str]) -> bool:
    """Whether ``letters`` are beginnings of ``parts`` put together (``blstr``: block-stream)."""
    if not letters:
        return True
    if not parts:
        return False
    first, rest = parts[0], parts[1:]
    longest = 0
    while longest < min(len(letters), len(first)) and letters[longest] == first[longest]:
        longest += 1
    if any(_are_beginnings(letters[taken:], rest) for taken in range(longest, 0, -1)):
        return True
    return _are_beginnings(letters, rest)
