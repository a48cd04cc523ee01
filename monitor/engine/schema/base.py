"""What every request, option and result struct is made of.

A request is declared once, as a msgspec struct with a QMP name; from its annotations come argument
checking (``schema.decode``), ``help``, completion, ``query-commands`` and the QMP server. The type
of a field says what completes it: ``NodeName`` is a string to the decoder and "a node" to the
prompt.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, overload

import msgspec
from msgspec import UNSET, UnsetType

from monitor.bytopic import ByTopic

__all__ = [
    "OWN_EVENTS",
    "UNSET",
    "Feature",
    "Field",
    "Int",
    "Names",
    "Options",
    "Request",
    "Result",
    "UnsetType",
    "fields_of",
    "given",
    "is_struct",
    "is_union",
    "optional",
    "request_type",
    "request_types",
    "tag_field",
    "wire_name",
]


OWN_EVENTS = "X_BLKMON_"
"""Events that QEMU does not have begin so. They are for the people at this program's own front
ends: a QMP client hears what QEMU's would, and nothing else."""

T = TypeVar("T")
D = TypeVar("D")


@overload
def given(value: T | UnsetType) -> T | None: ...
@overload
def given(value: T | UnsetType, default: D) -> T | D: ...
def given(value: Any, default: Any = None) -> Any:
    """What an optional member holds, or ``default`` where it was left out."""
    return default if value is UNSET else value


def optional(value: T | None) -> T | UnsetType:
    """The other way: what an optional member is to hold, which is left out for None."""
    return UNSET if value is None else value


class Int(msgspec.Struct, frozen=True):
    """The QAPI integer type of a field; ``size`` takes units in option strings (64k, 1.5G)."""

    qapi: Literal["int", "size", "uint8", "uint16", "uint32", "uint64", "int32", "int64"] = "int"


class Names(msgspec.Struct, frozen=True):
    """What a string names, for completion and 'did you mean': see ``KINDS``."""

    kind: str
    verb: str = ""  # for jobs and bitmaps: the verb that those offered must accept; block-VERB:
    # it must be a block job, too. For nodes "below": those below the device beside it

    KINDS: ClassVar[tuple[str, ...]] = (
        "node", "drive", "device", "job", "bitmap", "snapshot", "export", "object", "file",
        "layer", "new",
    )  # fmt: skip


class Alternate(msgspec.Struct, frozen=True):
    """A union told apart by JSON type, with the QAPI name that errors use."""

    qapi: str


class Offered(msgspec.Struct, frozen=True):
    """The values of an enumeration that a person may want here: QMP knows others, all refused."""

    words: tuple[str, ...]


class Feature(msgspec.Struct, frozen=True):
    """What ``query-qmp-schema`` says of a member beside its type: "unstable", "deprecated"."""

    name: str


QInt = Annotated[int, Int("int")]
UInt8 = Annotated[int, Int("uint8")]
UInt16 = Annotated[int, Int("uint16")]
UInt32 = Annotated[int, Int("uint32")]
Int32 = Annotated[int, Int("int32")]
UInt64 = Annotated[int, Int("uint64")]
Size = Annotated[int, Int("size")]

NodeName = Annotated[str, Names("node")]
DriveName = Annotated[str, Names("drive")]
DeviceName = Annotated[str, Names("device")]  # a drive or a node
SnapshotName = Annotated[str, Names("snapshot")]  # of any image
JobName = Annotated[str, Names("job")]
FileName = Annotated[str, Names("file")]
LayerFile = Annotated[str, Names("layer")]  # an image below the device beside it, by its file
LayerNode = Annotated[str, Names("node", "below")]  # the same by its node
ObjectName = Annotated[str, Names("object")]  # a secret, TLS credentials, an iothread
NewName = Annotated[str, Names("new")]

OnOffAuto = Literal["auto", "on", "off"]


class Options(msgspec.Struct, kw_only=True, rename="kebab", omit_defaults=True):
    """Arguments and options: optional members default to UNSET or to QMP's default."""

    features: ClassVar[tuple[str, ...]] = ()
    """What ``query-qmp-schema`` says of the request, or of the object of options."""


class Result(msgspec.Struct, kw_only=True, rename="kebab", gc=False):
    """What a request answers; members that are UNSET are left out on the wire."""


class Request(Options, kw_only=True, tag_field="execute"):
    """A QMP-level command, named by its tag: ``class Quit(Request, kw_only=True, tag="quit")``."""

    returns: ClassVar[Any] = None
    """The type of the answer; None for QMP's empty object."""
    example: ClassVar[str] = ""
    """One line that can be typed at the prompt."""
    typed: ClassVar[str] = ""
    """Another form that a person types, for the synopsis; "" for none."""
    flattened: ClassVar[str] = ""
    """The field whose struct the arguments are as a whole (blockdev-add's options); "" for none."""

    @classmethod
    def qmp_name(cls) -> str:
        return str(cls.__struct_config__.tag)


@functools.cache
def request_types() -> Mapping[str, type[Request]]:
    """Every declared request by QMP name; a topic's file is imported when one is looked at."""
    from monitor.engine import schema

    return ByTopic(schema.__name__, schema.REQUESTS, _declared)


def _declared() -> dict[str, type[Request]]:
    return {request.qmp_name(): request for request in _leaves(Request)}


def _leaves(struct: type[Request]) -> list[type[Request]]:
    below = struct.__subclasses__()
    return [leaf for sub in below for leaf in _leaves(sub)] if below else [struct]


def request_type(name: str) -> type[Request] | None:
    return request_types().get(name)


class Field(msgspec.Struct, frozen=True):
    """One member of a struct, as decoding, help and completion see it."""

    name: str  # on the wire: "node-name"
    attribute: str  # in Python: "node_name"
    type: Any  # without Annotated and UNSET
    required: bool
    doc: str
    integer: Int | None
    names: Names | None
    alternate: Alternate | None
    nullable: bool
    absent: bool
    """Whether it may be UNSET. In an answer that, and no default, is what makes it optional."""
    features: tuple[str, ...]
    offered: tuple[str, ...] = ()
    """Those of its choices that are not refused, where that is not all of them."""

    @property
    def choices(self) -> tuple[str, ...]:
        """The values of an enumeration that a person may want; () for other types."""
        if self.offered:
            return self.offered
        if get_origin(self.type) is Literal:
            return typing.cast("tuple[str, ...]", get_args(self.type))
        if self.type is bool:
            return ("on", "off")
        return ()


def wire_name(attribute: str) -> str:
    return attribute.rstrip("_").replace("_", "-")


@functools.cache
def fields_of(struct: type[msgspec.Struct]) -> tuple[Field, ...]:
    """The members of ``struct`` in schema order (base members first)."""
    hints = typing.get_type_hints(struct, include_extras=True)
    encoded = dict(zip(struct.__struct_fields__, struct.__struct_encode_fields__, strict=True))
    required = struct.__struct_fields__[: len(struct.__struct_fields__)]
    defaults = dict(_defaults(struct))
    order = [name for base in reversed(struct.__mro__) for name in _own(base) if name in required]
    seen = dict.fromkeys(order)
    return tuple(describe(encoded[a], a, hints[a], required=a not in defaults) for a in seen)


def _own(base: type) -> list[str]:
    annotations = base.__dict__.get("__annotations__", {})  # noqa: RUF063  (inspect costs a start 9 ms)
    return [name for name in annotations if not str(annotations[name]).startswith("ClassVar")]


def _defaults(struct: type[msgspec.Struct]) -> list[tuple[str, Any]]:
    # msgspec keeps the defaults of the trailing fields; with kw_only, NODEFAULT marks the others.
    names = struct.__struct_fields__
    values = struct.__struct_defaults__
    pairs = zip(names[len(names) - len(values) :], values, strict=True)
    return [(name, value) for name, value in pairs if value is not msgspec.NODEFAULT]


def describe(name: str, attribute: str, hint: Any, *, required: bool) -> Field:
    """One annotation taken apart."""
    doc, integer, names, alternate, nullable, absent = "", None, None, None, False, False
    features: list[str] = []
    offered: tuple[str, ...] = ()
    while True:
        if get_origin(hint) is Annotated:
            hint, *extras = get_args(hint)
            for extra in extras:
                if isinstance(extra, str):
                    doc = doc or extra
                elif isinstance(extra, Int):
                    integer = integer or extra
                elif isinstance(extra, Names):
                    names = names or extra
                elif isinstance(extra, Alternate):
                    alternate = alternate or extra
                elif isinstance(extra, Feature):
                    features.append(extra.name)
                elif isinstance(extra, Offered):
                    offered = extra.words
            continue
        if is_union(hint):
            arms = [arm for arm in get_args(hint) if arm is not UnsetType]
            absent = absent or UnsetType in get_args(hint)
            if alternate is None and type(None) in arms:
                arms.remove(type(None))
                nullable = True
            if len(arms) == 1:
                hint = arms[0]
                continue
            hint = Union[tuple(arms)]  # noqa: UP007  (built at run time)
        break
    return Field(
        name=name,
        attribute=attribute,
        type=hint,
        required=required,
        doc=doc,
        integer=integer,
        names=names,
        alternate=alternate,
        nullable=nullable,
        absent=absent,
        features=tuple(features),
        offered=offered,
    )


def is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, types.UnionType)


def tag_field(struct: type[msgspec.Struct]) -> str | None:
    """The member that tells the structs of a union apart (``driver``), None where there is none; a
    request's own name is no such member."""
    return None if issubclass(struct, Request) else struct.__struct_config__.tag_field
