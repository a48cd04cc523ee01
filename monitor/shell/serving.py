"""Serving QMP: on standard input and output, or on sockets."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING

from monitor.servers.channel import FdChannel
from monitor.servers.door import STDIO
from monitor.servers.qmp import Human, QmpServer
from monitor.shell.lifetime import Ending, run_loop, with_engine
from monitor.shell.status import Status
from monitor.version import QEMU_VERSION, package
from monitor.wire.qmp import Version

if TYPE_CHECKING:
    from monitor.engine.api import Engine
    from monitor.engine.errors import MonitorError
    from monitor.options import Options
    from monitor.servers.door import Door


def serve_qmp(options: Options) -> int:
    """QMP on standard input and output, or on sockets, or all of them."""

    async def front_end(engine: Engine) -> int:
        version = Version(*QEMU_VERSION, package())
        ending = Ending(engine)

        def human() -> Human:
            return _human_lines(engine, lambda: ending.tell(Status.OK))

        server = QmpServer(engine, version, human, _report)
        async with _doors(server, [door for door in options.qmp if door is not STDIO]):
            if STDIO in options.qmp:
                server.begin(FdChannel(0, 1), last=True)
            return await ending.or_end_of(server.run())

    return run_loop(with_engine(options, front_end))


@contextlib.asynccontextmanager
async def _doors(server: QmpServer, wanted: Sequence[Door]) -> AsyncIterator[None]:
    """The sockets that clients come by. Raises RequestError."""
    if not wanted:
        yield
        return
    from monitor.servers.doors import Doors

    doors = Doors(server)
    try:
        for door in wanted:
            await doors.open(door)
        yield
    finally:
        doors.close()


def _human_lines(engine: Engine, quit: Callable[[], None]) -> Human:
    """A client's human monitor. All of its language is loaded at its first line."""
    lines: Human | None = None

    async def enter(line: str) -> str:
        nonlocal lines
        if lines is None:
            from monitor.shell.human import HumanLines

            lines = HumanLines(engine, quit)
        return await lines(line)

    return enter


def _report(error: Exception) -> MonitorError:
    from monitor.shell.log import log_failure

    return log_failure(error)
