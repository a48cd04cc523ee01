"""Which of many names fit a few typed letters, and in which order.

What begins with the letters as typed comes first, then what begins with them in either case, then
names of whose parts they are the beginnings (``bs`` is ``block-stream``), then names that contain
them, then names that have the letters in that order. Within a rank the order given is kept.

Ten thousand names are ranked at each key: the first sieve is one search through all of them,
written one a line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice

_BOUNDARY = r"(?:(?<![a-z0-9])|(?<=[a-z])(?=[0-9]))"


def rank(typed: str, names: Sequence[str], most: int) -> list[int]:
    """Indices of those ``names`` that fit ``typed``, best first, at most ``most`` of them."""
    if not typed:
        return list(range(min(most, len(names))))
    begin = [index for index, name in enumerate(names) if name.startswith(typed)]
    exact = [index for index in begin if names[index] == typed]
    if exact:
        begin = exact + [index for index in begin if names[index] != typed]
    if len(begin) >= most:
        return begin[:most]
    known = set(begin)
    lines = "\n".join(names).lower()
    if lines.count("\n") >= len(names):  # a name with an end of line in it
        lines = "\n".join(name.replace("\n", " ") for name in names).lower()
    letters = typed.lower()
    for index, _ in _lines_with(rf"^{re.escape(letters)}", lines):
        if index not in known:
            begin.append(index)
            known.add(index)
    spread = (found for found in _spread(letters, lines) if found[-1] not in known)
    others = sorted(islice(spread, most))
    return (begin + [index for *_, index in others])[:most]


def _lines_with(pattern: str, lines: str) -> Iterator[tuple[int, re.Match[str]]]:
    """The first match of ``pattern`` (which begins with ^) in each line, with the line's number."""
    index = at = 0
    for match in re.finditer(pattern, lines, re.M):
        start = match.start()
        index += lines.count("\n", at, start)
        at = start
        yield index, match


def _spread(letters: str, lines: str) -> Iterator[tuple[int, int, int]]:
    """(rank, letters in between, index) of the lines that have ``letters`` in that order."""
    first, *rest = map(re.escape, letters)
    sieve = rf"^([^{first}\n]*){first}" + "".join(rf"[^{c}\n]*{c}" for c in rest)
    parts = re.compile(
        _BOUNDARY + first + "".join(rf"(?:[^\n]*?{_BOUNDARY})??{c}" for c in rest)
    )  # fmt: skip
    for index, match in _lines_with(sieve, lines):
        end = lines.find("\n", match.end())
        end = end if end >= 0 else len(lines)
        gap = match.end() - match.end(1) - len(letters)
        if parts.search(lines, match.start(), end):
            yield 0, gap, index
        else:
            yield (1 if lines.find(letters, match.start(), end) >= 0 else 2), gap, index
