"""Chains of images in memory, for jobs: what a layer does not hold shows the layer below."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from typing import Final

from monitor.engine import permissions
from monitor.engine.drivers.base import Child, Driver, DriverKind, Extent, ExtentKind, OpenContext
from monitor.engine.graph.graph import Graph
from monitor.engine.graph.node import Node
from tests.support.graphs import add, put_above

CLUSTER: Final = 4096


class OverlayDriver(Driver):
    """``size`` bytes in clusters; each holds data, zeroes (None) or nothing (absent).

    ``before`` sees every operation as in MemoryDriver. ``links`` are the backing links that were
    written, ``flushed_at_link`` whether everything was on the disk when the last one was.
    """

    name = "overlay"
    kind = DriverKind.PROTOCOL  # its file is its own
    supports_backing = True
    opens_at_once = True

    def __init__(
        self,
        size: int,
        *,
        filename: str = "",
        cluster: int = CLUSTER,
        can_zero: bool = True,
        before: Callable[[str, int, int], None] | None = None,
    ) -> None:
        self._size = size
        self._cluster = cluster
        self._filename = filename
        self._can_zero = can_zero
        self._lock = threading.Lock()
        self._clusters: dict[int, bytearray | None] = {}
        self._backing: Child | None = None
        self.before = before
        self.links: list[tuple[str | None, str | None]] = []
        self.bytes_written = 0
        self.closed = False

    def open(self, context: OpenContext) -> None:
        """There is nothing to open."""

    def close(self) -> None:
        self.closed = True

    def child_permissions(
        self, role: str, taken: int, shared: int, writable: bool
    ) -> tuple[int, int]:
        return permissions.for_backing(taken, shared)

    def length(self) -> int:
        return self._size

    def read(self, buffer: memoryview, offset: int) -> None:
        self._begin("read", offset, len(buffer))
        for number, start, at, part in self._parts(offset, len(buffer)):
            with self._lock:
                held = number in self._clusters
                data = self._clusters.get(number)
                if held:
                    view = bytes(part) if data is None else data[start : start + part]
                    buffer[at : at + part] = view
            if not held:
                self._read_backing(buffer[at : at + part], offset + at)

    def write(self, buffer: memoryview, offset: int) -> None:
        self._begin("write", offset, len(buffer))
        for number, start, at, part in self._parts(offset, len(buffer)):
            below = self._whole_cluster(number) if part < self._cluster else bytes(self._cluster)
            with self._lock:
                data = self._clusters.get(number, below)
                fresh = bytearray(self._cluster) if data is None else bytearray(data)
                fresh[start : start + part] = buffer[at : at + part]
                self._clusters[number] = fresh
                self.bytes_written += part

    def write_zeroes(
        self, offset: int, length: int, may_unmap: bool = False, no_fallback: bool = False
    ) -> None:
        self._begin("write_zeroes", offset, length)
        if not self._can_zero:
            if no_fallback:
                raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
            self.write(memoryview(bytes(length)), offset)
            return
        for number, _, at, part in self._parts(offset, length):
            end = min(self._cluster, self._size - number * self._cluster)
            if part == end:
                with self._lock:
                    self._clusters[number] = None
            else:
                self.write(memoryview(bytes(part)), offset + at)

    def flush(self) -> None:
        self._begin("flush", 0, 0)

    def truncate(self, size: int) -> None:
        self._size = size

    def map(self, offset: int, length: int) -> list[Extent]:
        self._begin("map", offset, length)
        return [
            Extent(self._kind(number), part) for number, _, _, part in self._parts(offset, length)
        ]

    @property
    def filename(self) -> str:
        return self._filename

    @property
    def backing_filename(self) -> str | None:
        return self.links[-1][0] if self.links else None

    def set_backing(self, filename: str | None, fmt: str | None) -> None:
        self._begin("set_backing", 0, 0)
        self.links.append((filename, fmt))

    def attach_backing(self, child: Child | None) -> None:
        self._backing = child

    def cluster_size(self) -> int:
        return self._cluster

    def contents(self) -> bytes:
        """What a guest sees."""
        data = bytearray(self._size)
        self.read(memoryview(data), 0)
        return bytes(data)

    def _kind(self, number: int) -> ExtentKind:
        with self._lock:
            if number not in self._clusters:
                return ExtentKind.UNALLOCATED
            held = self._clusters[number] is not None
        return ExtentKind.DATA if held else ExtentKind.ZERO

    def _begin(self, operation: str, offset: int, length: int) -> None:
        if self.before is not None:
            self.before(operation, offset, length)

    def _whole_cluster(self, number: int) -> bytes:
        start = number * self._cluster
        data = bytearray(self._cluster)
        view = memoryview(data)[: min(self._cluster, self._size - start)]
        self._read_backing(view, start)
        return bytes(data)

    def _read_backing(self, view: memoryview, offset: int) -> None:
        inside = 0
        if self._backing is not None:
            inside = max(0, min(len(view), self._backing.length() - offset))
        if inside:
            assert self._backing is not None
            self._backing.read(view[:inside], offset)
        view[inside:] = bytes(len(view) - inside)

    def _parts(self, offset: int, length: int) -> list[tuple[int, int, int, int]]:
        """(cluster, start in it, start in the request, bytes) for each cluster of a request."""
        parts, at = [], 0
        while at < length:
            number, start = divmod(offset + at, self._cluster)
            part = min(self._cluster - start, length - at)
            parts.append((number, start, at, part))
            at += part
        return parts


def layer(graph: Graph, name: str, size: int, below: Node | None = None, **kind: object) -> Node:
    """An overlay node above ``below``. ``kind`` goes to OverlayDriver, but for ``read_only``."""
    read_only = bool(kind.pop("read_only", False))
    kind.setdefault("filename", f"/images/{name}")
    driver = OverlayDriver(size, **kind)  # type: ignore[arg-type]
    node = add(graph, name, driver, read_only=read_only)
    if below is not None:
        driver.links.append((below.filename, below.driver.name))
        put_above(graph, node, below)
    return node


def overlay(node: Node) -> OverlayDriver:
    assert isinstance(node.driver, OverlayDriver)
    return node.driver


def put(node: Node, offset: int, data: bytes) -> None:
    """Bytes straight into a layer, past every permission."""
    node.driver.write(memoryview(data), offset)
