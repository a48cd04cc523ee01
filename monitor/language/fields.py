"""The second pass for requests: ``FIELD=VALUE`` words -> a typed request.

Requests are typed as users of qmp-shell know them: dotted keys for nested options
(``file.filename=a.img``, ``children.0=n0`` in a list), JSON where a value begins with ``{`` or
``[``, or all arguments as one JSON object. Integers take units here (``speed=1M``).

The words become a tree of nested keys; integers are read where the schema has them; the schema's
decoder does the rest. What it refuses, ``diagnosis`` explains.
"""

from __future__ import annotations

import functools
from typing import Any, Literal, get_args, get_origin

import msgspec

from monitor import sizes
from monitor.engine.schema.base import Field, Request, describe, fields_of, tag_field
from monitor.engine.schema.decode import ParameterError, decode
from monitor.engine.schema.scalars import parse_int64
from monitor.language.scanner import MAX_DEPTH
from monitor.language.syntax import Kind, Mistake, NoField, Span, Statement, Token, one_of


class Tree(msgspec.Struct):
    """Values by key, as typed: a branch for each dotted key, a token at each leaf."""

    token: Token | None = None
    key: Span = (0, 0)
    branches: dict[str, Tree] = msgspec.field(default_factory=dict)

    def values(self) -> Any:
        """What the decoder reads: text, JSON, dicts, and lists where all keys are numbers."""
        token = self.token
        if token is not None:
            return token.data if token.kind is Kind.JSON else token.text
        values = {name: branch.values() for name, branch in self.branches.items()}
        if "0" in values and set(values) == {str(index) for index in range(len(values))}:
            return [values[str(index)] for index in range(len(values))]
        return values

    def spans(self, prefix: str = "") -> dict[str, Span]:
        """The place of each value by its full name."""
        found: dict[str, Span] = {}
        for name, branch in self.branches.items():
            path = f"{prefix}.{name}" if prefix else name
            if branch.token is not None:
                found[path] = branch.token.span
            found.update(branch.spans(path))
        return found


def collect(tokens: list[Token]) -> Tree:
    """The tree of ``key=value`` words. Raises ``Mistake``."""
    root = Tree()
    for token in tokens:
        key, value = _split(token)
        if not key:
            raise NoField(token.span, f"'{token.whole}' has no field", expected="FIELD=VALUE")
        _plant(root, key, value, token)
    return root


def _split(token: Token) -> tuple[str, Token]:
    if token.key:
        return token.key, token._replace(start=token.start + len(token.key) + 1, key="")
    key, equals, text = token.text.partition("=") if token.kind is Kind.WORD else ("", "", "")
    if not equals:
        return "", token
    return key, Token(Kind.WORD, text, token.start + len(key) + 1, token.end)


def _plant(root: Tree, key: str, value: Token, token: Token) -> None:
    if key.count(".") >= MAX_DEPTH:
        raise Mistake((token.start, token.start + len(key)), "this is nested too deeply")
    if "." not in key and key not in root.branches and key:  # nearly always
        root.branches[key] = Tree(value, (token.start, token.start + len(key)))
        return
    here = root
    start = token.start
    for part in key.split("."):
        span = (start, start + len(part))
        start += len(part) + 1
        if not part:
            raise Mistake((token.start, token.start + len(key)), f"'{key}' has an empty part")
        if here.token is not None:
            whole = key[: span[0] - token.start - 1]
            raise Mistake(
                (token.start, token.start + len(key)),
                f"'{whole}' already has a value, so '{key}' cannot be set",
            )
        here = here.branches.setdefault(part, Tree(key=span))
    place = (token.start, token.start + len(key))
    if here.token is not None:
        raise Mistake(place, f"'{key}' is given twice")
    if here.branches:
        below = next(iter(here.branches))
        raise Mistake(place, f"'{key}.{below}' is set already, so '{key}' takes no value")
    here.token = value


def read_request(
    request_type: type[Request], statement: Statement
) -> tuple[Request, dict[str, Span]]:
    """The request that ``statement`` asks for, and the places of its values by full name.

    Raises ``Mistake``.
    """
    tokens = statement.arguments
    if len(tokens) == 1 and tokens[0].kind is Kind.JSON and not tokens[0].key:
        return _from_json(request_type, tokens[0], statement)
    tree = collect(tokens)
    spans = tree.spans()
    _read_words(arguments_type(request_type), tree)
    try:
        return decode(request_type, tree.values(), keyval=True), spans
    except ParameterError as error:
        raise _diagnosis(error, request_type, tree, statement) from None


def _from_json(
    request_type: type[Request], token: Token, statement: Statement
) -> tuple[Request, dict[str, Span]]:
    if not isinstance(token.data, dict):
        raise Mistake(token.span, "the arguments are no object", expected="'{'")
    try:
        return decode(request_type, token.data), {}
    except ParameterError as error:
        raise _diagnosis(error, request_type, Tree(token), statement) from None


def _diagnosis(
    error: ParameterError, request_type: type[Request], tree: Tree, statement: Statement
) -> Mistake:
    from monitor.language.diagnosis import diagnose

    return diagnose(error, arguments_type(request_type), tree, statement)


# Words that are no text


def arguments_type(request_type: type[Request]) -> Any:
    """What a request's arguments fill: the request, or the one struct that they are as a whole."""
    if request_type.flattened:
        (whole,) = (f for f in fields_of(request_type) if f.attribute == request_type.flattened)
        return whole.type
    return request_type


def _read_words(kind: Any, tree: Tree) -> None:
    """Replaces texts by numbers wherever the schema has an integer (what is none stays text, which
    the decoder refuses), and ``null`` by null where that is a value (``backing=null``)."""
    struct = struct_for(kind, tree)
    if struct is None:
        return
    known = members(struct)
    for name, branch in tree.branches.items():
        member = known.get(name)
        if member is None:
            continue
        token = branch.token
        if token is None:
            _read_words(member.type, branch)
        elif member.integer is not None and token.kind is Kind.WORD:
            number = read_integer(member, token.text)
            if number is not None:
                branch.token = token._replace(kind=Kind.JSON, data=number)
        elif token.kind is Kind.WORD and token.text == "null" and takes_null(member):
            branch.token = token._replace(kind=Kind.JSON, data=None)


def takes_null(member: Field) -> bool:
    """Whether null is a value of the field, other than leaving it out."""
    return member.nullable or type(None) in get_args(member.type)


def read_integer(member: Field, text: str) -> int | None:
    """The value of an integer field as typed: a number, perhaps with a unit."""
    number = parse_int64(text)
    return number if number is not None else sizes.read_size(text)


@functools.cache
def members(struct: type[msgspec.Struct]) -> dict[str, Field]:
    """The fields of ``struct`` by name."""
    return {member.name: member for member in fields_of(struct)}


def only_field(request_type: type[Request]) -> str | None:
    """The one field that a request must have, a text: for a word that was typed without one."""
    needed = [(name, field.type) for name, field in members(request_type).items() if field.required]
    return needed[0][0] if len(needed) == 1 and needed[0][1] is str else None


@functools.cache
def structs_of(kind: Any) -> tuple[type[msgspec.Struct], ...]:
    """The structs among the arms of a type (of a list's elements)."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return (kind,)
    if get_origin(kind) in (list, dict) or not get_args(kind):
        return ()
    return tuple(struct for arm in get_args(kind) for struct in structs_of(_plain(arm)))


def _plain(arm: Any) -> Any:
    return describe("", "", arm, required=True).type


def element_of(kind: Any) -> Any:
    """The type of a list's elements; None for what is no list."""
    return _plain(get_args(kind)[0]) if get_origin(kind) is list else None


def struct_for(kind: Any, tree: Tree) -> type[msgspec.Struct] | None:
    """Which struct of ``kind`` the words below ``tree`` fill, by their ``driver``."""
    structs = structs_of(kind)
    if not structs:
        return None
    tag = tag_field(structs[0])
    if tag is None:
        return structs[0]
    chosen = tree.branches.get(tag)
    if chosen is None or chosen.token is None:
        return None
    return branches_of(structs).get(chosen.token.text)


@functools.cache
def arms_of(kind: Any) -> tuple[Field, ...]:
    """The ways of giving a value that is told apart by its JSON type, structs left out."""
    arms = [describe("", "", arm, required=True) for arm in get_args(kind)]
    return tuple(arm for arm in arms if not structs_of(arm.type) and arm.type is not type(None))


def element_field(name: str, kind: Any) -> Field:
    """An element of a list as a field, called ``name``."""
    return describe(name, name, get_args(kind)[0], required=True)


@functools.cache
def tag_member(tag: str, structs: tuple[type[msgspec.Struct], ...]) -> Field:
    """The member that chooses among ``structs``, those that a person may want."""
    offered = tuple(struct for struct in structs if getattr(struct, "offered", True))
    return describe(tag, tag, Literal[tuple(branches_of(offered))], required=True)


def image_formats() -> dict[str, type[msgspec.Struct]]:
    """What an image can be created as."""
    from monitor.engine.schema.blockdev import AnyCreateOptions

    return branches_of(structs_of(AnyCreateOptions))


@functools.cache
def branches_of(
    structs: tuple[type[msgspec.Struct], ...],
) -> dict[str, type[msgspec.Struct]]:
    """Structs by tag."""
    return {str(struct.__struct_config__.tag): struct for struct in structs}


def expected(member: Field) -> str:
    """In words, what a field takes."""
    if member.choices:
        return one_of(member.choices)
    if member.integer is not None:
        return sizes.EXPECTED if member.integer.qapi in ("size", "int") else "a whole number"
    if member.names is not None:
        return {
            "node": "a node",
            "drive": "a drive",
            "device": "a drive or a node",
            "job": "a job",
            "bitmap": "a bitmap",
            "export": "an export",
            "object": "an object",
            "snapshot": "an internal snapshot",
            "file": "a file name",
            "layer": "a backing file",
            "new": "a new name",
        }[member.names.kind]
    if structs_of(member.type):
        return member.doc if member.alternate is not None and member.doc else "options"
    return "text"
