"""Two answers of query-qmp-schema compared: what a client of one would miss with the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Entry = dict[str, Any]
Schema = list[Entry]


def names(schema: Schema, meta_type: str) -> set[str]:
    return {entry["name"] for entry in schema if entry["meta-type"] == meta_type}


def differences(ours: Schema, theirs: Schema) -> Iterator[str]:
    """Of the commands and events that both have: each difference of their types, with its path.

    The names of types mean nothing; a pair of types that is met again is compared once.
    """
    walk = _Walk(ours, theirs)
    for kind in ("command", "event"):
        for name in sorted(names(ours, kind) & names(theirs, kind)):
            yield from walk.topmost(name)


class _Walk:
    def __init__(self, ours: Schema, theirs: Schema) -> None:
        self._ours = {entry["name"]: entry for entry in ours}
        self._theirs = {entry["name"]: entry for entry in theirs}
        self._seen: set[tuple[str, str]] = set()

    def topmost(self, name: str) -> Iterator[str]:
        ours, theirs = self._ours[name], self._theirs[name]
        yield from _features(name, ours, theirs)
        if ours.get("allow-oob") != theirs.get("allow-oob"):
            yield f"{name}: allow-oob"
        yield from self._types(name, ours["arg-type"], theirs["arg-type"])
        if "ret-type" in theirs:
            yield from self._types(f"{name} ->", ours["ret-type"], theirs["ret-type"])

    def _types(self, path: str, ours: str, theirs: str) -> Iterator[str]:
        if (ours, theirs) in self._seen:
            return
        self._seen.add((ours, theirs))
        our, their = self._ours[ours], self._theirs[theirs]
        kind = our["meta-type"]
        if kind != their["meta-type"] or (kind == "builtin" and ours != theirs):
            yield f"{path}: {_named(our)} instead of {_named(their)}"
            return
        yield from _features(path, our, their)
        if kind == "array":
            yield from self._types(f"{path}[]", our["element-type"], their["element-type"])
        elif kind == "builtin":
            assert our == their
        else:
            yield from getattr(self, f"_{kind}")(path, our, their)

    def _enum(self, path: str, ours: Entry, theirs: Entry) -> Iterator[str]:
        assert ours["values"] == [member["name"] for member in ours["members"]]
        yield from _sets(path, "value", ours["values"], theirs["values"])

    def _object(self, path: str, ours: Entry, theirs: Entry) -> Iterator[str]:
        our = {member["name"]: member for member in ours["members"]}
        their = {member["name"]: member for member in theirs["members"]}
        yield from _sets(path, "member", our, their)
        for name in [name for name in our if name in their]:
            inner = f"{path} {name}"
            for what in ("default", "features"):
                if our[name].get(what, "-") != their[name].get(what, "-"):
                    yield f"{inner}: {what}"
            yield from self._types(inner, our[name]["type"], their[name]["type"])
        if ours.get("tag") != theirs.get("tag"):
            yield f"{path}: tag"
        elif "tag" in ours:
            yield from self._variants(path, ours, theirs)

    def _variants(self, path: str, ours: Entry, theirs: Entry) -> Iterator[str]:
        """A case whose value is missing has been told already."""
        our = {variant["case"]: variant["type"] for variant in ours["variants"]}
        their = {variant["case"]: variant["type"] for variant in theirs["variants"]}
        for case in [case for case in our if case in their]:
            yield from self._types(f"{path} ({case})", our[case], their[case])

    def _alternate(self, path: str, ours: Entry, theirs: Entry) -> Iterator[str]:
        our = {_named(self._ours[arm["type"]]): arm["type"] for arm in ours["members"]}
        their = {_named(self._theirs[arm["type"]]): arm["type"] for arm in theirs["members"]}
        yield from _sets(path, "arm", our, their)
        for name in [name for name in our if name in their]:
            yield from self._types(path, our[name], their[name])


def _named(entry: Entry) -> str:
    return str(entry["name"] if entry["meta-type"] == "builtin" else entry["meta-type"])


def _sets(path: str, what: str, ours: Any, theirs: Any) -> Iterator[str]:
    yield from (f"{path}: no {what} '{name}'" for name in theirs if name not in ours)
    yield from (f"{path}: {what} '{name}' of our own" for name in ours if name not in theirs)


def _features(path: str, ours: Entry, theirs: Entry) -> Iterator[str]:
    if sorted(ours.get("features", [])) != sorted(theirs.get("features", [])):
        yield f"{path}: features"
