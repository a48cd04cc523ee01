"""The paths of objects: ``/objects/ID``, and the root.

A path that does not begin with ``/`` is the end of one, which must be unique.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from monitor.engine.errors import RequestError
from monitor.engine.objects.base import (
    MODULES,
    Objects,
    PropertyNotFound,
    PropertyReadOnly,
    UserObject,
    class_of,
)
from monitor.engine.schema.objects import ObjectPropertyInfo, ObjectTypeInfo


class PathNotFound(RequestError):
    qmp_class = "DeviceNotFound"
    template = "Device '{path}' not found"
    path: str


class PathAmbiguous(RequestError):
    template = "Path '{path}' is ambiguous"
    path: str


class Container(NamedTuple):
    """An object that only holds others."""

    path: str
    children: Mapping[str, Container | UserObject]

    def get(self, name: str) -> Any:
        """Of a child its path. Raises PropertyNotFound."""
        if name == "type":
            return "container"
        self._child(name)
        return f"{self.path.rstrip('/')}/{name}"

    def set(self, name: str, value: Any) -> None:
        """Raises RequestError: nothing can be set."""
        if name != "type":
            self._child(name)
        raise PropertyReadOnly("container", name)

    def _child(self, name: str) -> None:
        if name not in self.children:
            raise PropertyNotFound("container", name)


Place = Container | UserObject


def root_of(objects: Objects) -> Container:
    """The tree as it is now."""
    below: dict[str, Place] = {}
    if objects.had_any:
        below["objects"] = Container("/objects", objects.by_id)
    return Container("/", below)


def find(objects: Objects, path: str) -> Place:
    """Raises PathNotFound, PathAmbiguous."""
    names = [name for name in path.split("/") if name]
    root = root_of(objects)
    found = [_down(root, names)] if path.startswith("/") else _ends(root, names)
    there = [place for place in found if place is not None]
    if not there:
        raise PathNotFound(path)
    if len(there) > 1:
        raise PathAmbiguous(path)
    return there[0]


def _down(place: Place, names: list[str]) -> Place | None:
    for name in names:
        below = place.children.get(name) if isinstance(place, Container) else None
        if below is None:
            return None
        place = below
    return place


def _ends(place: Place, names: list[str]) -> list[Place | None]:
    found = [_down(place, names)]
    if isinstance(place, Container):
        for below in place.children.values():
            found += _ends(below, names)
    return found


def properties(place: Place) -> list[ObjectPropertyInfo]:
    if isinstance(place, UserObject):
        own = {name: of.type_name for name, of in place.properties.items()}
    else:
        own = {
            name: f"child<{'container' if isinstance(below, Container) else below.type}>"
            for name, below in place.children.items()
        }
    return [ObjectPropertyInfo(name=n, type=t) for n, t in ({"type": "string"} | own).items()]


# -- types -------------------------------------------------------------------------------------

_ABSTRACT = {
    "event-loop-base": ("user-creatable", "object"),
    "secret_common": ("user-creatable", "object"),
    "tls-creds": ("object",),
    "user-creatable": ("interface",),
    "interface": (),
}
"""Types that no object has by itself -> what they are besides."""


def types(implements: str | None, *, abstract: bool) -> list[ObjectTypeInfo]:
    """The types that are ``implements``, or all. A type's parent is its nearest that is no
    interface."""
    concrete = {kind: class_of(kind).parents for kind in MODULES} | {"container": ("object",)}
    found = []
    for name, parents in {**concrete, **(_ABSTRACT if abstract else {})}.items():
        if implements not in (None, name, *parents):
            continue
        info = ObjectTypeInfo(name=name)
        if name in _ABSTRACT:
            info.abstract = True
        if parents:
            own = [parent for parent in parents if parent != "user-creatable"]
            info.parent = own[0]
        found.append(info)
    return found
