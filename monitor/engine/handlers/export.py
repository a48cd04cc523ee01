"""Exports added and taken back; the NBD server begun and ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

from msgspec import UNSET

from monitor.engine.api import ExportServer
from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import RequestError, ServerNotRunning
from monitor.engine.handlers import handles
from monitor.engine.schema.base import given
from monitor.engine.schema.bitmap import BlockDirtyBitmapOrStr
from monitor.engine.schema.export import (
    BlockExportAdd,
    BlockExportDel,
    BlockExportInfo,
    BlockExportOptionsNbd,
    BlockExportRemoveMode,
    NbdServerAdd,
    NbdServerRemove,
    NbdServerStart,
    NbdServerStop,
    QueryBlockExports,
)

if TYPE_CHECKING:
    import ssl

    from monitor.engine.graph.node import Node

NBD = "nbd"


class ListeningServer(ExportServer, Protocol):
    """The NBD server, which is begun and ended by requests."""

    @property
    def running(self) -> bool: ...

    async def start(self, request: NbdServerStart, tls: ssl.SSLContext | None) -> None:
        """Listens; with ``tls`` nobody is let in unencrypted. Raises RequestError."""


class AlreadyRunning(RequestError):
    template = "NBD server already running"


class NoAuthorisation(RequestError):
    template = "Parameter 'tls-authz' is not supported here"
    hint = "verify-peer of the credentials lets in whoever ca-cert.pem has signed"


def _nbd(engine: EmbeddedEngine) -> ListeningServer:
    return cast("ListeningServer", engine.exports.server(NBD))


@handles(NbdServerStart)
async def nbd_server_start(engine: EmbeddedEngine, request: NbdServerStart) -> None:
    async with engine.graph.turn:
        server = _nbd(engine)
        if server.running:
            raise AlreadyRunning()
        tls = None
        if request.tls_authz is not UNSET:
            raise NoAuthorisation()
        if request.tls_creds is not UNSET:
            from monitor.engine.objects.tls import serving

            tls = serving(engine.graph.objects, str(request.tls_creds))
        await server.start(request, tls)


@handles(NbdServerStop)
async def nbd_server_stop(engine: EmbeddedEngine, request: NbdServerStop) -> None:
    async with engine.graph.turn:
        server = _nbd(engine)
        if not server.running:
            raise ServerNotRunning()
        await server.stop()
        await engine.exports.remove_all(NBD)


@handles(BlockExportAdd)
async def block_export_add(engine: EmbeddedEngine, request: BlockExportAdd) -> None:
    async with engine.graph.turn:
        engine.exports.check_id(request.options.id)
        node = engine.graph.find_either(None, request.options.node_name)
        await engine.exports.add(request.options, node)


@handles(NbdServerAdd)
async def nbd_server_add(engine: EmbeddedEngine, request: NbdServerAdd) -> None:
    """As block-export-add with the export's name for an id; a read-only image is no mistake."""
    async with engine.graph.turn:
        node: Node = engine.graph.find(request.device)
        if not _nbd(engine).running:
            raise ServerNotRunning()
        name = given(request.name, request.device)
        bitmaps: list[BlockDirtyBitmapOrStr] = []
        if request.bitmap is not UNSET:
            bitmaps = [str(request.bitmap)]
        options = BlockExportOptionsNbd(
            id=name,
            node_name=node.name,
            writable=request.writable is True and not node.read_only,
            name=name,
            description=request.description,
            bitmaps=bitmaps or UNSET,
        )
        export = await engine.exports.add(options, node)
        export.drive = engine.graph.drives.get(request.device)


@handles(NbdServerRemove)
async def nbd_server_remove(engine: EmbeddedEngine, request: NbdServerRemove) -> None:
    await _remove(engine, request.name, given(request.mode, "safe"))


@handles(BlockExportDel)
async def block_export_del(engine: EmbeddedEngine, request: BlockExportDel) -> None:
    await _remove(engine, request.id, given(request.mode, "safe"))


async def _remove(engine: EmbeddedEngine, name: str, mode: BlockExportRemoveMode) -> None:
    async with engine.graph.turn:
        await engine.exports.remove(engine.exports.find(name), mode)


@handles(QueryBlockExports)
async def query_block_exports(
    engine: EmbeddedEngine, request: QueryBlockExports
) -> list[BlockExportInfo]:
    return [export.info() for export in reversed(engine.exports.by_id.values())]
