"""Slots inside JSON that is still being typed: names of members, and their values."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from monitor.engine.schema.base import Request
from monitor.language import fields
from monitor.language.cursor import Cursor
from monitor.language.fields import Tree
from monitor.language.slots.kinds import Place, Slot, Word
from monitor.language.slots.requests import keys_slots, value_slots
from monitor.language.syntax import Kind, Mistake, Token

_PIECE = re.compile(
    r"""\s+|(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<open>[{\[])|(?P<close>[}\]])"""
    r"""|(?P<colon>:)|(?P<comma>,)|(?P<quote>["'])|(?P<other>[^\s{}\[\]:,"']+)""",
    re.ASCII,
)


@dataclass
class _Level:
    """An open bracket: where its contents go, and how far they have come."""

    tree: Tree
    array: bool
    name: str = ""  # of the member that is being typed
    after_colon: bool = False
    count: int = field(default=0)


def in_json(request: type[Request], cursor: Cursor) -> Place:
    """The place at the end of JSON that is a request's arguments, or one of its values."""
    kind = fields.arguments_type(request)
    try:
        tree = fields.collect(cursor.arguments)
    except Mistake:
        return Place("", cursor.start + len(cursor.text), ())
    path = cursor.key.split(".") if cursor.key else []
    here = tree
    for part in path:
        here = here.branches.setdefault(part, Tree())
    levels, text, start, in_quotes = _walk(cursor.text, here)
    if not levels:
        return Place("", cursor.start + len(cursor.text), ())
    for level in levels:
        if level is not levels[-1] or level.array or level.after_colon:
            path.append(level.name)
    place = Place(text, cursor.start + start, ())
    if levels[-1].array or levels[-1].after_colon:
        slots = value_slots(kind, tree, path)
        if not in_quotes:
            slots = tuple(_quoted(slot) for slot in slots)
        return Place(place.text, place.start, slots, quoted=in_quotes, json=True)
    return Place(place.text, place.start, _names(kind, tree, path, in_quotes), quoted=in_quotes)


def _names(kind: object, tree: Tree, path: list[str], in_quotes: bool) -> tuple[Slot, ...]:
    prefix = "".join(f"{part}." for part in path)
    names: dict[str, str] = {}
    for slot in keys_slots(kind, tree, prefix):
        for word in slot.words:
            names.setdefault(word.text[len(prefix) : -1], word.meta)
    words = tuple(
        Word(name if in_quotes else f'"{name}": ', meta) for name, meta in names.items()
    )  # fmt: skip
    return (Slot("key", "the name of a member, in quotes", words),)


_BARE = {"on": "true", "off": "false"}


def _quoted(slot: Slot) -> Slot:
    """Values as JSON writes them."""
    if {word.text for word in slot.words} == set(_BARE):
        words = tuple(Word(_BARE[word.text], word.meta) for word in slot.words)
    else:
        words = tuple(Word(f'"{word.text}"', word.meta) for word in slot.words)
    return replace(slot, words=words)


def _walk(text: str, root: Tree) -> tuple[list[_Level], str, int, bool]:
    """The open brackets at the end of ``text``, and the unfinished word with its offset.

    The last value says whether the word lies behind an opening quote.
    """
    levels: list[_Level] = []
    position = 0
    while position < len(text):
        match = _PIECE.match(text, position)
        if match is None:
            return [], "", position, False
        what = match.lastgroup
        if what == "quote":
            return levels, text[position + 1 :], position + 1, True
        if what == "other" and match.end() == len(text):
            return levels, match[0], position, False
        if what is not None and not _take(levels, what, match[0], root):
            return [], "", position, False
        position = match.end()
    return levels, "", len(text), False


def _take(levels: list[_Level], what: str, piece: str, root: Tree) -> bool:
    """One whole piece of JSON; False when it cannot stand where it does."""
    if what == "open":
        tree = _target(levels[-1]) if levels else root
        levels.append(_Level(tree, piece == "[", "0" if piece == "[" else ""))
        return True
    if not levels:
        return False
    level = levels[-1]
    if what == "close":
        levels.pop()
    elif what == "comma":
        level.count += 1
        level.name = str(level.count) if level.array else ""
        level.after_colon = False
    elif what == "colon":
        level.after_colon = True
    elif level.array or level.after_colon:
        _target(level).token = Token(Kind.WORD, piece.strip("\"'"), 0, 0)
    else:
        level.name = piece.strip("\"'")
    return True


def _target(level: _Level) -> Tree:
    return level.tree.branches.setdefault(level.name, Tree())
