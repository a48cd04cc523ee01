"""The name that messages, queries and backing links give to a node.

A node whose file alone would bring it back, opened in the same format, is called by that file.
Any other gets a ``json:`` name with everything that is needed (QEMU's ``bdrv_refresh_filename``).
"""

from __future__ import annotations

import functools
import json
from json.encoder import encode_basestring_ascii as quote
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from monitor.engine.drivers.base import DriverKind
from monitor.engine.schema.base import fields_of

if TYPE_CHECKING:
    from monitor.engine.graph.node import Node

STRONG = {
    "blkdebug": (
        "config",
        "align",
        "max-transfer",
        "opt-write-zero",
        "max-write-zero",
        "opt-discard",
        "max-discard",
        "inject-error",
        "set-state",
    ),
    "raw": ("offset", "size"),
    "null-co": ("size", "read-zeroes"),
    "null-aio": ("size", "read-zeroes"),
}
"""Options that change what the disk shows (QEMU's strong runtime options)."""


MAX_NAME = 4096
"""A longer name is cut and ends in dots, as in QEMU; nobody can open it by that name."""


class Names(NamedTuple):
    """``exact`` is a plain file name or '', ``options`` JSON that opens the node again (cut when
    it is longer than a name can be), ``shown`` what everybody sees."""

    exact: str
    options: str
    shown: str


def names_of(node: Node) -> Names:
    """The names of a node whose children have theirs already (chains are long: no recursion)."""
    below = node.below()
    if node.implicit and below is not None:
        return below.names
    overridden = _backing_overridden(node)
    strong = _strong(node)
    exact = _exact(node, bool(strong) or overridden)
    options = _dump(_members(node, strong, overridden))
    return Names(exact, options, exact or _cut(f"json:{options}"))


def _exact(node: Node, significant: bool) -> str:
    """The file name that brings this node back by itself; '' when there is none."""
    driver = node.driver
    if driver.kind is DriverKind.PROTOCOL:
        return driver.filename
    child = node.data_child
    if child is None:
        return ""
    if driver.kind is DriverKind.FILTER:
        return driver.filename_over(child.names.exact, child.names.shown)
    if significant or not child.driver.is_protocol:
        return ""
    return child.names.exact


def _backing_overridden(node: Node) -> bool:
    """Whether the backing image is another than the header names."""
    if not node.driver.supports_backing:
        return False
    backing = node.backing
    return (backing.names.shown if backing else "") != node.auto_backing


def _members(node: Node, strong: dict[str, Any], overridden: bool) -> dict[str, str]:
    """Each option that opens the node again, its value as JSON."""
    members = {"driver": quote(node.driver.name)}
    members |= {name: json.dumps(value) for name, value in strong.items()}
    if node.driver.name in ("file", "host_device"):
        members["filename"] = quote(node.driver.filename)
    for role, edge in node.children.items():
        if role != "backing" or node.is_filter:
            members[role] = edge.child.names.options
    if overridden:
        members["backing"] = node.backing.names.options if node.backing else "null"
    return members


def _strong(node: Node) -> dict[str, Any]:
    fields = _strong_fields(node.driver.name, type(node.options))
    given = {
        name: value
        for name, attribute in fields
        if (value := getattr(node.options, attribute)) is not msgspec.UNSET
    }
    return {name: value for key in given for name, value in _flat(key, given[key])}


@functools.cache
def _strong_fields(driver: str, struct: type[msgspec.Struct]) -> list[tuple[str, str]]:
    """Names and attributes of a driver's strong options, in schema order."""
    names = STRONG.get(driver, ())
    return [(field.name, field.attribute) for field in fields_of(struct) if field.name in names]


def _flat(name: str, value: Any) -> list[tuple[str, Any]]:
    """An option; the elements of a list, and their members, as options of their own."""
    if not isinstance(value, list):
        return [(name, value)]
    return [
        (f"{name}.{index}.{member}", value)
        for index, element in enumerate(value)
        for member, value in msgspec.to_builtins(element).items()
    ]


def _dump(members: dict[str, str]) -> str:
    """An object as QEMU writes it, members in the order of its dictionaries: the name is compared
    with names that QEMU wrote into images."""
    inside = ", ".join(f"{quote(m)}: {members[m]}" for m in sorted(members, key=_bucket))
    return _cut("{" + inside + "}")


def _cut(name: str) -> str:
    return name if len(name) < MAX_NAME else name[: MAX_NAME - 4] + "..."


@functools.cache
def _bucket(name: str) -> int:
    """Where QEMU's dictionary of 512 buckets keeps a member."""
    value = 0x238F13AF * len(name)
    for index, byte in enumerate(name.encode()):
        value += byte << (index * 5 % 24)
    return (1103515243 * value + 12345) % (1 << 32) % 512
