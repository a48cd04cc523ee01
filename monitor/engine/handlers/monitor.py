"""Requests on the monitor itself."""

from __future__ import annotations

from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.handlers import handles
from monitor.engine.schema.base import request_types
from monitor.engine.schema.monitor import (
    CommandInfo,
    QueryCommands,
    QueryVersion,
    Quit,
    VersionInfo,
    VersionTriple,
)
from monitor.version import QEMU_VERSION, package


@handles(QueryVersion)
async def query_version(engine: EmbeddedEngine, request: QueryVersion) -> VersionInfo:
    major, minor, micro = QEMU_VERSION
    return VersionInfo(qemu=VersionTriple(major=major, minor=minor, micro=micro), package=package())


@handles(QueryCommands)
async def query_commands(engine: EmbeddedEngine, request: QueryCommands) -> list[CommandInfo]:
    return [CommandInfo(name=name) for name in request_types()]


@handles(Quit)
async def quit_now(engine: EmbeddedEngine, request: Quit) -> None:
    """The front end ends its session on this request; what is open is closed here."""
    await engine.shut_down()
