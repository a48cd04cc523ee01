"""Masks: text of a transcript that stands for what differs from run to run.

    [..]         any text within the line
    ...          alone on a line: any lines, or none
    [TIME]       a length of time: 0.01 s, 00.00 sec, 1:02:03
    [RATE]       something per second: 1.5 GiB/sec, 120 ops/sec
    [SIZE]       an amount: 64k, 1.5 GiB, 65536 bytes
    [NODE:a]     a node's name, [JOB:a] a job's, [PATH:a] a file's

A typed mask with a name binds at its first use and stands for the same text from then on; in a
command it is replaced by what it is bound to. A line that begins with a backslash is the rest of
the line as it stands, without masks.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence

__all__ = ["ANY_LINES", "FAILED", "Bindings", "escape", "filled_in", "match_line", "match_lines"]

ANY_LINES = "..."
FAILED = "[failed]"
"""The line below the output of a command that failed: no mask, but no output either."""

Bindings = Mapping[str, str]
"""What named masks stand for: "NODE:a" -> "#block123"."""

_NUMBER = r"(?:\d+(?:\.\d+)?(?:e[+-]\d+)?|inf)"
_UNIT = r"(?:[kKMGTPE]i?B?|B|bytes)"
_TYPES = {
    "TIME": rf"{_NUMBER}(?::\d+(?:\.\d+)?)* ?(?:sec|[mun]?s|min|h)?",
    "RATE": rf"{_NUMBER} ?(?:{_UNIT}|ops)/s(?:ec)?",
    "SIZE": rf"{_NUMBER}(?: ?{_UNIT})?",
    "NODE": r"[^\s,'\"()]+",
    "JOB": r"[^\s,'\"()]+",
    "PATH": r"[^\s'\"].*?",
}
_MASK = re.compile(rf"\[(?:(\.\.)|({'|'.join(_TYPES)})(?::(\w+))?)\]")

# Lines of output that would be read as something else.
_SPECIAL = re.compile(r"\\|#(?:\s|$)|\.\.\.$|\[failed\]$|(?:blkmon|\.{6})> ?")


def escape(line: str) -> str:
    """A line of output as a transcript's line that matches this very text and no other."""
    return "\\" + line if _SPECIAL.match(line) or _MASK.search(line) else line


def filled_in(text: str, bindings: Bindings) -> str:
    """A command with its bound masks replaced; unbound ones stay, for an error to show."""
    return _MASK.sub(lambda mask: bindings.get(mask[0][1:-1], mask[0]), text)


def match_line(expected: str, actual: str, bindings: Bindings) -> Bindings | None:
    """Whether a transcript's line stands for ``actual``: the bindings from then on, or None."""
    if expected == actual and "[" not in expected:
        return bindings
    pattern, names = _compiled(expected)
    match = pattern.fullmatch(actual)
    if match is None:
        return None
    found = {name: match[group] for group, name in names.items()}
    if any(bindings.get(name, text) != text for name, text in found.items()):
        return _match_bound(expected, actual, bindings)
    return {**bindings, **found} if found else bindings


def _match_bound(expected: str, actual: str, bindings: Bindings) -> Bindings | None:
    """The same with bound names as the text they must be, where a pattern took another part."""
    if expected.startswith("\\") or filled_in(expected, bindings) == expected:
        return None
    pattern, names = _compiled(expected, tuple(sorted(bindings.items())))
    match = pattern.fullmatch(actual)
    if match is None:
        return None
    return {**bindings, **{name: match[group] for group, name in names.items()}}


@functools.lru_cache(maxsize=4096)
def _compiled(
    expected: str, bound: tuple[tuple[str, str], ...] = ()
) -> tuple[re.Pattern[str], dict[str, str]]:
    """The line as a pattern, and {group: name} of its named masks."""
    if expected.startswith("\\"):
        return re.compile(re.escape(expected[1:])), {}
    known = dict(bound)
    names: dict[str, str] = {}
    parts: list[str] = []
    position = 0
    for mask in _MASK.finditer(expected):
        parts.append(re.escape(expected[position : mask.start()]))
        parts.append(_part(mask, known, names))
        position = mask.end()
    parts.append(re.escape(expected[position:]))
    return re.compile("".join(parts), re.DOTALL), names


def _part(mask: re.Match[str], known: Mapping[str, str], names: dict[str, str]) -> str:
    """The pattern of one mask; a name's second use in a line is a reference to its first."""
    if mask[1]:
        return ".*?"
    name = mask[0][1:-1]
    if mask[3] is None:
        return f"(?:{_TYPES[mask[2]]})"
    if name in known:
        return re.escape(known[name])
    group = f"{mask[2]}_{mask[3]}"
    if group in names:
        return f"(?P={group})"
    names[group] = name
    return f"(?P<{group}>{_TYPES[mask[2]]})"


def match_lines(
    expected: Sequence[str], actual: Sequence[str], bindings: Bindings
) -> Bindings | None:
    """Whether lines of a transcript stand for lines of output, as ``match_line``."""
    failed: set[tuple[int, int, frozenset[tuple[str, str]]]] = set()

    def match(i: int, j: int, bound: Bindings) -> Bindings | None:
        while i < len(expected) and expected[i] != ANY_LINES:
            found = match_line(expected[i], actual[j], bound) if j < len(actual) else None
            if found is None:
                return None
            i, j, bound = i + 1, j + 1, found
        if i == len(expected):
            return bound if j == len(actual) else None
        key = (i, j, frozenset(bound.items()))
        if key in failed:
            return None
        for start in range(j, len(actual) + 1):
            found = match(i + 1, start, bound)
            if found is not None:
                return found
        failed.add(key)
        return None

    return match(0, 0, bindings)
