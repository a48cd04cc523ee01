"""Edges: how a parent (a node or a client) sees a child node."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from monitor.engine import permissions
from monitor.engine.drivers.base import Operations, Ranges, Reservation

if TYPE_CHECKING:
    from monitor.engine.graph.client import Client
    from monitor.engine.graph.node import Node

OPERATIONS = (
    "read",
    "write",
    "write_zeroes",
    "discard",
    "flush",
    "map",
    "hold",
    "map_for_write",
    "read_ranges",
    "write_ranges",
    "write_compressed",
)


class Edge(Operations):
    """One child of a parent, in a role, with the permissions taken and shared.

    The operations are bound to the child's pipeline by ``Graph.rewire``; this is what drivers get
    as ``Child`` (drivers/base.py).
    """

    __slots__ = ("child", "event", "frozen", "parent", "role", "shared", "taken", *OPERATIONS)

    def __init__(self, parent: Node | Client, role: str, child: Node) -> None:
        self.parent = parent
        self.role = role
        self.child = child
        self.frozen = False
        """A job relies on it: it may not be led elsewhere."""
        self.taken = 0
        self.shared = permissions.ALL
        self.bind()

    def bind(self) -> None:
        """Takes the child's pipeline as it is wired now."""
        child = self.child
        self.read = child.read
        self.write = child.write
        self.write_zeroes = child.write_zeroes
        self.discard = child.discard
        self.flush = child.flush
        self.map = child.map
        self.hold = child.hold
        self.map_for_write = child.map_for_write
        self.read_ranges = child.read_ranges
        self.write_ranges = child.write_ranges
        self.write_compressed = child.write_compressed
        self.event = child.event

    def length(self) -> int:
        return self.child.driver.length()

    def truncate(self, size: int) -> None:
        self.child.truncate(size)

    def grow(self, size: int, preallocation: str) -> None:
        self.child.grow(size, preallocation)

    def expect(self, length: int) -> None:
        self.child.driver.expect(length)

    def reserve(self, size: int) -> None:
        self.child.driver.reserve(size)

    def cluster_size(self) -> int | None:
        return self.child.cluster_size()

    @property
    def compresses(self) -> bool:
        return self.child.driver.compresses

    @property
    def alignment(self) -> int:
        return self.child.driver.alignment

    @property
    def node_name(self) -> str:
        return self.child.name

    @property
    def filename(self) -> str:
        return self.child.filename

    def describe_parent(self) -> str:
        return self.parent.describe()


class RootEdge(Edge):
    """A client's edge. Bounds and permissions of a request are checked here, once, and nowhere
    below. A request outside the disk is EIO, a write without the permission EPERM; reading is
    free, as in QEMU (taking consistent-read promises that what is read makes sense)."""

    __slots__ = ("beyond_end",)

    parent: Client

    def __init__(self, parent: Client, role: str, child: Node) -> None:
        self.beyond_end = False
        """Whether writes may grow the child (whoever formats a file)."""
        super().__init__(parent, role, child)

    def check(self, offset: int, length: int, needed: int) -> None:
        if needed and not self.taken & needed:
            raise PermissionError(errno.EPERM, "the client has not taken this permission")
        outside = offset < 0 or length < 0 or offset + length > self.child.driver.length()
        if outside and not self.beyond_end:
            raise OSError(errno.EIO, "request beyond the end of the disk")

    def bind(self) -> None:
        super().bind()
        child, check = self.child, self.check
        writing = permissions.WRITE | permissions.WRITE_UNCHANGED

        def read(buffer: memoryview, offset: int) -> None:
            check(offset, len(buffer), 0)
            child.read(buffer, offset)

        def write(buffer: memoryview, offset: int) -> None:
            check(offset, len(buffer), writing)
            child.write(buffer, offset)

        def write_zeroes(
            offset: int, length: int, may_unmap: bool = False, no_fallback: bool = False
        ) -> None:
            check(offset, length, writing)
            child.write_zeroes(offset, length, may_unmap, no_fallback)

        def discard(offset: int, length: int) -> None:
            check(offset, length, writing)
            child.discard(offset, length)

        def map_for_write(offset: int, length: int) -> Reservation | None:
            check(offset, length, writing)
            return child.map_for_write(offset, length)

        def read_ranges(buffer: memoryview, ranges: Ranges) -> None:
            for offset, length in ranges:
                check(offset, length, 0)
            child.read_ranges(buffer, ranges)

        def write_ranges(buffer: memoryview, ranges: Ranges) -> None:
            for offset, length in ranges:
                check(offset, length, writing)
            child.write_ranges(buffer, ranges)

        def write_compressed(buffer: memoryview, offset: int) -> None:
            check(offset, len(buffer), writing)
            child.write_compressed(buffer, offset)

        self.read, self.write = read, write
        self.map_for_write, self.write_compressed = map_for_write, write_compressed
        self.read_ranges, self.write_ranges = read_ranges, write_ranges
        self.write_zeroes, self.discard = write_zeroes, discard
