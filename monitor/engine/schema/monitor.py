"""Requests on the monitor itself."""

from __future__ import annotations

from monitor.engine.schema.base import Request, Result


class VersionTriple(Result, kw_only=True):
    major: int
    minor: int
    micro: int


class VersionInfo(Result, kw_only=True):
    """``package`` names this program and its own version."""

    qemu: VersionTriple
    package: str


class CommandInfo(Result, kw_only=True):
    name: str


class QueryVersion(Request, kw_only=True, tag="query-version"):
    """The version of QEMU that is spoken here, and of this program."""

    returns = VersionInfo


class QueryCommands(Request, kw_only=True, tag="query-commands"):
    """Every request that can be made."""

    returns = list[CommandInfo]


class Quit(Request, kw_only=True, tag="quit"):
    """Cancel jobs, write everything back and end."""
