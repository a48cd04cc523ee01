"""Every place of every declared command and request offers something, or is declared free."""

from __future__ import annotations

from typing import Any

import pytest

from monitor.commands.registry import Argument, Command, commands
from monitor.engine.schema.base import Request, fields_of, request_types, tag_field
from monitor.engine.schema.meanings import meaning
from monitor.language import fields
from monitor.language.completion import whole_language
from monitor.language.slots.kinds import Place, Slot
from monitor.language.slots.places import place_at
from monitor.language.variables import Scope

LISTED = {"command", "flag", "key", "value"}
NAMED = {
    "node",
    "drive",
    "device",
    "job",
    "bitmap",
    "snapshot",
    "export",
    "object",
    "file",
    "layer",
    "variable",
    "macro",
}


def slots(text: str) -> tuple[Slot, ...]:
    place = place_at(text, whole_language())
    assert isinstance(place, Place), text
    return place.slots


def assert_typed(text: str, found: tuple[Slot, ...]) -> None:
    """Each slot has words, is of a kind that the catalogue knows, or is free and says for what."""
    assert found, text
    for slot in found:
        assert slot.what, text
        assert slot.kind in NAMED or slot.kind == "free" or (slot.kind in LISTED and slot.words)


WORDS = {
    "B": "d0", "N": "n0", "D": "d0", "J": "j0", "F": "a.img", "s": "x", "S": "x", "i": "1",
    "o": "1", "z": "1", "b": "on", "T": "1", "O": "if=none", "K": "a=1", "X": "e0",
}  # fmt: skip


def word_for(argument: Argument) -> str:
    return argument.choices[0] if argument.kind == "e" else WORDS[argument.kind]


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_argument_of_every_command(name: str) -> None:
    command = commands()[name]
    line = f"{name} "
    for argument in positionals(command):
        found = slots(line)
        assert_typed(line, found)
        expected = {
            "B": "device", "N": "node", "D": "drive", "J": "job", "F": "file", "X": "export",
        }  # fmt: skip
        kind = "layer" if argument.verb == "layer" else expected.get(argument.kind)
        if kind is not None:
            assert kind in [slot.kind for slot in found], line
        line += f"{word_for(argument)} "
    dashed = [a.option or a.flag for a in command.arguments if a.option or a.flag]
    if dashed:
        offered = {word.text for slot in slots(f"{name} -") for word in slot.words}
        assert offered >= set(dashed)
    for option in command.arguments:
        if option.option and option.kind != "--":
            line = f"{name} {option.option} "
            assert_typed(line, slots(line))


def positionals(command: Command) -> list[Argument]:
    return [a for a in command.arguments if not a.option and not a.flag]


@pytest.mark.parametrize("name", sorted(request_types()))
def test_every_field_of_every_request(name: str) -> None:
    request = request_types()[name]
    kind = fields.arguments_type(request)
    assert_keys(f"{name} ", "", kind, request, depth=0)


def assert_keys(line: str, prefix: str, kind: Any, request: type[Request], depth: int) -> None:
    """All keys of ``kind`` are offered below ``prefix``, and each has typed values."""
    structs = fields.structs_of(kind)
    for struct in structs:
        tag = tag_field(struct)
        chosen = line
        if tag is not None:
            value = struct.__struct_config__.tag
            values = {w.text for s in slots(f"{line}{prefix}{tag}=") for w in s.words}
            assert (value in values) == getattr(struct, "offered", True)
            chosen = f"{line}{prefix}{tag}={value} "
        members = fields.members(struct)
        if not members:
            continue
        offered = {word.text for slot in slots(chosen + prefix) for word in slot.words}
        for member in members.values():
            nested = fields.structs_of(member.type)
            assert offered & {f"{prefix}{member.name}=", f"{prefix}{member.name}."}, chosen
            if f"{prefix}{member.name}=" in offered:
                text = f"{chosen}{prefix}{member.name}="
                assert_typed(text, slots(text))
            if nested and depth < 1:
                assert_keys(chosen, f"{prefix}{member.name}.", member.type, request, depth + 1)


@pytest.mark.parametrize("name", sorted(request_types()))
def test_every_request_and_command_is_offered_by_name(name: str) -> None:
    words = {word.text for slot in slots("") for word in slot.words}
    assert name in words


def test_every_command_is_offered_by_name() -> None:
    words = {word.text for slot in slots("") for word in slot.words}
    prefixes = {name.split()[0] for name in commands() if " " in name}
    assert prefixes == whole_language().prefixes == {"bitmap", "info"}
    below = {
        f"{prefix} {word.text}"
        for prefix in prefixes
        for slot in slots(f"{prefix} ")
        for word in slot.words
    }
    assert set(commands()) <= words | below


def test_examples_are_commands() -> None:
    """What help shows can be typed."""
    language = whole_language()
    for command in commands().values():
        assert language.parse_script(command.example, "example", scope=Scope())
    for request in request_types().values():
        if request.example:
            assert language.parse_script(request.example, "example")


def test_every_value_of_an_enumeration_says_what_it_means() -> None:
    """A value without a word of description leaves a person guessing."""
    queue: list[Any] = list(request_types().values())
    seen, silent = set(queue), set()
    while queue:
        for member in fields_of(queue.pop()):
            if member.name == "backing-fmt":
                continue  # formats of QEMU's that are names here and nothing else
            silent |= {(member.name, c) for c in member.choices if not meaning(member.name, c)}
            below = set(fields.structs_of(member.type)) - seen
            seen |= below
            queue += below
            for struct in below:
                field, tag = tag_field(struct), str(struct.__struct_config__.tag)
                if field is not None and not meaning(field, tag):
                    silent.add((field, tag))
    assert silent == set()


def test_a_mirror_is_offered_the_modes_that_it_has() -> None:
    for name in ("drive-mirror", "blockdev-mirror"):
        offered = [word.text for slot in slots(f"{name} device=d0 sync=") for word in slot.words]
        assert offered == ["top", "full", "none"]
