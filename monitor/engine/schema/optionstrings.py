"""Options of nodes as ``-drive`` and ``drive_add`` take them: sizes with a unit, lists by index.

In QMP, and so in ``--blockdev``, these sizes are plain integers. The sentences are those of QEMU's
older parser (util/qemu-option.c) and of its block layer.
"""

from __future__ import annotations

from typing import Any

from monitor.engine.schema.decode import check_nesting, decode
from monitor.engine.schema.mistakes import ParameterError
from monitor.engine.schema.olderwords import SIZES, in_older_words
from monitor.engine.schema.scalars import parse_size


def decode_node_options(struct: Any, tree: dict[str, Any]) -> Any:
    """``tree``, whose values are text, as a ``struct`` of options (or one of a union of them).

    Raises RequestError: a mistake is told in the words of QEMU's drivers.
    """
    check_nesting(tree)
    try:
        return decode(struct, _without_units(tree), keyval=True)
    except ParameterError as error:
        older = in_older_words(error, tree)
        if older is error:
            raise
        raise older from error


def _without_units(value: Any, name: str = "") -> Any:
    """``value`` with each size in it in bytes; what is no size is left empty, to be refused."""
    if isinstance(value, dict):
        return {key: _without_units(member, key) for key, member in value.items()}
    if isinstance(value, list):
        return [_without_units(element) for element in value]
    if name not in SIZES or not isinstance(value, str):
        return value
    size = parse_size(value)
    return "" if size is None else str(size)


def nest(flat: dict[str, Any]) -> dict[str, Any]:
    """Dotted keys -> a tree. Where a key has a value and members too, the members win; members
    0, 1, … are a list."""
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, last = key.split(".")
        place = tree
        for parent in parents:
            below = place.get(parent)
            if not isinstance(below, dict):
                below = place[parent] = {}
            place = below
        place[last] = value
    check_nesting(tree)
    return {key: listed(value) for key, value in tree.items()}


def flatten(tree: dict[str, Any]) -> dict[str, Any]:
    """The opposite of ``nest``, for a tree that ``check_nesting`` has let pass. What holds nothing
    is left out."""
    flat: dict[str, Any] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict | list):
            named = value.items() if isinstance(value, dict) else enumerate(value)
            for key, member in named:
                walk(f"{prefix}.{key}" if prefix else str(key), member)
        else:
            flat[prefix] = value

    walk("", tree)
    return flat


def listed(value: Any) -> Any:
    """``value`` with each dictionary of all the indices from 0 on made a list; others stay, and
    are refused where a list is wanted."""
    if not isinstance(value, dict):
        return value
    members = {key: listed(member) for key, member in value.items()}
    indices = [str(index) for index in range(len(members))]
    if members and members.keys() == set(indices):
        return [members[index] for index in indices]
    return members
