"""Structs as query-qmp-schema shows them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import UNSET, UnsetType

from monitor.engine.schema.base import (
    OWN_EVENTS,
    Alternate,
    Feature,
    NodeName,
    Options,
    Result,
    request_types,
)
from monitor.engine.schema.events import JobStatusChange, event_types
from monitor.engine.schema.introspect import AnySchemaInfo
from monitor.engine.schema.shapes import CommandShape, engine_schema, schema_of


class Tree(Options, tag_field="kind", kw_only=True):
    label: str | UnsetType = UNSET


class Leaf(Tree, tag="leaf", kw_only=True):
    """Nothing of its own."""


class Fork(Tree, tag="fork", kw_only=True):
    features = ("splits",)

    left: Annotated[str | Leaf | Fork | None, Alternate("TreeOrNull")]
    depth: Annotated[int, Feature("unstable")] = 1


AnyTree = Leaf | Fork


class Plant(Options, kw_only=True):
    tree: AnyTree
    where: NodeName
    flags: list[Literal["tall", "old"]] | UnsetType = UNSET


class Planted(Result, kw_only=True):
    height: float = 0.0
    note: Any | UnsetType = UNSET


def shown(*commands: CommandShape, events: Any = ()) -> dict[str, dict[str, Any]]:
    entries = msgspec.to_builtins(schema_of(commands, events))
    by_name = {entry["name"]: entry for entry in entries}
    assert len(by_name) == len(entries)
    return by_name


def test_a_command_names_its_types() -> None:
    schema = shown(
        CommandShape("plant", Plant, list[Planted], ("unstable",)), CommandShape("rest", Result)
    )
    plant, rest = schema["plant"], schema["rest"]
    assert plant["meta-type"] == rest["meta-type"] == "command"
    assert plant["features"] == ["unstable"]
    assert "features" not in rest
    assert schema[plant["ret-type"]] == {
        "meta-type": "array",
        "name": plant["ret-type"],
        "element-type": plant["ret-type"].strip("[]"),
    }
    empty = {"meta-type": "object", "name": rest["ret-type"], "members": []}
    assert rest["arg-type"] == rest["ret-type"]
    assert schema[rest["ret-type"]] == empty


def test_members_are_optional_by_unset_and_arguments_by_a_default_too() -> None:
    schema = shown(CommandShape("plant", Plant, Planted))
    arguments = schema[schema["plant"]["arg-type"]]["members"]
    assert [(m["name"], m.get("default", "needed")) for m in arguments] == [
        ("tree", "needed"),
        ("where", "needed"),
        ("flags", None),
    ]
    assert schema[schema["plant"]["ret-type"]]["members"] == [
        {"name": "height", "type": "number"},
        {"name": "note", "type": "any", "default": None},
    ]
    assert schema["str"] == {"meta-type": "builtin", "name": "str", "json-type": "string"}
    assert schema["number"]["json-type"] == "number"
    assert schema["any"]["json-type"] == "value"


def test_an_enumeration_in_an_array() -> None:
    schema = shown(CommandShape("plant", Plant))
    flags = schema[schema["plant"]["arg-type"]]["members"][2]["type"]
    choices = schema[schema[flags]["element-type"]]
    assert flags == f"[{choices['name']}]"
    assert choices["values"] == ["tall", "old"]
    assert choices["members"] == [{"name": "tall"}, {"name": "old"}]


def test_tagged_structs_are_variants_of_one_object_that_may_hold_itself() -> None:
    schema = shown(CommandShape("plant", Plant))
    tree = schema[schema[schema["plant"]["arg-type"]]["members"][0]["type"]]
    assert tree["tag"] == "kind"
    assert [member["name"] for member in tree["members"]] == ["kind", "label"]
    assert schema[tree["members"][0]["type"]]["values"] == ["leaf", "fork"]
    leaf, fork = (schema[variant["type"]] for variant in tree["variants"])
    assert [variant["case"] for variant in tree["variants"]] == ["leaf", "fork"]
    assert leaf["members"] == []
    assert fork["features"] == ["splits"]
    left, depth = fork["members"]
    assert depth == {"name": "depth", "type": "int", "default": None, "features": ["unstable"]}
    alternate = schema[left["type"]]
    assert alternate["meta-type"] == "alternate"
    assert {arm["type"] for arm in alternate["members"]} == {"str", "null", tree["name"]}


def test_an_event() -> None:
    schema = shown(events=[JobStatusChange])
    assert schema["JOB_STATUS_CHANGE"]["meta-type"] == "event"
    told = schema[schema["JOB_STATUS_CHANGE"]["arg-type"]]
    assert [member["name"] for member in told["members"]] == ["id", "status"]
    assert "tag" not in told


def test_a_prefix_keeps_two_lists_apart() -> None:
    names = {entry.name for entry in schema_of([CommandShape("plant", Plant)], prefix="s-")}
    numbered = {name for name in names if name.strip("[]")[0].isdigit()}
    assert not numbered
    assert any(name.startswith("s-") for name in names)


def test_what_has_no_type_in_qmp_is_refused() -> None:
    class Loose(Options, kw_only=True):
        anything: dict[str, int]

    with pytest.raises(TypeError, match="no type for"):
        schema_of([CommandShape("loose", Loose)])


def test_the_engines_schema_is_whole() -> None:
    """It has every request and every event of QEMU's, no name twice, and just the types in use."""
    schema = engine_schema()
    entries = msgspec.to_builtins(list(schema))
    assert msgspec.convert(entries, list[AnySchemaInfo]) == list(schema)
    names = [entry["name"] for entry in entries]
    assert len(set(names)) == len(names)
    kinds = {kind: {e["name"] for e in entries if e["meta-type"] == kind} for kind in KINDS}
    assert kinds["command"] == request_types().keys()
    assert kinds["event"] == {name for name in event_types() if not name.startswith(OWN_EVENTS)}
    used = {name for entry in entries for name in _references(entry)}
    assert used == set(names) - kinds["command"] - kinds["event"]


KINDS = ("command", "event")


def _references(entry: dict[str, Any]) -> list[str]:
    parts = [entry, *entry.get("variants", [])]
    if entry["meta-type"] in ("object", "alternate"):
        parts += entry["members"]
    keys = ("type", "arg-type", "ret-type", "element-type")
    return [part[key] for part in parts for key in keys if key in part]
