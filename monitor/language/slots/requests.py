"""Slots of requests: fields and their values, as ``fields`` reads them, left unfinished."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from monitor.engine.schema.base import Field, Request, tag_field
from monitor.language import fields
from monitor.language.cursor import Cursor
from monitor.language.fields import Tree
from monitor.language.slots.kinds import Place, Slot, choice_words, words_of
from monitor.language.slots.outputs import OUTPUT_SLOT
from monitor.language.syntax import Mistake


def in_request(request: type[Request], cursor: Cursor) -> Place:
    if cursor.json:
        from monitor.language.slots.jsontext import in_json

        return in_json(request, cursor)
    try:
        tree = fields.collect(cursor.arguments)
    except Mistake:
        return Place(cursor.text, cursor.start, ())
    kind = fields.arguments_type(request)
    key, equals, value = cursor.text.partition("=")
    if cursor.key:
        key, value = cursor.key, cursor.text
    elif not equals and cursor.text.startswith("--"):
        if request.qmp_name() != "transaction":
            return Place(cursor.text, cursor.start, (OUTPUT_SLOT,))
        from monitor.language.grouping import FLAGS

        flags = Slot("flag", "how the transaction is carried out", words_of(FLAGS))
        return Place(cursor.text, cursor.start, (flags, OUTPUT_SLOT))
    elif not equals or cursor.quoted:
        return Place(cursor.text, cursor.start, keys_slots(kind, tree, cursor.text))
    start = cursor.start + len(cursor.text) - len(value)
    path = key.split(".")
    return Place(value, start, value_slots(kind, tree, path), quoted=cursor.quoted)


def keys_slots(kind: Any, tree: Tree, typed: str) -> tuple[Slot, ...]:
    """Keys that may be typed below ``kind``: plain ones, and the beginnings of dotted ones."""
    *outer, _ = typed.split(".")
    here, below = _descend(kind, tree, outer)
    prefix = "".join(f"{part}." for part in outer)
    words: dict[str, str] = {}
    required: dict[str, str] = {}
    for member in _members(here, below):
        branch = below.branches.get(member.name)
        if branch is not None and branch.token is not None:
            continue
        into = required if member.required else words
        nested = fields.structs_of(member.type) or fields.element_of(member.type) is not None
        if branch is None and (not nested or member.alternate is not None):
            into[f"{prefix}{member.name}="] = _meta(member)
        if nested:
            into[f"{prefix}{member.name}."] = _meta(member)
    if not required and not words:
        return ()
    return (Slot("key", "a field", words_of(required | words)),)


def _meta(member: Field) -> str:
    what = member.doc or fields.expected(member)
    return f"{what} (needed)" if member.required else what


def value_slots(kind: Any, tree: Tree, path: list[str]) -> tuple[Slot, ...]:
    """What the field ``path`` below ``kind`` may be given."""
    *outer, name = path
    here, below = _descend(kind, tree, outer)
    if fields.element_of(here) is not None:
        found: Field | None = fields.element_field(name, here)
    else:
        found = {member.name: member for member in _members(here, below)}.get(name)
    if found is None:
        return ()
    slots = slots_of(found)
    if any(slot.kind in ("bitmap", "layer") or slot.verb == "below" for slot in slots):
        node = _node_beside(kind, tree, outer)
        slots = tuple(replace(slot, of=node) for slot in slots)
    return slots


def _node_beside(kind: Any, tree: Tree, path: list[str]) -> str:
    """The node or device named beside what ``path`` leads to, or further out; "" for none."""
    for depth in range(len(path), -1, -1):
        here, below = _descend(kind, tree, path[:depth])
        for member in _members(here, below):
            branch = below.branches.get(member.name)
            named = member.names is not None and member.names.kind in ("node", "device", "drive")
            if named and branch is not None and branch.token is not None:
                return branch.token.text
    return ""


def slots_of(member: Field) -> tuple[Slot, ...]:
    """What a field may be given as a plain value."""
    what = member.doc or fields.expected(member)
    if member.choices:
        return (Slot("value", what, choice_words(member.name, member.choices)),)
    if member.names is not None and member.names.kind != "new":
        return (Slot(member.names.kind, what, verb=member.names.verb),)
    if member.alternate is not None:
        arms = fields.arms_of(member.type)
        found = tuple(slot for arm in arms for slot in slots_of(arm) if slot.kind != "free")
        return found or (Slot("free", what),)
    return (Slot("free", what),)


def _descend(kind: Any, tree: Tree, path: list[str]) -> tuple[Any, Tree]:
    """The type at the end of ``path`` and what is typed there so far."""
    here, below = kind, tree
    for part in path:
        element = fields.element_of(here)
        if element is not None:
            here = element
        else:
            member = {m.name: m for m in _members(here, below)}.get(part)
            here = member.type if member is not None else None
        below = below.branches.get(part, Tree())
    return here, below


def _members(kind: Any, tree: Tree) -> list[Field]:
    """The fields of ``kind`` as far as known: without the driver, those that all structs have."""
    structs = fields.structs_of(kind)
    if not structs:
        return []
    tag = tag_field(structs[0])
    chosen = fields.struct_for(kind, tree)
    found = [fields.tag_member(tag, structs)] if tag is not None else []
    if chosen is not None:
        return found + list(fields.members(chosen).values())
    common = set.intersection(*(set(fields.members(struct)) for struct in structs))
    return found + [m for m in fields.members(structs[0]).values() if m.name in common]
