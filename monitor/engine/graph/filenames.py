"""The name that messages, queries and backing links give to a node.

A node whose file alone would bring it back, opened in the same format, is called by that file.
Any other gets a ``json:`` name with everything that is needed (QEMU's ``bdrv_refresh_filename``).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from monitor.engine.drivers.base import DriverKind
from monitor.engine.schema.base import fields_of

if TYPE_CHECKING:
    from monitor.engine.graph.node import Node

STRONG = {
    "raw": ("offset", "size"),
    "null-co": ("size", "read-zeroes"),
    "null-aio": ("size", "read-zeroes"),
}
"""Options that change what the disk shows (QEMU's strong runtime options)."""


def filename_of(node: Node) -> str:
    """The node's plain file name, or its ``json:`` name."""
    return exact_filename(node) or f"json:{_dump(full_options(node))}"


def exact_filename(node: Node) -> str:
    """The file name that brings this node back by itself; '' when there is none."""
    driver = node.driver
    if driver.kind is DriverKind.PROTOCOL:
        return driver.filename
    child = node.data_child
    if child is None or driver.kind is DriverKind.FILTER:
        return ""
    if child.driver.kind is not DriverKind.PROTOCOL or _strong(node) or backing_overridden(node):
        return ""
    return exact_filename(child)


def backing_overridden(node: Node) -> bool:
    """Whether the backing image is another than the header names."""
    if not node.driver.supports_backing:
        return False
    backing = node.backing
    return (filename_of(backing) if backing else "") != node.auto_backing


def full_options(node: Node) -> dict[str, Any]:
    """Options that open this node again, children and all."""
    options: dict[str, Any] = {"driver": node.driver.name, **_strong(node)}
    if node.driver.name == "file":
        options["filename"] = node.driver.filename
    for role, edge in node.children.items():
        if role != "backing":
            options[role] = full_options(edge.child)
    if backing_overridden(node):
        options["backing"] = full_options(node.backing) if node.backing else None
    return options


def _strong(node: Node) -> dict[str, Any]:
    names = STRONG.get(node.driver.name, ())
    values = {
        field.name: getattr(node.options, field.attribute)
        for field in fields_of(type(node.options))
        if field.name in names
    }
    return {name: value for name, value in values.items() if value is not msgspec.UNSET}


def _dump(value: Any) -> str:
    """JSON as QEMU writes it, members in the order of its dictionaries: the name is compared with
    names that QEMU wrote into images."""
    if isinstance(value, dict):
        members = sorted(value, key=_bucket)
        return "{" + ", ".join(f"{json.dumps(m)}: {_dump(value[m])}" for m in members) + "}"
    return json.dumps(value)


def _bucket(name: str) -> int:
    """Where QEMU's dictionary of 512 buckets keeps a member."""
    value = 0x238F13AF * len(name)
    for index, byte in enumerate(name.encode()):
        value += byte << (index * 5 % 24)
    return (1103515243 * value + 12345) % (1 << 32) % 512
