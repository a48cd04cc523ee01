"""What is wrong with a typed request, for the person who typed it.

QEMU looks for what is missing before it looks for what is too much, and stops at the first thing;
QMP keeps to that. Whoever mistypes a key wants to hear of the key. So where the decoder refuses a
typed request, it is gone through once more here: unknown options, values that cannot be, and last
what is missing, each at its place. What only the decoder knows is told in its words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from monitor import sizes
from monitor.engine.schema.base import Field, tag_field
from monitor.engine.schema.mistakes import (
    ParameterError,
    WrongParameterType,
    WrongParameterValue,
)
from monitor.engine.schema.scalars import parse_bool
from monitor.language.fields import (
    Tree,
    arms_of,
    element_field,
    element_of,
    expected,
    members,
    read_integer,
    struct_for,
    structs_of,
    tag_member,
)
from monitor.language.syntax import Kind, Mistake, Span, Statement, Token, one_of
from monitor.nearest import nearest, suggestion

_LONG = 8
"""More options than this are not listed beside a suggestion."""


def diagnose(error: ParameterError, kind: Any, tree: Tree, statement: Statement) -> Mistake:
    """All that is wrong with the words in ``tree``, which were to fill a ``kind``: the first
    mistake, with the ``others``. Without any finding it is ``error``, the decoder's."""
    _open_json(tree)
    findings = _Findings(statement)
    findings.struct(kind, tree, "")
    found = sorted(findings.wrong, key=lambda mistake: mistake.span) + findings.missing
    if not found:
        return _by_decoder(error, tree, statement)
    found[0].others = found[1:]
    return found[0]


@dataclass
class _Findings:
    """The mistakes met on the way through the tree."""

    statement: Statement
    wrong: list[Mistake] = field(default_factory=list)
    missing: list[Mistake] = field(default_factory=list)

    def struct(self, kind: Any, tree: Tree, prefix: str) -> None:
        """The options below ``tree``; ``prefix`` is what stands before their names."""
        structs = structs_of(kind)
        if not structs:
            return
        known = _known(kind, structs, tree)
        meant = set()
        for name, branch in tree.branches.items():
            member = known.get(name)
            if member is not None:
                self.value(member, branch, prefix + name)
                continue
            meant.add(nearest(name, known))
            self.wrong.append(_unknown(name, prefix, branch, tree, known))
        needed = _needed(kind, structs, tree)
        for member in needed:
            if member.name not in tree.branches and member.name not in meant:
                self._lacks(member, prefix, tree)

    def value(self, member: Field, branch: Tree, path: str) -> None:
        """What was given for the option ``path``."""
        if not branch.branches:
            if branch.token is not None:
                mistake = _scalar(member, branch.token, path)
                self.wrong += [mistake] if mistake is not None else []
            return
        if element_of(member.type) is not None:
            for name, below in branch.branches.items():
                self.value(element_field(name, member.type), below, f"{path}.{name}")
        elif structs_of(member.type):
            self.struct(member.type, branch, f"{path}.")
        elif _is_plain(member):
            self.wrong.append(
                Mistake(
                    _key(branch), f"'{path}' has no options of its own", expected=expected(member)
                )
            )

    def _lacks(self, member: Field, prefix: str, tree: Tree) -> None:
        whole = tree.token
        end = self.statement.end
        span = (end, end + 1) if whole is None else (whole.end - 1, whole.end)
        name = f"{prefix}{member.name}"
        typed = f"{name}=" if whole is None else f'"{member.name}":'
        self.missing.append(
            Mistake(span, f"'{name}' is missing", expected=f"{typed} with {expected(member)}")
        )


def _known(kind: Any, structs: tuple[type[msgspec.Struct], ...], tree: Tree) -> dict[str, Field]:
    """The options that there are; while it is open of which driver, those of all of them."""
    tag = tag_field(structs[0])
    found = {tag: tag_member(tag, structs)} if tag is not None else {}
    chosen = struct_for(kind, tree)
    for struct in structs if chosen is None else (chosen,):
        for name, member in members(struct).items():
            found.setdefault(name, member)
    return found


def _needed(kind: Any, structs: tuple[type[msgspec.Struct], ...], tree: Tree) -> list[Field]:
    tag = tag_field(structs[0])
    first = [tag_member(tag, structs)] if tag is not None else []
    chosen = struct_for(kind, tree)
    return first + [m for m in members(chosen).values() if m.required] if chosen else first


def _unknown(name: str, prefix: str, branch: Tree, tree: Tree, known: dict[str, Field]) -> Mistake:
    hint = suggestion(name, known) or _one_level_down(name, prefix, known.values())
    left = [other for other in known if other not in tree.branches]
    return Mistake(
        _key(branch),
        f"unknown option '{prefix}{name}'",
        expected="" if not left or (hint and len(left) > _LONG) else one_of(left),
        hint=hint,
    )


def _one_level_down(name: str, prefix: str, known: Iterable[Field]) -> str | None:
    """``filename`` was meant for ``file.filename``."""
    for member in known:
        if any(name in members(struct) for struct in structs_of(member.type)):
            return f"did you mean '{prefix}{member.name}.{name}'?"
    return None


def _is_plain(member: Field) -> bool:
    return bool(member.choices or member.integer) or member.type in (str, float)


def _scalar(member: Field, token: Token, path: str) -> Mistake | None:
    """The mistake in a value that has no parts; None for none."""
    typed = token.kind is not Kind.JSON
    if not typed and not isinstance(token.data, str):
        return None  # the decoder knows JSON's types
    text = token.text if typed else token.data
    if member.integer is not None:
        return (
            _no_integer(member, token, path)
            if typed and read_integer(member, text) is None
            else None
        )
    if member.type is bool:
        return _no_value(token, text, path, ()) if typed and parse_bool(text) is None else None
    choices = member.choices
    if member.alternate is not None:
        arms = arms_of(member.type)
        if not arms or not all(arm.choices and arm.type is not bool for arm in arms):
            return None
        choices = tuple(choice for arm in arms for choice in arm.choices)
    if choices:
        return _no_value(token, text, path, choices) if text not in choices else None
    if structs_of(member.type):
        below = members(structs_of(member.type)[0])
        example = f"options, such as {path}.{next(iter(below))}="
        return Mistake(_visible(token), f"'{path}' takes no value of its own", expected=example)
    return None


def _no_value(token: Token, text: str, path: str, choices: tuple[str, ...]) -> Mistake:
    return Mistake(
        _visible(token),
        f"'{text}' is no value for '{path}'",
        expected=one_of(choices) if choices else "on or off",
        hint=suggestion(text, choices),
    )


def _no_integer(member: Field, token: Token, path: str) -> Mistake:
    """The value of an integer option is none."""
    at = sizes.bad_unit(token.text)
    if at is not None:
        return Mistake(
            (token.start + at, token.end),
            f"unknown unit '{token.text[at:]}' in '{path}'",
            expected=sizes.EXPECTED,
            hint="units are b, k, M, G, T, P and E",
        )
    return Mistake(
        _visible(token), f"'{token.text}' is no number for '{path}'", expected=expected(member)
    )


def _visible(token: Token) -> Span:
    """The place of a value; of an empty one, the ``=`` before it."""
    return (token.start, token.end) if token.end > token.start else (token.start - 1, token.start)


def _key(branch: Tree) -> Span:
    if branch.key[1]:
        return branch.key
    assert branch.token is not None  # an element of a list in JSON has no key
    return branch.token.span


# JSON among the words


def _open_json(tree: Tree) -> None:
    """Gives objects and lists typed as JSON branches with their places, as dotted keys have."""
    token = tree.token
    if token is not None and token.kind is Kind.JSON and isinstance(token.data, (dict, list)):
        from monitor.language import grammar

        places = {
            name: ((key[0] + token.start, key[1] + token.start),
                   (value[0] + token.start, value[1] + token.start))
            for name, (key, value) in grammar.places(token.text).items()
        }  # fmt: skip
        _plant(tree, token.data, "", places)
        return
    for branch in tree.branches.values():
        _open_json(branch)


def _plant(tree: Tree, data: Any, path: str, places: dict[str, tuple[Span, Span]]) -> None:
    items: Iterator[tuple[str, Any]] = iter(())
    if isinstance(data, dict):
        items = iter(data.items())
    elif isinstance(data, list):
        items = ((str(index), value) for index, value in enumerate(data))
    for name, value in items:
        inner = f"{path}.{name}" if path else name
        key, (start, end) = places[inner]
        branch = Tree(Token(Kind.JSON, str(value), start, end, data=value), key)
        tree.branches[name] = branch
        _plant(branch, value, inner, places)


# In the decoder's words

_TYPES = {
    "string": "text",
    "boolean": "on or off",
    "integer": "a whole number",
    "number": "a number",
    "object": "options: nested keys, or JSON in {…}",
    "array": "a list: JSON in […]",
    "null": "null",
    "'on' or 'off'": "on or off",
    "size": sizes.EXPECTED,
}


def _by_decoder(error: ParameterError, tree: Tree, statement: Statement) -> Mistake:
    """The decoder's error under the parameter it is about, or the innermost thing around it."""
    here = tree
    for part in error.path.replace("[", ".").replace("]", "").split("."):
        if part not in here.branches:
            break
        here = here.branches[part]
    if here.token is not None:
        span = _visible(here.token)
    else:
        span = here.key if here.key[1] else statement.name.span
    told = ""
    if isinstance(error, (WrongParameterType, WrongParameterValue)):
        told = _TYPES.get(error.expected, "")
    return Mistake(span, error.text, expected=told)
