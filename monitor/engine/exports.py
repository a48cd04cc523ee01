"""Exports: nodes that servers offer to other programs, and the servers by type.

A server (NBD, FUSE) lives outside of the engine. It is registered here as what makes it, which is
called when a first request needs it; from then on it is given the exports of its type.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from msgspec import UNSET

from monitor.engine import permissions
from monitor.engine.api import ExportServer
from monitor.engine.errors import RequestError
from monitor.engine.export import Export
from monitor.engine.graph.bitmaps import bitmap_of, find_bitmap
from monitor.engine.graph.bitmaps import check as check_bitmap
from monitor.engine.graph.drive import Drive
from monitor.engine.graph.graph import Graph
from monitor.engine.graph.iothreads import CannotMove, move, place_of
from monitor.engine.graph.node import Node
from monitor.engine.names import well_formed
from monitor.engine.schema.export import (
    AnyExportOptions,
    BlockExportOptionsFuse,
    BlockExportOptionsNbd,
    BlockExportRemoveMode,
)

if TYPE_CHECKING:
    from monitor.engine.bitmap import DirtyBitmap


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

    def check_id(self, export_id: str) -> None:
        """Raises when no new export may have this id."""
        if not well_formed(export_id):
            raise InvalidExportId(export_id)
        if export_id in self.by_id:
            raise ExportIdTaken(export_id)

    async def add(self, options: AnyExportOptions, node: Node) -> Export:
        """Offers a node. The caller has the turn. Raises RequestError and changes nothing then."""
        self.check_id(options.id)
        export = Export(self._graph, options)
        server = self.server(export.type)
        if export.writable and node.read_only:
            raise CannotWriteReadOnly(node.name)
        self._move(node, options)
        taken = permissions.CONSISTENT_READ | (permissions.WRITE if export.writable else 0)
        shared = permissions.ALL & ~permissions.RESIZE  # NBD's clients are told the size once
        if isinstance(options, BlockExportOptionsFuse):  # and a file that is written may change it
            grows = export.writable or options.growable is True
            taken |= permissions.RESIZE if grows else 0
            shared = permissions.ALL
        await self._graph.make_ready(node, taken)
        self._graph.add_client(export, node, taken, shared)
        try:
            server.check(options)
            export.bitmaps = _bitmaps_of(self._graph, node, options)
        except BaseException:
            await self._graph.remove_client(export)
            raise
        export.use(place_of(node))
        for bitmap in export.bitmaps.values():
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

    def _move(self, node: Node, options: AnyExportOptions) -> None:
        """To the iothread that is asked for; where that cannot be, it stays, unless the export
        insists. Raises IothreadNotFound and CannotMove."""
        if options.iothread is UNSET:
            return
        from monitor.engine.objects.iothread import iothread_of

        found = iothread_of(self._graph.objects, str(options.iothread))
        if found is None:
            raise IothreadNotFound(str(options.iothread))
        try:
            move(node, found)
        except CannotMove:
            if options.fixed_iothread is True:
                raise

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
