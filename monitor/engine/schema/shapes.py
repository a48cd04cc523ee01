"""The structs of the schema as ``query-qmp-schema`` shows them: SchemaInfo, made from annotations.

Types are numbered in the order in which they are first met, as QEMU has it, whose clients must not
rely on the names of types. Objects, enumerations and alternates are equal when their declarations
are the same struct, choices or union; the empty object is one type.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import UNSET, UnsetType

from monitor.engine.schema.base import (
    OWN_EVENTS,
    Field,
    Options,
    Request,
    Result,
    describe,
    fields_of,
    is_struct,
    is_union,
    request_types,
    tag_field,
)
from monitor.engine.schema.events import EventData, event_types
from monitor.engine.schema.introspect import (
    JsonType,
    SchemaAlternate,
    SchemaArm,
    SchemaArray,
    SchemaBuiltin,
    SchemaCommand,
    SchemaEnum,
    SchemaEnumMember,
    SchemaEvent,
    SchemaInfo,
    SchemaMember,
    SchemaObject,
    SchemaVariant,
)

Structs = tuple[type[msgspec.Struct], ...]

_BUILTINS: dict[Any, tuple[str, JsonType]] = {
    str: ("str", "string"),
    bytes: ("str", "string"),  # base64
    bool: ("bool", "boolean"),
    int: ("int", "int"),
    float: ("number", "number"),
    type(None): ("null", "null"),
    Any: ("any", "value"),
}


@dataclass(frozen=True)
class CommandShape:
    """A command: the struct of its arguments and the type of its answer (None: nothing)."""

    name: str
    arguments: Any
    returns: Any = None
    features: tuple[str, ...] = ()


def command_shape(request: type[Request]) -> CommandShape:
    arguments: Any = request
    if request.flattened:
        arguments = next(f.type for f in fields_of(request) if f.attribute == request.flattened)
    return CommandShape(request.qmp_name(), arguments, request.returns, request.features)


@functools.cache
def engine_schema() -> tuple[SchemaInfo, ...]:
    """Everything that an engine takes and reports."""
    shapes = (command_shape(request) for request in request_types().values())
    qemus = [event for name, event in event_types().items() if not name.startswith(OWN_EVENTS)]
    return tuple(schema_of(shapes, qemus))


def schema_of(
    commands: Iterable[CommandShape], events: Iterable[type[EventData]] = (), prefix: str = ""
) -> list[SchemaInfo]:
    """These commands and events, then the types that they need. ``prefix`` goes before the
    numbers of types, so that a second list can be put behind a first."""
    shapes = _Shapes(prefix)
    entries: list[SchemaInfo] = [
        SchemaCommand(
            name=command.name,
            arg_type=shapes.of(command.arguments),
            ret_type=shapes.of(command.returns) if command.returns else shapes.empty(),
            features=_features(command.features),
        )
        for command in commands
    ]
    entries += [SchemaEvent(name=event.event_name(), arg_type=shapes.of(event)) for event in events]
    return entries + list(shapes.types.values())


def _features(names: tuple[str, ...]) -> list[str] | UnsetType:
    return list(names) or UNSET


class _Shapes:
    """The types met so far, by name."""

    def __init__(self, prefix: str) -> None:
        self.types: dict[str, SchemaInfo] = {}
        self._prefix = prefix
        self._names: dict[Any, str] = {}

    def of(self, kind: Any) -> str:
        """The name of the type of an annotation."""
        kind = describe("", "", kind, required=True).type
        if kind in _BUILTINS:
            name, json_type = _BUILTINS[kind]
            self.types.setdefault(name, SchemaBuiltin(name=name, json_type=json_type))
            return name
        if get_origin(kind) is list:
            return self._array(get_args(kind)[0])
        if get_origin(kind) is Literal:
            return self._enumeration(get_args(kind))
        if get_origin(kind) in (Union, types.UnionType):
            return self._union(get_args(kind))
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return self._union((kind,)) if _tag_field(kind) else self._object(kind)
        raise TypeError(f"QMP has no type for {kind!r}")

    def empty(self) -> str:
        return self._plain("empty", Result, ())

    def _number(self, key: Any) -> tuple[str, bool]:
        """The name of the type that ``key`` stands for, and whether it is a new one."""
        known = key in self._names
        return self._names.setdefault(key, f"{self._prefix}{len(self._names)}"), not known

    def _of_member(self, field: Field) -> str:
        if field.alternate is not None:
            arms = get_args(field.type) if is_union(field.type) else (field.type,)
            return self._alternate(field.alternate.qapi, arms)
        return self.of(field.type)

    def _array(self, element: Any) -> str:
        inner = self._of_member(describe("", "", element, required=True))
        name = f"[{inner}]"
        self.types.setdefault(name, SchemaArray(name=name, element_type=inner))
        return name

    def _enumeration(self, choices: tuple[str, ...]) -> str:
        name, new = self._number(("enum", frozenset(choices)))
        if new:
            members = [SchemaEnumMember(name=choice) for choice in choices]
            self.types[name] = SchemaEnum(name=name, members=members, values=list(choices))
        return name

    def _object(self, struct: type[msgspec.Struct]) -> str:
        return self._plain(struct, struct, fields_of(struct))

    def _plain(self, key: Any, struct: type[msgspec.Struct], fields: tuple[Field, ...]) -> str:
        """An object with some of a struct's members; of those without any there is only one."""
        features = _own_features(struct)
        name, new = self._number(key if fields or features else "empty")
        if new:
            self.types[name] = entry = SchemaObject(name=name, members=[])
            entry.features = _features(features)
            entry.members = [self._member(struct, field) for field in fields]
        return name

    def _union(self, structs: Structs) -> str:
        """Structs told apart by their tag: what they all have, then what each has of its own."""
        name, new = self._number(("union", structs))
        if new:
            tag, base = _tag_field(structs[0]), _base(structs)
            if tag is None:
                raise TypeError(f"{structs[0].__name__} in a union has no tag")
            self.types[name] = entry = SchemaObject(name=name, members=[], tag=tag)
            cases = {str(struct.__struct_config__.tag): struct for struct in structs}
            shared = fields_of(base)
            values = tuple(dict.fromkeys((*cases, *getattr(base, "bare_cases", ()))))
            entry.members = [
                SchemaMember(name=tag, type=self._enumeration(values)),
                *(self._member(base, field) for field in shared),
            ]
            entry.variants = [
                SchemaVariant(case=case, type=self._variant(struct, shared))
                for case, struct in cases.items()
            ]
            bare = (value for value in values if value not in cases)
            entry.variants += [SchemaVariant(case=value, type=self.empty()) for value in bare]
        return name

    def _variant(self, struct: type[msgspec.Struct], shared: tuple[Field, ...]) -> str:
        inherited = {field.name for field in shared}
        own = tuple(field for field in fields_of(struct) if field.name not in inherited)
        return self._plain(("variant", struct), struct, own)

    def _alternate(self, qapi: str, arms: tuple[Any, ...]) -> str:
        name, new = self._number(("alternate", qapi))
        if new:
            structs = tuple(arm for arm in arms if is_struct(arm))
            self.types[name] = entry = SchemaAlternate(name=name, members=[])
            entry.members = [SchemaArm(type=self.of(arm)) for arm in arms if not is_struct(arm)]
            if structs:
                tagged = _tag_field(structs[0]) is not None
                kind = self._union(structs) if tagged else self._object(structs[0])
                entry.members.insert(0, SchemaArm(type=kind))
        return name

    def _member(self, struct: type[msgspec.Struct], field: Field) -> SchemaMember:
        """A default makes an argument optional; in an answer the member is there all the same."""
        member = SchemaMember(name=field.name, type=self._of_member(field))
        member.features = _features(field.features)
        if field.absent or (issubclass(struct, Options) and not field.required):
            member.default = None
        return member


def _own_features(struct: type[msgspec.Struct]) -> tuple[str, ...]:
    """Features of the object; a request's are those of the command."""
    if issubclass(struct, Options) and not issubclass(struct, Request):
        return struct.features
    return ()


def _tag_field(struct: type[msgspec.Struct]) -> str | None:
    """As ``base.tag_field``; nor is the name of an event such a member."""
    return None if issubclass(struct, EventData) else tag_field(struct)


def _base(structs: Structs) -> type[msgspec.Struct]:
    """The struct that all of a union are made from."""
    first, *others = structs
    above: list[type[msgspec.Struct]] = list(first.__mro__[1:])
    return next(base for base in above if all(issubclass(other, base) for other in others))
