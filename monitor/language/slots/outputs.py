"""Slots behind a command: ``--output=``, ``> file``, ``| command``; and ``$`` for variables."""

from __future__ import annotations

import re

from monitor.commands.forms import FORMATS
from monitor.language.cursor import Cursor
from monitor.language.outputs import BACKGROUND, OPERATORS, OPTION
from monitor.language.slots.kinds import Place, Slot, Word
from monitor.language.syntax import Kind

_VARIABLE = re.compile(r"(?<!\$)(?:\$\$)*\$(?P<brace>\{?)(?P<name>[A-Za-z_]\w*|)\Z", re.ASCII)


def in_output(cursor: Cursor) -> Place | None:
    """The place, where the cursor is behind the command's own arguments; None elsewhere."""
    words = [token.text for token in cursor.arguments if token.kind is Kind.WORD]
    if words[-1:] == [BACKGROUND]:
        return Place(cursor.text, cursor.start, ())
    for index, token in enumerate(cursor.arguments):
        if token.kind is Kind.WORD and token.text in OPERATORS:
            last = index == len(cursor.arguments) - 1
            if token.text == "|" or not last:
                return Place(cursor.text, cursor.start, ())
            slot = Slot("file", "the file that takes the output")
            return Place(cursor.text, cursor.start, (slot,), quoted=cursor.quoted)
    if cursor.quoted or cursor.json:
        return None
    forms = (
        Slot(
            "value", "a form of output", tuple(Word(name, meta) for name, meta in FORMATS.items())
        ),
    )
    if cursor.text.startswith(f"{OPTION}="):
        start = len(OPTION) + 1
        return Place(cursor.text[start:], cursor.start + start, forms)
    if words and words[-1] == OPTION:
        return Place(cursor.text, cursor.start, forms)
    return None


OUTPUT_SLOT = Slot("flag", "an option", (Word(f"{OPTION}=", "the form of the output"),))


def in_variable(text: str) -> tuple[str, int, str] | None:
    """Of an unfinished ``$NAME`` at the end of ``text``: what is typed of the name, where that
    begins, and what closes it."""
    found = _VARIABLE.search(text)
    if found is None:
        return None
    return found["name"], found.start("name"), "}" if found["brace"] else ""
