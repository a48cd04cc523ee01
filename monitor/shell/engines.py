"""The engine of this process, with the servers of its exports: the only place that knows which."""

from __future__ import annotations

from monitor.engine.api import ExportServer
from monitor.engine.embedded import EmbeddedEngine


def embedded_engine() -> EmbeddedEngine:
    """A new one. On the control loop."""
    engine = EmbeddedEngine()
    engine.serve_exports("nbd", _nbd_server)
    engine.serve_exports("fuse", _fuse_server)
    return engine


def _nbd_server() -> ExportServer:
    from monitor.servers.nbd.server import NbdServer

    return NbdServer()


def _fuse_server() -> ExportServer:
    from monitor.servers.fuse.server import FuseServer

    return FuseServer()
