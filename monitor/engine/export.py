"""One export: a node as a server offers it to other programs.

Its server (NBD, FUSE) lives outside of the engine, and serves it from threads of its own through
the operations here, in lanes.

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

from monitor.engine.drivers.base import DriverKind, ExtentKind
from monitor.engine.graph.allocation import allocated_by, runs_of, runs_through
from monitor.engine.graph.client import Client
from monitor.engine.graph.drive import Drive
from monitor.engine.graph.graph import Graph
from monitor.engine.graph.node import Node
from monitor.engine.schema.export import (
    AnyExportOptions,
    BlockExportInfo,
)

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from monitor.engine.bitmap import DirtyBitmap
    from monitor.engine.graph.edge import RootEdge
    from monitor.engine.objects.iothread import Iothread

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

    @property
    def stays_in_place(self) -> bool:
        return self.options.fixed_iothread is True

    def moved(self, iothread: Iothread | None) -> None:
        self.use(iothread)

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
