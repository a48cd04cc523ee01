"""An object, its properties, and the table of objects by id."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, get_args

from msgspec import UNSET

from monitor.engine.errors import Refused, RequestError
from monitor.engine.schema.mistakes import UnacceptedValue, WrongParameterType
from monitor.engine.schema.scalars import INT64_MAX

if TYPE_CHECKING:
    from monitor.engine.schema.objects import AnyObjectOptions


class ObjectExists(RequestError):
    template = "attempt to add duplicate property '{id}' to object (type 'container')"
    id: str


class ObjectNotFound(RequestError):
    template = "object '{id}' not found"
    id: str


class ObjectInUse(RequestError):
    template = "object '{id}' is in use, can not be deleted"
    id: str


class PropertyNotFound(RequestError):
    template = "Property '{type}.{name}' not found"
    type: str
    name: str


class PropertyReadOnly(RequestError):
    template = "Property '{type}.{name}' is not writable"
    type: str
    name: str


class Property(NamedTuple):
    """How qom-list and its like see a property.

    ``type_name`` is how it is written there; ``kind`` the Python type of its value, with the
    ``choices`` of an enumeration; the value is the object's attribute of that name (``-`` as
    ``_``).
    """

    type_name: str
    kind: Any
    choices: tuple[str, ...] = ()
    writable: bool = True


STRING = Property("string", str)
BOOL = Property("bool", bool)
INT = Property("int", int)
READ_ONLY_BOOL = Property("bool", bool, writable=False)

_EXPECTED = {str: "string", bool: "boolean", int: "integer"}


def choice(type_name: str, literal: Any) -> Property:
    """An enumeration, whose values are those of a ``Literal``."""
    return Property(type_name, str, get_args(literal))


class UserObject:
    """Base of all. Made with the options of its type, and used only once it is ``complete``."""

    type: ClassVar[str]
    parents: ClassVar[tuple[str, ...]]
    """The types that it is besides, from the nearest."""
    properties: ClassVar[dict[str, Property]]

    def __init__(self, options: AnyObjectOptions) -> None:
        """Options that are there become attributes; the class has the defaults of others."""
        self.id = options.id
        self.users = 0
        """How many things that exist use it, so that it may not go."""
        for name in self.properties:
            given = getattr(options, name.replace("-", "_"), UNSET)
            if given is not UNSET:
                self.set(name, given)

    def complete(self, objects: Objects) -> None:
        """Reads what it needs, in a worker. Raises RequestError."""

    def close(self) -> None:
        """It has been taken away."""

    def get(self, name: str) -> Any:
        """Raises PropertyNotFound."""
        if name == "type":
            return self.type
        of = self._property(name)
        value = getattr(self, name.replace("-", "_"))
        return "" if value is None and of.kind is str else value

    def set(self, name: str, value: Any) -> None:
        """Raises RequestError."""
        of = self._property(name) if name != "type" else Property("string", str, writable=False)
        if not of.writable:
            raise PropertyReadOnly(self.type, name)
        if type(value) is not of.kind:
            raise WrongParameterType(name, _EXPECTED[of.kind])
        if of.choices and value not in of.choices:
            raise UnacceptedValue(name, value, of.choices)
        if of.kind is int and value < 0:
            raise Refused(f"{name} value must be in range [0, {INT64_MAX}]")
        self.change(name.replace("-", "_"), value)

    def change(self, attribute: str, value: Any) -> None:
        """A value of the right type is taken. Raises RequestError."""
        setattr(self, attribute, value)

    def _property(self, name: str) -> Property:
        if name not in self.properties:
            raise PropertyNotFound(self.type, name)
        return self.properties[name]


MODULES = {"iothread": "iothread", "secret": "secret", "tls-creds-x509": "tls"}
"""Types of objects -> where they are declared, as a class ``made``."""


def class_of(kind: str) -> type[UserObject]:
    found: type[UserObject] = import_module(f"{__package__}.{MODULES[kind]}").made
    return found


class Objects:
    """All objects by id, in order of their making. Changed on the loop, read from any thread."""

    def __init__(self) -> None:
        self.by_id: dict[str, UserObject] = {}
        self.had_any = False
        """Whether there ever was one: QEMU shows where they are kept from then on."""

    def prepare(self, options: AnyObjectOptions) -> UserObject:
        """An object that is not complete yet. Raises RequestError."""
        made = class_of(str(options.__struct_config__.tag))(options)
        if made.id in self.by_id:
            raise ObjectExists(made.id)
        return made

    def add(self, made: UserObject) -> None:
        self.by_id[made.id] = made
        self.had_any = True

    def close(self) -> None:
        """All of them go, with the engine."""
        for each in self.by_id.values():
            each.close()
        self.by_id.clear()

    def remove(self, id_: str) -> UserObject:
        """Raises RequestError."""
        found = self.by_id.get(id_)
        if found is None:
            raise ObjectNotFound(id_)
        if found.users:
            raise ObjectInUse(id_)
        del self.by_id[id_]
        return found
