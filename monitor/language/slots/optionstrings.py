"""Slots inside an option string, as ``-drive`` takes it: ``if=none,file=a.img,format=``."""

from __future__ import annotations

from itertools import pairwise

from monitor.engine.schema import imageopts
from monitor.engine.schema.base import Field
from monitor.engine.schema.blockdev import AnyBlockdevOptions
from monitor.engine.schema.drive import DriveOptions
from monitor.language import fields
from monitor.language.cursor import Cursor
from monitor.language.fields import Tree
from monitor.language.slots.kinds import Place, Slot, Word, choice_words
from monitor.language.slots.requests import keys_slots, slots_of, value_slots
from monitor.language.syntax import Kind, Token


def in_option_string(cursor: Cursor, *, creating: bool = False) -> Place:
    """The place at the end of an unfinished option string: a drive's, or a new image's."""
    items = split_items(cursor.text)
    if creating:
        return _in_create_options(cursor, items)
    item = items[-1]
    tree = _tree(items[:-1])
    start = cursor.start + len(cursor.text) - len(item)
    key, equals, value = item.partition("=")
    if not equals:
        slots = _keys(tree, item)
        return Place(item, start, slots, commas=True, quoted=cursor.quoted)
    slots = _values(tree, key)
    start += len(key) + 1
    return Place(value.replace(",,", ","), start, slots, commas=True, quoted=cursor.quoted)


def _in_create_options(cursor: Cursor, items: list[str]) -> Place:
    known = imageopts.image_options(_format(cursor))
    item = items[-1]
    start = cursor.start + len(cursor.text) - len(item)
    key, equals, value = item.partition("=")
    if equals:
        slots = _create_value(key, known)
        start += len(key) + 1
        return Place(value.replace(",,", ","), start, slots, commas=True, quoted=cursor.quoted)
    given = {other.partition("=")[0] for other in items[:-1]}
    words = [Word(f"{name}=", member.doc) for name, member in known.items() if name not in given]
    words.append(Word("help", "list the options, and make nothing"))
    slots = (Slot("key", "an option of the new image", tuple(words)),)
    return Place(item, start, slots, commas=True, quoted=cursor.quoted)


def _format(cursor: Cursor) -> str:
    """The format that ``-f`` before the options names; until one does, that with most options."""
    words = [token.text for token in cursor.arguments]
    after = dict(pairwise(words)).get("-f")
    return after if after is not None else "qcow2"


def _create_value(key: str, known: dict[str, Field]) -> tuple[Slot, ...]:
    if key not in known:
        return ()
    usual = imageopts.USUAL.get(key)
    if usual is None:
        return slots_of(known[key])
    return (Slot("value", known[key].doc, tuple(Word(value) for value in usual)),)


def split_items(text: str) -> list[str]:
    """The items of an option string as typed; a doubled comma does not end one."""
    items, at = [""], 0
    while at < len(text):
        if text.startswith(",,", at):
            items[-1] += ",,"
            at += 2
        elif text[at] == ",":
            items.append("")
            at += 1
        else:
            items[-1] += text[at]
            at += 1
    return items


def _tree(items: list[str]) -> Tree:
    """What the whole items set; ``format`` chooses as ``driver`` does."""
    tree = Tree()
    for item in items:
        key, _, value = item.partition("=")
        here = tree
        for part in ("driver" if key == "format" else key).split("."):
            here = here.branches.setdefault(part, Tree())
        here.token = Token(Kind.WORD, value.replace(",,", ","), 0, 0)
    return tree


def _keys(tree: Tree, typed: str) -> tuple[Slot, ...]:
    words = {
        f"{key}=": member.doc
        for key, member in fields.members(DriveOptions).items()
        if (key if key != "format" else "driver") not in tree.branches
    }
    named = tree.branches.get("file")
    for slot in keys_slots(AnyBlockdevOptions, tree, typed):
        for word in slot.words:
            if word.text != "file=" and not (word.text == "file." and named and named.token):
                words.setdefault(word.text, word.meta.removesuffix(" (needed)"))
    return (Slot("key", "an option", tuple(Word(text, meta) for text, meta in words.items())),)


def _values(tree: Tree, key: str) -> tuple[Slot, ...]:
    if key == "format":
        tags = fields.branches_of(fields.structs_of(AnyBlockdevOptions))
        return (Slot("value", "the image's format", choice_words("format", tags)),)
    if key in fields.members(DriveOptions):
        return slots_of(fields.members(DriveOptions)[key])
    return value_slots(AnyBlockdevOptions, tree, key.split("."))
