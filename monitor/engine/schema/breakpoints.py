"""Breakpoints of ``blkdebug`` nodes, which QMP does not have."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, UnsetType

from monitor.engine.schema.base import DeviceName, Request


class Breakpoint(Request, kw_only=True, tag="x-blkmon-breakpoint"):
    """Hold requests at an event of a ``blkdebug`` node, and let them go."""

    device: DeviceName
    operation: Literal["set", "remove", "resume", "wait"]
    tag: Annotated[str, "the name of the breakpoint, and of what stands at it"]
    event: Annotated[str, "what a driver is about to do (set)"] | UnsetType = UNSET
