"""What may stand where the cursor is: the second pass (``arguments``, ``fields``), left unfinished.

A ``Place`` has the text to be completed and the slots it may fill; a slot says what kind of thing
goes there, not which of them exist. Every place of the language is one of the kinds below; "free"
is a slot in which anything may be typed, such as a new name or a number.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from monitor.commands.registry import Argument, Command
from monitor.engine.schema.base import Field, Request
from monitor.engine.schema.meanings import meaning
from monitor.language import fields
from monitor.language.arguments import EXPECTED, expected, split_option
from monitor.language.cursor import Cursor, locate
from monitor.language.fields import Tree
from monitor.language.parser import Language
from monitor.language.syntax import Kind, Mistake, Statement, Token


@dataclass(frozen=True, slots=True)
class Word:
    """A word of the language that may stand somewhere, and what it means."""

    text: str
    meta: str = ""


@dataclass(frozen=True, slots=True)
class Slot:
    """``kind`` is "node", "drive", "device", "job" or "bitmap" (that accepts ``verb``; of the node
    ``of``), "snapshot", "export", "object", "variable", "macro", "file" or "free"; with the
    ``words`` that may stand there it is "command", "flag", "key" or "value"."""

    kind: str
    what: str
    words: tuple[Word, ...] = ()
    verb: str = ""
    exclude: frozenset[str] = frozenset()
    of: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """The unfinished ``text``, which begins at offset ``start``, and what it may become.

    ``commas`` says that it lies in an option string, where a comma is typed twice; ``quoted`` that
    it lies in a quoted string, ``json`` that a name is quoted as JSON quotes it.
    """

    text: str
    start: int
    slots: tuple[Slot, ...]
    commas: bool = False
    quoted: bool = False
    json: bool = False


def place_at(text: str, language: Language) -> Place | None:
    """What may stand at the end of ``text``; None where nothing can be said (in a comment)."""
    cursor = locate(text)
    if cursor is None:
        return None
    if cursor.name is None:
        slot = actions_slot(language) if cursor.group else commands_slot(language)
        return Place(cursor.text, cursor.start, (slot,))
    if (cursor.arguments or cursor.text.startswith("--")) and not cursor.json:
        from monitor.language.slots.outputs import in_output

        behind = in_output(cursor)
        if behind is not None:
            return behind
    if cursor.name.text in language.prefixes and not cursor.arguments:
        return Place(cursor.text, cursor.start, (_below(language, cursor.name.text),))
    statement = Statement("", cursor.name, cursor.arguments, cursor.name.start, cursor.start)
    human = language.human.get(cursor.name.text)
    request = language.requests.get(cursor.name.text)
    if human is not None and request is not None and not cursor.arguments and not cursor.json:
        key, equals, _ = cursor.text.partition("=")
        if equals and not cursor.quoted and key.replace("-", "").isalnum():
            return _in_request(request, cursor)
        of_human, of_request = _in_command(human, cursor, language), _in_request(request, cursor)
        return Place(cursor.text, cursor.start, of_human.slots + of_request.slots)
    try:
        what = language.find(statement)
    except Mistake:
        return None
    if isinstance(what, Command):
        return _in_command(what, cursor, language)
    return _in_request(what, cursor)


def commands_slot(language: Language) -> Slot:
    """Everything that a line may begin with; of ``info block`` the first word."""
    words: dict[str, str] = {}
    for name, command in language.human.items():
        first, blank, _ = name.partition(" ")
        if not blank or first not in language.human:
            words.setdefault(first, command.help.split("\n")[0])
    for name, request in language.requests.items():
        words.setdefault(name, summary(request))
    return Slot("command", "a command", words_of(dict(sorted(words.items()))))


def actions_slot(language: Language) -> Slot:
    """What may stand in ``transaction(``."""
    from monitor.engine.schema.transaction import ACTIONS

    words = {
        name: summary(language.requests.get(name) or action)
        for name, action in sorted(ACTIONS.items())
    }
    return Slot("command", "an action of the transaction", words_of(words))


def summary(documented: type) -> str:
    """The first line of a docstring."""
    return (documented.__doc__ or "").strip().split("\n")[0]


CREATED = ("qcow2", "raw")
"""What ``create`` makes."""


def choice_words(field: str, choices: Iterable[str]) -> tuple[Word, ...]:
    """The values of an enumeration, each with what it means."""
    return tuple(Word(choice, meaning(field, choice)) for choice in choices)


def words_of(words: dict[str, str]) -> tuple[Word, ...]:
    return tuple(Word(text, meta) for text, meta in words.items())


def _below(language: Language, prefix: str) -> Slot:
    words = {
        second: language.human[f"{prefix} {second}"].help.split("\n")[0]
        for second in language.below(prefix)
    }
    return Slot("command", f"what to show with {prefix}", words_of(words))


# Human commands


def _in_command(command: Command, cursor: Cursor, language: Language) -> Place:
    arguments = cursor.arguments[command.name.count(" ") :]
    options = {a.option: a for a in command.arguments if a.option}
    given: set[str] = set()
    rest: list[Token] = []
    pending: Argument | None = None
    for token in arguments:
        if pending is not None:
            pending = None
            continue
        word, glued = split_option(token)
        option = options.get(word)
        if option is None:
            rest.append(token)
            continue
        given.add(option.name)
        pending = option if option.kind != "--" and glued is None else None
    if pending is not None:
        return _value_of(command, pending, cursor, language, ())
    key, equals, _ = cursor.text.partition("=")
    if equals and key in options and key.startswith("--") and not cursor.quoted:
        value = Cursor(
            cursor.name, cursor.arguments, cursor.text[len(key) + 1 :], cursor.start + len(key) + 1
        )
        return _value_of(command, options[key], value, language, ())
    flags, positional = _next(command, rest)
    slots: list[Slot] = []
    words = {f: help_of(command, a) for f, a in flags.items()}
    words |= {o: help_of(command, a) for o, a in options.items() if a.name not in given}
    if words and not cursor.quoted:
        slots.append(Slot("flag", "an option", words_of(words)))
    if cursor.text.startswith("--"):
        from monitor.language.slots.outputs import OUTPUT_SLOT

        slots.append(OUTPUT_SLOT)
    if positional is None or (cursor.text.startswith("-") and slots):
        return Place(cursor.text, cursor.start, tuple(slots))
    taken = tuple(token.whole for token in rest) if positional.many else ()
    place = _value_of(command, positional, cursor, language, taken)
    return Place(
        place.text, place.start, place.slots + tuple(slots), place.commas, place.quoted
    )  # fmt: skip


def _next(command: Command, tokens: list[Token]) -> tuple[dict[str, Argument], Argument | None]:
    """The flags and the positional argument that may follow ``tokens``."""
    arguments = [a for a in command.arguments if not a.option]
    at = 0
    flags: dict[str, Argument] = {}
    for index, argument in enumerate(arguments):
        if argument.flag is not None:
            flags[argument.kind] = argument
            following = arguments[index + 1] if index + 1 < len(arguments) else None
            if following is not None and following.flag is not None:
                continue
            while at < len(tokens) and tokens[at].kind is Kind.WORD and tokens[at].text[0] == "-":
                for letter in tokens[at].text[1:]:
                    flags.pop(f"-{letter}", None)
                at += 1
            if at == len(tokens):
                return flags, following
            flags = {}
        elif argument.many or argument.kind in ("S", "K") or at == len(tokens):
            return {}, argument
        else:
            at += 1
    return {}, None


def help_of(command: Command, argument: Argument) -> str:
    """A few words on an argument."""
    told = command.arguments_help.get(argument.name)
    return told if told is not None else argument.name.replace("_", " ")


_NAMED = {"B": "device", "N": "node", "D": "drive", "J": "job", "F": "file", "X": "export"}


def _value_of(
    command: Command, argument: Argument, cursor: Cursor, language: Language, taken: tuple[str, ...]
) -> Place:
    kind = argument.kind
    if kind == "O":
        from monitor.language.slots.optionstrings import in_option_string

        return in_option_string(cursor, creating=argument.verb == "create")
    if argument.verb == "qemu-io":
        from monitor.language.slots.qemuio import in_io_command

        return in_io_command(cursor)
    what = f"{help_of(command, argument)}: {expected(argument)}"
    if argument.verb == "command":
        slots: tuple[Slot, ...] = _commands_by_name(language, cursor)
    elif argument.verb in ("variable", "value"):
        from monitor.language.slots.settings import of_settings

        slots = of_settings(argument, cursor, what)
    elif argument.verb == "macro":
        slots = (Slot("macro", what),)
    elif argument.verb == "format":
        slots = (Slot("value", what, choice_words("format", CREATED)),)
    elif kind in _NAMED or argument.verb in ("file", "snapshot"):
        named = _NAMED.get(kind, argument.verb)
        slots = (Slot(named, what, verb=argument.verb, exclude=frozenset(taken)),)
        if argument.choices:
            slots += (Slot("value", what, choice_words(argument.name, argument.choices)),)
    elif kind == "b":
        slots = (Slot("value", what, choice_words(argument.name, ("on", "off"))),)
    elif kind == "e":
        slots = (Slot("value", what, choice_words(argument.name, argument.choices)),)
    else:
        slots = (Slot("free", what),)
    return Place(cursor.text, cursor.start, slots, quoted=cursor.quoted)


def _commands_by_name(language: Language, cursor: Cursor) -> tuple[Slot, ...]:
    """What ``help`` takes: a command, or its two words."""
    before = [token.text for token in cursor.arguments]
    if not before:
        from monitor.commands.topics import TOPICS

        topics = words_of({name: title for name, (title, _) in TOPICS.items()})
        return (commands_slot(language), Slot("value", "a topic", topics))
    if len(before) == 1 and before[0] in language.prefixes:
        return (_below(language, before[0]),)
    return (Slot("free", EXPECTED["S"]),)


# Requests


def _in_request(request: type[Request], cursor: Cursor) -> Place:
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
        from monitor.language.slots.outputs import OUTPUT_SLOT

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
    if any(slot.kind == "bitmap" for slot in slots):
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
    tag = fields.tag_field(structs[0])
    chosen = fields.struct_for(kind, tree)
    found = [fields.tag_member(tag, structs)] if tag is not None else []
    if chosen is not None:
        return found + list(fields.members(chosen).values())
    common = set.intersection(*(set(fields.members(struct)) for struct in structs))
    return found + [m for m in fields.members(structs[0]).values() if m.name in common]
