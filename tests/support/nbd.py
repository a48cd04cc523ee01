"""A server of our own in the test's process, whose export is bytes in memory."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from monitor.engine.drivers.base import ExtentKind
from monitor.engine.drivers.memory import MemoryDriver
from monitor.servers.nbd.connection import Connection
from monitor.servers.nbd.helpers import Budget
from monitor.wire.nbd import layout as n
from monitor.wire.nbd.offers import ALLOCATION, Offer

FLAGS = (
    n.FLAG_HAS_FLAGS | n.FLAG_SEND_FLUSH | n.FLAG_SEND_FUA | n.FLAG_SEND_TRIM
    | n.FLAG_SEND_WRITE_ZEROES | n.FLAG_SEND_FAST_ZERO | n.FLAG_SEND_DF | n.FLAG_SEND_CACHE
)  # fmt: skip


class MemoryExport:
    """``Exported`` over a memory driver; its lanes hold nobody back."""

    options: Any = None
    writable = True
    writethrough = False
    bitmaps: Mapping[str, Any] = {}
    workers = None

    def __init__(self, driver: MemoryDriver) -> None:
        self.driver = driver
        self.read = driver.read
        self.write = driver.write
        self.write_zeroes = driver.write_zeroes
        self.discard = driver.discard
        self.flush = driver.flush
        self.length = driver.length

    def enter(self, hang_up: Callable[[], None]) -> bool:
        return True

    def leave(self, hang_up: Callable[[], None]) -> None:
        pass

    def lane(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def drop_lane(self, lane: Any) -> None:
        pass

    def allocation(self, offset: int, length: int) -> Iterator[tuple[int, bool, bool]]:
        end = offset + length
        while offset < end:
            for extent in self.driver.map(offset, end - offset):
                nothing = extent.kind is not ExtentKind.DATA
                yield extent.length, nothing, nothing
                offset += extent.length

    def plain(self, offset: int, length: int) -> None:
        return None

    def depth(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        yield length, 1

    def dirty(self, bitmap: str, offset: int, length: int) -> Iterator[tuple[int, bool]]:
        yield length, False


class MemoryServer:
    """Serves ``driver`` as the export "disk" at ``path``, until ``close``."""

    tls: Any = None
    handshake_seconds = 10.0

    def __init__(
        self, path: Path, driver: MemoryDriver, *, flags: int = FLAGS, minimum_block: int = 1,
        maximum_block: int = n.MAX_PAYLOAD, contexts: tuple[str, ...] = (ALLOCATION,),
    ) -> None:  # fmt: skip
        self.offers = self
        self.budget = Budget()
        self.path = path
        self._export = MemoryExport(driver)
        self._facts = {
            "flags": flags,
            "minimum_block": minimum_block,
            "maximum_block": maximum_block,
            "contexts": contexts,
        }
        self._connections: list[Connection] = []
        self._listener = socket.socket(socket.AF_UNIX)
        path.unlink(missing_ok=True)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        self.hang_up()
        for connection in self._connections:
            connection.join()

    def hang_up(self) -> None:
        """On every client; the server goes on."""
        for connection in self._connections:
            connection.hang_up()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            for _ in itertools.count():
                sock, _address = self._listener.accept()
                connection = Connection(self, sock)
                self._connections.append(connection)
                connection.start()

    def names(self) -> Mapping[str, str]:
        return {"disk": ""}

    def find(self, name: str) -> Offer | None:
        if name != "disk":
            return None
        return Offer(name, self._export.length(), **self._facts)  # type: ignore[arg-type]

    def export(self, name: str) -> Any:
        return self._export if name == "disk" else None

    def ended(self, connection: Connection) -> None:
        pass
