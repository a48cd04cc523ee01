"""An open descriptor of a host file, and the state of a driver that transactions change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from monitor.engine import permissions
from monitor.engine.drivers.base import OpenFlags
from monitor.engine.drivers.file.direct import DirectIO


class Handle:
    """An open descriptor, and how it is open."""

    def __init__(
        self, fd: int, size_of: Callable[[int], int], *, writable: bool, direct: bool
    ) -> None:
        self.fd = fd
        self.writable = writable
        self.direct = DirectIO(fd, size_of) if direct else None

    def suits(self, *, writable: bool, direct: bool) -> bool:
        return self.writable == writable and (self.direct is not None) == direct


@dataclass(frozen=True, slots=True)
class State:
    """Everything that a transaction may change."""

    flags: OpenFlags
    handle: Handle
    taken: int = 0
    shared: int = permissions.ALL

    @property
    def shared_with_others(self) -> int:
        return permissions.ALL if self.flags.force_share else self.shared


def wants_writable(flags: OpenFlags, taken: int) -> bool:
    """An auto-read-only file is open read-write only while somebody writes."""
    if flags.read_only:
        return False
    return not flags.auto_read_only or bool(taken & permissions.WRITERS)
