"""Exports: nodes that servers offer to other programs, and the servers by type.

A server (NBD, FUSE) lives outside of the engine. It is registered here as what makes it, which is
called when a first request needs it; from then on it is given the exports of its type, and serves
them from threads of its own through ``Export``'s operations, in lanes.

An export that is taken back while clients use it is *shutting down*: no client finds it any more,
those who use it are hung up on, and when the last has gone it goes too.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from monitor.engine import permissions
from monitor.engine.api import ExportServer
from monitor.engine.drivers.base import DriverKind, ExtentKind
from monitor.engine.errors import RequestError
from monitor.engine.graph.allocation import allocated_by, runs_of, runs_through
from monitor.engine.graph.bitmaps import bitmap_of, find_bitmap
from monitor.engine.graph.bitmaps import check as check_bitmap
from monitor.engine.graph.client import Client
from monitor.engine.graph.drive import Drive
from monitor.engine.graph.graph import Graph
from monitor.engine.graph.node import Node
from monitor.engine.names import well_formed
from monitor.engine.schema.export import (
    AnyExportOptions,
    BlockExportInfo,
    BlockExportOptionsFuse,
    BlockExportOptionsNbd,
    BlockExportRemoveMode,
)

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from monitor.engine.bitmap import DirtyBitmap
    from monitor.engine.graph.edge import RootEdge
    from monitor.engine.objects.iothread import Iothread


class InvalidExportId(RequestError):
    template = "Invalid block export id"
    id: str


class ExportIdTaken(RequestError):
    template = "Block export id '{id}' is already in use"
    id: str


class NoExportDriver(RequestError):
    template = "No driver found for the requested export type"
    type: str


class IothreadNotFound(RequestError):
    template = 'iothread "{id}" not found'
    id: str


class CannotWriteReadOnly(RequestError):
    template = "Cannot export read-only node as writable"
    node: str


class ExportNotFound(RequestError):
    template = "Export '{name}' is not found"
    name: str


class ExportShuttingDown(RequestError):
    template = "Export '{name}' already shutting down"
    name: str


class ExportedBitmapNotFound(RequestError):
    template = "Bitmap '{name}' is not found"
    name: str


class ExportedBitmapGrows(RequestError):
    template = "Enabled bitmap '{name}' incompatible with readonly export"
    name: str


class ExportInUse(RequestError):
    template = "export '{name}' still in use"
    hint = "Use mode='hard' to force client disconnect"
    name: str


STATUS_WINDOW = 64 << 20
"""Bytes of a chain that are looked at in one go for a client's question about allocation."""


class Export(Client):
    """One export: the client that its server's requests enter the graph through.

    The operations (``read`` … ``discard``) are made in a lane, as of any client; questions about
    allocation too. Offsets and lengths are bytes.
    """

    def __init__(self, graph: Graph, options: AnyExportOptions) -> None:
        super().__init__()
        self._graph = graph
        self.options = options
        self.id = options.id
        self.writable = options.writable is True
        self.writethrough = options.writethrough is True
        self.bitmaps: Mapping[str, DirtyBitmap] = {}
        """Those that its clients may read, by name; nobody changes them meanwhile."""
        self.shutting_down = False
        self._iothread: Iothread | None = None
        self.drive: Drive | None = None
        """The drive whose disk it offers, and with which it goes (nbd-server-add)."""
        self.unused = asyncio.Event()
        """Set once it is shutting down and its last user has gone."""
        self._loop = asyncio.get_running_loop()
        self._users: list[Callable[[], None]] = []
        self._resizes: set[asyncio.Task[None]] = set()
        """Those that wait for their turn."""

    @property
    def type(self) -> str:
        return str(type(self.options).__struct_config__.tag)

    def use(self, iothread: Iothread | None) -> None:
        """Long requests are done on its threads; None: no longer."""
        for each, change in ((self._iothread, -1), (iothread, 1)):
            if each is not None:
                each.users += change
        self._iothread = iothread

    @property
    def workers(self) -> ThreadPoolExecutor | None:
        """Where long requests are to be done; None: where its server likes."""
        return None if self._iothread is None else self._iothread.workers

    @property
    def root(self) -> RootEdge:
        return self.roots[0]

    @property
    def node(self) -> Node:
        return self.root.child

    def info(self) -> BlockExportInfo:
        kind: Any = self.type
        return BlockExportInfo(
            id=self.id, type=kind, node_name=self.node.name, shutting_down=self.shutting_down
        )

    # -- its users, from any thread ----------------------------------------------------------

    def enter(self, hang_up: Callable[[], None]) -> bool:
        """A connection begins to use the export. False when it is too late for that. ``hang_up``
        ends it from outside: it is called on the loop and must return at once."""
        with self.lock:
            if self.shutting_down:
                return False
            self._users.append(hang_up)
            return True

    def leave(self, hang_up: Callable[[], None]) -> None:
        with self.lock:
            self._users.remove(hang_up)
            last = self.shutting_down and not self._users
        if last:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self.unused.set)

    @property
    def in_use(self) -> bool:
        return bool(self._users)

    def shut_down(self) -> None:
        """Lets nobody in any more and hangs up on all who are in. On the loop."""
        with self.lock:
            self.shutting_down = True
            users = list(self._users)
        for task in self._resizes:
            task.cancel()
        for hang_up in users:
            hang_up()
        if not users:
            self.unused.set()

    # -- what its server asks, in a lane -----------------------------------------------------

    def length(self) -> int:
        return self.root.length()

    def allocated(self) -> int | None:
        return allocated_by(self.node)

    def resize(self, size: int, *, at_least: bool) -> None:
        """Sets the node's size, or makes it no smaller than that. The calling thread is in no
        lane, and waits for its turn. Raises RequestError, and OSError."""
        change = self._resize(size, at_least)
        try:
            asyncio.run_coroutine_threadsafe(change, self._loop).result()
        except (CancelledError, RuntimeError) as error:  # it is taken back; the loop has ended
            change.close()
            raise OSError(errno.ESHUTDOWN, os.strerror(errno.ESHUTDOWN)) from error

    async def _resize(self, size: int, at_least: bool) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self.shutting_down:
            raise OSError(errno.ESHUTDOWN, os.strerror(errno.ESHUTDOWN))
        self._resizes.add(task)
        try:
            await self._graph.turn.acquire()
        finally:
            self._resizes.discard(task)
        try:
            if at_least and size <= self.length():
                return
            async with self._graph.drained(self.node):
                await self._graph.in_worker(self.root.truncate, size)
        finally:
            self._graph.turn.release()

    # The root's operations are looked up at each call: the graph may have been rewired.

    def read(self, buffer: memoryview, offset: int) -> None:
        self.roots[0].read(buffer, offset)

    def write(self, buffer: memoryview, offset: int) -> None:
        self.roots[0].write(buffer, offset)

    def write_zeroes(self, offset: int, length: int, may_unmap: bool, no_fallback: bool) -> None:
        self.roots[0].write_zeroes(offset, length, may_unmap, no_fallback)

    def discard(self, offset: int, length: int) -> None:
        self.roots[0].discard(offset, length)

    def flush(self) -> None:
        self.roots[0].flush()

    def allocation(self, offset: int, length: int) -> Iterator[tuple[int, bool, bool]]:
        """Runs (length, is a hole, reads as zeroes) of what the node shows, however deep."""
        layers = [node for node in self.node.chain() if not node.is_filter]
        end = offset + length
        while offset < end:
            step = min(STATUS_WINDOW, end - offset)
            for run in runs_through(layers, offset, step):
                nothing = run.kind is not ExtentKind.DATA
                yield run.length, nothing, nothing
            offset += step

    def plain(self, offset: int, length: int) -> tuple[int, int, int] | None:
        """Where the bytes lie in a host file, for as long as nobody changes the graph. Not in an
        image format's file: what a client is still being sent may be another's bytes there by
        the time it arrives."""
        node = self.node
        while node.driver.kind is DriverKind.FORMAT or node.driver.kind is DriverKind.FILTER:
            below = node.data_child
            if below is None or not (node.is_filter or node.driver.name == "raw"):
                return None
            node = below
        runs = self.root.map(offset, length)
        if not runs or runs[0].kind is not ExtentKind.DATA or runs[0].host < 0:
            return None
        return runs[0].host, runs[0].host_offset, min(runs[0].length, length)

    def depth(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Runs (length, depth): 1 where the topmost layer holds the bytes, 2 the one below it, …;
        0 where no layer does."""
        layers = [node for node in self.node.chain() if not node.is_filter]
        end = offset + length
        while offset < end:
            step = min(STATUS_WINDOW, end - offset)
            yield from _depths(layers, offset, step)
            offset += step

    def dirty(self, bitmap: str, offset: int, length: int) -> Iterator[tuple[int, bool]]:
        """Runs (length, dirty) of a bitmap."""
        at, end = offset, offset + length
        for start, size in self.bitmaps[bitmap].areas(offset, end):
            if start > at:
                yield start - at, False
            yield size, True
            at = start + size
        if at < end:
            yield end - at, False


def _depths(layers: list[Node], offset: int, length: int) -> Iterator[tuple[int, int]]:
    runs = [(offset, length, 0)]
    for depth, layer in enumerate(layers, 1):
        below: list[tuple[int, int, int]] = []
        for start, size, found in runs:
            if found:
                below.append((start, size, found))
                continue
            for run in runs_of(layer, start, size):
                held = run.kind is not ExtentKind.UNALLOCATED
                below.append((run.offset, run.length, depth if held else 0))
        runs = below
    for _, size, depth in runs:
        yield size, depth


def _bitmaps_of(graph: Graph, node: Node, options: AnyExportOptions) -> dict[str, DirtyBitmap]:
    """The bitmaps that an export names: of the node, of a layer below it, or of a node of their
    own. Raises RequestError."""
    found: dict[str, DirtyBitmap] = {}
    offered = options.bitmaps if isinstance(options, BlockExportOptionsNbd) else UNSET
    for named in () if offered is UNSET else offered:
        if isinstance(named, str):
            owner = next((layer for layer in node.chain() if named in layer.bitmaps), None)
            if owner is None:
                raise ExportedBitmapNotFound(named)
            bitmap = bitmap_of(owner, named)
        else:
            owner, bitmap = find_bitmap(graph, named.node, named.name)
        check_bitmap(owner, bitmap, readonly=True)
        name = bitmap.name or ""
        if options.writable is not True and not node.read_only and bitmap.enabled:
            raise ExportedBitmapGrows(name)
        found[name] = bitmap
    return found


class Exports:
    """All exports by id, and the servers by type of export."""

    def __init__(self, graph: Graph, makers: Mapping[str, Callable[[], ExportServer]]) -> None:
        self.by_id: dict[str, Export] = {}
        self._graph = graph
        self._makers = makers
        self._servers: dict[str, ExportServer] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    def server(self, kind: str) -> ExportServer:
        """Raises NoExportDriver."""
        if kind not in self._servers:
            if kind not in self._makers:
                raise NoExportDriver(kind)
            self._servers[kind] = self._makers[kind]()
        return self._servers[kind]

    async def add(self, options: AnyExportOptions, node: Node) -> Export:
        """Offers a node. The caller has the turn. Raises RequestError and changes nothing then."""
        if not well_formed(options.id):
            raise InvalidExportId(options.id)
        if options.id in self.by_id:
            raise ExportIdTaken(options.id)
        export = Export(self._graph, options)
        server = self.server(export.type)
        if export.writable and node.read_only:
            raise CannotWriteReadOnly(node.name)
        iothread = self._iothread(options)
        server.check(options)
        bitmaps = _bitmaps_of(self._graph, node, options)
        taken = permissions.CONSISTENT_READ | (permissions.WRITE if export.writable else 0)
        shared = permissions.ALL & ~permissions.RESIZE  # NBD's clients are told the size once
        if isinstance(options, BlockExportOptionsFuse):  # and a file that is written may change it
            grows = export.writable or options.growable is True
            taken |= permissions.RESIZE if grows else 0
            shared = permissions.ALL
        await self._graph.make_ready(node, taken)
        self._graph.add_client(export, node, taken, shared)
        export.bitmaps = bitmaps
        export.use(iothread)
        for bitmap in bitmaps.values():
            bitmap.busy = True
        self.by_id[export.id] = export
        try:
            await server.offer(export)
        except BaseException:
            await self._forget(export)
            raise
        return export

    def find(self, export_id: str) -> Export:
        """Raises ExportNotFound."""
        export = self.by_id.get(export_id)
        if export is None:
            raise ExportNotFound(export_id)
        return export

    async def remove(self, export: Export, mode: BlockExportRemoveMode = "safe") -> None:
        """Takes an export back; with ``hard`` also from clients who use it, in which case it goes
        when they have. The caller has the turn. Raises RequestError."""
        if export.shutting_down:
            raise ExportShuttingDown(export.id)
        if mode == "safe" and export.in_use:
            raise ExportInUse(export.id)
        used = export.in_use
        self._shut(export)
        if not used:  # by its server at most, while that takes down what it had put up
            await export.unused.wait()
        if export.unused.is_set():
            await self._gone(export)
        else:
            task = asyncio.ensure_future(self._go(export))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def remove_all(self, kind: str | None = None) -> None:
        """Takes back all exports (of a type), by force, and waits until they have gone. The caller
        has the turn."""
        chosen = [e for e in self.by_id.values() if kind in (None, e.type)]
        for export in chosen:
            if not export.shutting_down:
                self._shut(export)
        for export in chosen:
            await export.unused.wait()
            await self._gone(export)

    async def remove_of(self, drive: Drive) -> None:
        """Takes back, by force, what nbd-server-add offers of a drive. The caller has the turn."""
        for export in [e for e in self.by_id.values() if e.drive is drive]:
            if not export.shutting_down:
                await self.remove(export, "hard")

    async def close(self) -> None:
        """The end: all servers, then all exports."""
        for server in self._servers.values():
            await server.stop()
        await self.remove_all()

    def _iothread(self, options: AnyExportOptions) -> Iothread | None:
        """Raises IothreadNotFound."""
        if options.iothread is UNSET:
            return None
        from monitor.engine.objects.iothread import Iothread

        found = self._graph.objects.by_id.get(str(options.iothread))
        if not isinstance(found, Iothread):
            raise IothreadNotFound(str(options.iothread))
        return found

    def _shut(self, export: Export) -> None:
        self.server(export.type).withdraw(export)
        export.shut_down()

    async def _go(self, export: Export) -> None:
        await export.unused.wait()
        async with self._graph.turn:
            await self._gone(export)

    async def _gone(self, export: Export) -> None:
        if self.by_id.get(export.id) is not export:
            return
        await self._forget(export)
        self._graph.emit("BLOCK_EXPORT_DELETED", {"id": export.id})

    async def _forget(self, export: Export) -> None:
        for bitmap in export.bitmaps.values():
            bitmap.busy = False
        export.use(None)
        await self._graph.remove_client(export)
        del self.by_id[export.id]
