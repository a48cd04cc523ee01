"""``json:{…}`` where a person gives an image's name: the options to open it with.

Only requests come here, never a name that is found in an image (``graph.policy``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from monitor.engine.drivers.base import OpenFlags
from monitor.engine.errors import RequestError
from monitor.engine.schema.decode import check_nesting
from monitor.engine.schema.optionstrings import flatten, nest

if TYPE_CHECKING:
    from monitor.engine.graph.node import Node
    from monitor.engine.graph.opening import Opening

PREFIX = "json:"


class BadJSONName(RequestError):
    template = "Could not parse the JSON options: {reason}"
    reason: str


class NotAnObject(RequestError):
    template = "Invalid JSON object given"


async def open_given(
    opening: Opening,
    loose: dict[str, Any],
    filename: str | None,
    *,
    inherit: OpenFlags | None = None,
    follow_backing: bool = True,
) -> Node:
    """``Opening.open_loose`` of a name that a request gives. Raises RequestError."""
    loose, filename = read(loose, filename)
    return await opening.open_loose(loose, filename, inherit=inherit, follow_backing=follow_backing)


def read(loose: dict[str, Any], filename: str | None) -> tuple[dict[str, Any], str | None]:
    """Loose options and a name -> the same with what a ``json:`` name says among the options, and
    no name then. What is given apart wins over what the name says. Raises RequestError."""
    if filename is None or not filename.startswith(PREFIX):
        return loose, filename
    named = {key: _text(value) for key, value in flatten(_object(filename)).items()}
    given = {key: value for key, value in named.items() if value is not None or _is_backing(key)}
    check_nesting(loose)
    return nest(given | flatten(loose)), None


def _object(filename: str) -> dict[str, Any]:
    from monitor.wire.qmpjson import JSONParseError
    from monitor.wire.qmpstream import one_value

    try:
        value = one_value(filename.removeprefix(PREFIX))
    except JSONParseError as error:
        raise BadJSONName(str(error)) from error
    if not isinstance(value, dict):
        raise NotAnObject
    check_nesting(value)
    return value


def _is_backing(key: str) -> bool:
    """Where null says something: there is to be no backing image."""
    return key.rpartition(".")[2] == "backing"


def _text(value: Any) -> str | None:
    """A scalar as option strings have it; the walk that decodes them knows what is wanted."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)
