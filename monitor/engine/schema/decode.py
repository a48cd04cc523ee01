"""JSON or option strings -> typed structs, finding the mistake that QEMU finds first.

A struct is visited member by member in schema order: base members first, the discriminator of a
tagged union before anything else, what is left over at the end of each object. The first thing
wrong ends the walk with an error in QEMU's words. The walk of a type is compiled once into
closures, so that decoding a request costs a few microseconds.

Two dialects share the walk. In JSON a number is a number. In option strings (``keyval``) every
scalar is text, and is read as ``on``/``off``, ``0x10``, ``64k``; a value that is no text there
was typed as JSON inside an option string, and is read as JSON.

The mistakes are those of ``schema.mistakes``, and can be imported from here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, TypeVar, get_args, get_origin

import msgspec

from monitor.engine.schema.base import (
    Field,
    Int,
    Request,
    describe,
    fields_of,
    is_struct,
    is_union,
    tag_field,
)
from monitor.engine.schema.mistakes import (
    MissingParameter,
    NestedTooDeeply,
    ParameterError,
    UnacceptedValue,
    UnexpectedParameter,
    UnexpectedParameters,
    WrongParameterType,
    WrongParameterValue,
)
from monitor.engine.schema.scalars import (
    INT64_MAX,
    INT64_MIN,
    UINT64_MAX,
    parse_bool,
    parse_int64,
    parse_size,
    parse_uint64,
)

__all__ = [
    "MissingParameter",
    "NestedTooDeeply",
    "ParameterError",
    "UnacceptedValue",
    "UnexpectedParameter",
    "UnexpectedParameters",
    "WrongParameterType",
    "WrongParameterValue",
    "decode",
]

MAX_NESTING = 300
"""Levels of options. QEMU takes a few more."""

_HOLDERS = (dict, list)

Visitor = Callable[[Any], Any]
S = TypeVar("S", bound=msgspec.Struct)


def decode(
    struct_type: type[S] | Any, value: Any, *, keyval: bool = False, prefix: str = ""
) -> Any:
    """``value`` as a ``struct_type`` (a struct, or a union of tagged structs).

    For a ``Request``, ``value`` is its arguments. ``prefix`` goes before the names in errors.
    Raises ``ParameterError`` and ``NestedTooDeeply``.
    """
    check_nesting(value)
    try:
        return _visitor(struct_type, keyval)(value)
    except ParameterError as error:
        if prefix:
            error.inside(prefix)
        raise
    except RecursionError:
        raise NestedTooDeeply from None


def check_nesting(value: Any) -> None:
    """Raises NestedTooDeeply. Options are walked recursively, and the end of that must not depend
    on the interpreter's."""
    level = [value] if type(value) in _HOLDERS else []
    for _ in range(MAX_NESTING):
        if not level:
            return
        level = [
            member
            for holder in level
            for member in (holder.values() if type(holder) is dict else holder)
            if type(member) in _HOLDERS
        ]
    raise NestedTooDeeply


def _by_last_name(error: ParameterError) -> ParameterError:
    error.by_last_name = True
    return error


# Scalars in JSON


def _string(value: Any) -> str:
    if type(value) is not str:
        raise WrongParameterType(expected="string")
    return value


def _boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise WrongParameterType(expected="boolean")
    return value


def _number(value: Any) -> float:
    if type(value) is not int and type(value) is not float:
        raise WrongParameterType(expected="number")
    return float(value)


def _null(value: Any) -> None:
    if value is not None:
        raise WrongParameterType(expected="null")


def _int64(value: Any) -> int:
    if type(value) is not int or not INT64_MIN <= value <= INT64_MAX:
        raise WrongParameterType(expected="integer")
    return value


def _uint64(value: Any) -> int:
    # Negative numbers wrap, as QEMU has kept it for clients that cannot write large ones.
    if type(value) is not int or not INT64_MIN <= value <= UINT64_MAX:
        raise WrongParameterValue(expected="uint64")
    return value & UINT64_MAX


def _anything(value: Any) -> Any:
    return value


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise WrongParameterType(expected="object")
    return value


# Scalars in option strings


def _from_text(parse: Callable[[str], Any], expected: str, in_json: Visitor) -> Visitor:
    def visit(value: Any) -> Any:
        if type(value) is str:
            parsed = parse(value)
            if parsed is None:
                raise WrongParameterValue(expected=expected)
            return parsed
        if isinstance(value, (dict, list)):
            raise UnexpectedParameters
        return in_json(value)

    return visit


def _text(value: Any) -> str:
    if isinstance(value, (dict, list)):
        raise UnexpectedParameters
    return _string(value)


def _word(value: Any) -> Any:
    """A value of any type, typed as a word: a number, true or false where it looks like one, as
    qmp-shell has it."""
    if type(value) is not str:
        return value
    if value in ("true", "false"):
        return value == "true"
    number = parse_int64(value)
    return value if number is None else number


def _parse_number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value - value == 0 else None  # finite


_KEYVAL_BOOL = _from_text(parse_bool, "'on' or 'off'", _boolean)
_KEYVAL_INT = _from_text(parse_int64, "integer", _int64)
_KEYVAL_UINT = _from_text(parse_uint64, "integer", _uint64)
_KEYVAL_SIZE = _from_text(parse_size, "a size value", _uint64)
_KEYVAL_NUMBER = _from_text(_parse_number, "number", _number)


def _integer(kind: Int, keyval: bool) -> Visitor:
    if kind.qapi in ("int", "int64"):
        return _KEYVAL_INT if keyval else _int64
    if kind.qapi == "size":
        return _KEYVAL_SIZE if keyval else _uint64
    wide = _KEYVAL_UINT if keyval else _uint64
    if kind.qapi == "uint64":
        return wide
    if kind.qapi == "int32":
        return _int32(_KEYVAL_INT if keyval else _int64)
    limit = (1 << int(kind.qapi.removeprefix("uint"))) - 1

    def visit(value: Any) -> int:
        number: int = wide(value)
        if number > limit:
            raise _by_last_name(WrongParameterValue(expected=f"{kind.qapi}_t"))
        return number

    return visit


def _int32(whole: Visitor) -> Visitor:
    def visit(value: Any) -> int:
        number: int = whole(value)
        if not -(1 << 31) <= number < 1 << 31:
            raise _by_last_name(WrongParameterValue(expected="int32_t"))
        return number

    return visit


def _enumeration(choices: tuple[str, ...], keyval: bool) -> Visitor:
    string = _text if keyval else _string
    known = frozenset(choices)

    def visit(value: Any) -> str:
        if string(value) not in known:
            raise _by_last_name(UnacceptedValue(value=value, choices=choices))
        return str(value)

    return visit


# Compound types


def _list(element: Visitor, keyval: bool) -> Visitor:
    place = "{}".format if keyval else "[{}]".format

    def visit(value: Any) -> list[Any]:
        if type(value) is not list:
            raise WrongParameterType(expected="array")
        done: list[Any] = []
        try:
            for item in value:
                done.append(element(item))
        except ParameterError as error:
            error.inside(place(len(done)), element=True)
            raise
        return done

    return visit


Members = Callable[[dict[str, Any], int], Any]


@functools.cache
def _members(struct: type[msgspec.Struct], keyval: bool) -> Members:
    """The walk over the members of ``struct`` in an object of which ``seen`` are already visited.

    The visitors of the members are made at the first walk: options nest in themselves.
    """
    tag = tag_field(struct)

    @functools.cache
    def plan() -> list[tuple[str, str, Visitor, bool]]:
        return [
            (f.name, f.attribute, _field_visitor(f, keyval), f.required) for f in fields_of(struct)
        ]

    def visit(value: dict[str, Any], seen: int) -> Any:
        found: dict[str, Any] = {}
        name = ""
        try:
            for name, attribute, visitor, required in plan():
                if name in value:
                    found[attribute] = visitor(value[name])
                elif required:
                    raise MissingParameter
        except ParameterError as error:
            error.inside(name)
            raise
        if len(found) + seen != len(value):
            raise _unexpected(value, ([tag] if tag else []) + [name for name, *_ in plan()])
        return struct(**found)

    return visit


def _unexpected(value: dict[str, Any], known: list[str]) -> UnexpectedParameter:
    from monitor.engine.schema.order import first_left

    return UnexpectedParameter(first_left(value, known), tuple(known))


def _struct(struct: type[msgspec.Struct], keyval: bool) -> Visitor:
    if issubclass(struct, Request) and struct.flattened:
        attribute = struct.flattened
        (whole,) = (f for f in fields_of(struct) if f.attribute == attribute)
        visit_whole = _field_visitor(whole, keyval)
        return lambda value: struct(**{attribute: visit_whole(value)})
    if tag_field(struct):
        return _tagged((struct,), keyval)
    members = _members(struct, keyval)
    return lambda value: members(_object(value), 0)


@functools.cache
def _tagged(structs: tuple[type[msgspec.Struct], ...], keyval: bool) -> Visitor:
    """A union of structs, told apart by the member that their tag field names."""
    discriminator = structs[0].__struct_config__.tag_field
    if discriminator is None:
        raise TypeError(f"{structs[0].__name__} in a union has no tag field")
    branches = {str(s.__struct_config__.tag): _members(s, keyval) for s in structs}
    choose = _enumeration(tuple(branches), keyval)

    def visit(value: Any) -> Any:
        _object(value)
        try:
            if discriminator not in value:
                raise MissingParameter
            branch = branches[choose(value[discriminator])]
        except ParameterError as error:
            error.inside(discriminator)
            raise
        return branch(value, 1)

    return visit


def _alternate(name: str, arms: tuple[Any, ...], keyval: bool) -> Visitor:
    """A value whose JSON type chooses what it is."""
    by_type: dict[type, Visitor] = {}
    structs = tuple(arm for arm in arms if is_struct(arm))
    if structs:
        tagged = len(structs) > 1 or tag_field(structs[0])
        by_type[dict] = _tagged(structs, keyval) if tagged else _visitor(structs[0], keyval)
    for arm in arms:
        if arm not in structs:
            by_type[_json_type(arm)] = _visitor(arm, keyval)

    def visit(value: Any) -> Any:
        kind = dict if isinstance(value, dict) else type(value)
        visitor = by_type.get(kind)
        if visitor is None:
            raise _by_last_name(WrongParameterType(expected=name))
        return visitor(value)

    return visit


def _json_type(arm: Any) -> type:
    field = describe("", "", arm, required=True)
    if get_origin(field.type) is Literal:
        return str
    kind: type = get_origin(field.type) or field.type
    return kind


def _field_visitor(field: Field, keyval: bool) -> Visitor:
    if field.alternate is not None:
        arms = get_args(field.type) if is_union(field.type) else (field.type,)
        return _alternate(field.alternate.qapi, arms, keyval)
    if field.integer is not None and field.type is int:
        return _integer(field.integer, keyval)
    return _visitor(field.type, keyval)


_JSON_SCALARS: dict[Any, Visitor] = {
    str: _string,
    bool: _boolean,
    int: _int64,
    float: _number,
    type(None): _null,
    Any: _anything,
    dict: _object,
}
_KEYVAL_SCALARS = _JSON_SCALARS | {
    str: _text,
    bool: _KEYVAL_BOOL,
    int: _KEYVAL_INT,
    float: _KEYVAL_NUMBER,
    Any: _word,
}


@functools.cache
def _visitor(kind: Any, keyval: bool) -> Visitor:
    """The walk over a type as it stands in an annotation."""
    scalar = (_KEYVAL_SCALARS if keyval else _JSON_SCALARS).get(get_origin(kind) or kind)
    if scalar is not None:
        return scalar
    if get_origin(kind) is Literal:
        return _enumeration(get_args(kind), keyval)
    if get_origin(kind) is list:
        return _list(_visitor(get_args(kind)[0], keyval), keyval)
    if is_struct(kind):
        return _struct(kind, keyval)
    if is_union(kind) and all(map(is_struct, get_args(kind))):
        return _tagged(get_args(kind), keyval)
    field = describe("", "", kind, required=True)
    if field.type is kind:
        raise TypeError(f"no way to decode {kind!r}")
    return _field_visitor(field, keyval)
