"""``query-qmp-schema``: the shape of its answer. ``schema.shapes`` makes it from the structs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, UnsetType

from monitor.engine.schema.base import Feature, Request, Result

JsonType = Literal["string", "number", "int", "boolean", "null", "object", "array", "value"]


class SchemaInfo(Result, kw_only=True, tag_field="meta-type"):
    """A command, an event or a type. Only the names of commands and events mean something."""

    name: str
    features: list[str] | UnsetType = UNSET


class SchemaBuiltin(SchemaInfo, kw_only=True, tag="builtin"):
    json_type: JsonType


class SchemaEnumMember(Result, kw_only=True):
    name: str
    features: list[str] | UnsetType = UNSET


class SchemaEnum(SchemaInfo, kw_only=True, tag="enum"):
    members: list[SchemaEnumMember]
    values: Annotated[list[str], Feature("deprecated")]


class SchemaArray(SchemaInfo, kw_only=True, tag="array"):
    element_type: str


class SchemaMember(Result, kw_only=True):
    """``default`` is null for a member that may be left out; absent for one that may not."""

    name: str
    type: str
    default: Any | UnsetType = UNSET
    features: list[str] | UnsetType = UNSET


class SchemaVariant(Result, kw_only=True):
    case: str
    type: str


class SchemaObject(SchemaInfo, kw_only=True, tag="object"):
    """``variants`` name, for values of the member ``tag``, the object whose members come too."""

    members: list[SchemaMember]
    tag: str | UnsetType = UNSET
    variants: list[SchemaVariant] | UnsetType = UNSET


class SchemaArm(Result, kw_only=True):
    type: str


class SchemaAlternate(SchemaInfo, kw_only=True, tag="alternate"):
    members: list[SchemaArm]


class SchemaCommand(SchemaInfo, kw_only=True, tag="command"):
    arg_type: str
    ret_type: str
    allow_oob: bool | UnsetType = UNSET


class SchemaEvent(SchemaInfo, kw_only=True, tag="event"):
    arg_type: str


AnySchemaInfo = (
    SchemaBuiltin
    | SchemaEnum
    | SchemaArray
    | SchemaObject
    | SchemaAlternate
    | SchemaCommand
    | SchemaEvent
)


class QueryQmpSchema(Request, kw_only=True, tag="query-qmp-schema"):
    """Every command and event, with the types of what they take and give."""

    returns = list[AnySchemaInfo]
