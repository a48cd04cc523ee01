"""The commands that a QMP session knows beside the engine's, for those who ask what there is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from msgspec import UNSET, UnsetType

from monitor.engine.schema.base import Options, QInt
from monitor.engine.schema.introspect import SchemaInfo
from monitor.engine.schema.monitor import CommandInfo
from monitor.engine.schema.shapes import CommandShape, schema_of
from monitor.servers.qmp import HUMAN
from monitor.wire.qmp import NEGOTIATE


class NegotiateCapabilities(Options, kw_only=True):
    """As ``wire.qmp`` takes it; declared for query-qmp-schema."""

    enable: list[Literal["oob"]] | UnsetType = UNSET


class HumanMonitorCommand(Options, kw_only=True):
    command_line: str
    cpu_index: QInt | UnsetType = UNSET


_SHAPES = {
    NEGOTIATE: CommandShape(NEGOTIATE, NegotiateCapabilities),
    HUMAN: CommandShape(HUMAN, HumanMonitorCommand, str),
}


def add_commands(commands: list[CommandInfo], own: Sequence[str]) -> list[CommandInfo]:
    """What query-commands answers, and the session's ``own``."""
    return [*commands, *(CommandInfo(name=name) for name in own)]


def add_schema(schema: list[SchemaInfo], own: Sequence[str]) -> list[SchemaInfo]:
    """What query-qmp-schema answers, and the ``own`` commands with their types."""
    known = {entry.name for entry in schema}
    added = schema_of((_SHAPES[name] for name in own), prefix="session-")
    return [*schema, *(entry for entry in added if entry.name not in known)]
