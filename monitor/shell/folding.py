"""Text for people, folded at blanks where a terminal would cut words in two."""

from __future__ import annotations

import re

from monitor.language.syntax import columns_of

_HANGS = re.compile(r"\s*(?:\S+(?: \S+)*\s{2,})*")
"""What stands before the last column of a line: its indent, and words with wide blanks behind."""


def folded(text: str, columns: int) -> str:
    """``text`` in lines of at most ``columns`` columns, where words allow it.

    What goes on below a line begins where the line's last column does (of a table: its text).
    """
    return "\n".join(part for line in text.split("\n") for part in _fold(line, columns))


def _fold(line: str, columns: int) -> list[str]:
    line = line.expandtabs()
    if columns_of(line) <= columns:
        return [line]
    match = _HANGS.match(line)
    hang = columns_of(match[0]) if match else 0
    if hang > columns // 2:
        hang = columns_of(line) - columns_of(line.lstrip())
    below = " " * min(hang, columns // 2)
    indent = len(line) - len(line.lstrip())
    lines: list[str] = []
    row = line[:indent]
    for word in re.findall(r"\S+\s*", line[indent:]):
        if row.strip() and columns_of(row + word.rstrip()) > columns:
            lines.append(row.rstrip())
            row = below
        row += word
    return [*lines, row.rstrip()]
