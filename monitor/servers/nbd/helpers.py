"""What of a client's work is not short: done beside its connection's thread.

How much may be under way is bounded twice, for a client and for all of them together. Nobody waits
for another client: where the server has no room left, a client waits until its own requests are
done, and one of them may always be under way. So whoever stops reading holds up himself alone.
"""

from __future__ import annotations

import mmap
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, Protocol

from monitor.servers.nbd.serving import PIECE, Serving
from monitor.wire.nbd import layout as n

if TYPE_CHECKING:
    from monitor.engine.api import Lane
    from monitor.wire.nbd import transmission as t

THREADS: Final = 4
"""Threads of a client."""
IN_FLIGHT: Final = 2 * n.MAX_PAYLOAD
"""Bytes of data of a client's long requests that are under way at once."""
REQUESTS: Final = 64
"""Long requests of a client that are under way at once."""
ALL_IN_FLIGHT: Final = 8 * n.MAX_PAYLOAD
"""Bytes of data of all clients' long requests, beside one request of each."""


class ClientGone(Exception):
    """Nothing more can be sent to the client."""


class Peer(Protocol):
    """The client."""

    def send(self, *buffers: bytes | memoryview) -> None:
        """Raises ClientGone."""

    def hang_up(self) -> None: ...


class Budget:
    """Bytes that a server's clients may have under way together."""

    def __init__(self, limit: int = ALL_IN_FLIGHT) -> None:
        self._lock = threading.Lock()
        self._left = limit

    def take(self, size: int, *, anyway: bool) -> bool:
        """Whether there was room; ``anyway`` it is taken all the same."""
        with self._lock:
            if size > self._left and not anyway:
                return False
            self._left -= size
            return True

    def give_back(self, size: int) -> None:
        with self._lock:
            self._left += size


class Helpers:
    """Those of one client. ``alone``: its connection's own thread does everything."""

    def __init__(self, serving: Serving, peer: Peer, budget: Budget, *, alone: bool) -> None:
        self._serving = serving
        self._peer = peer
        self._budget = budget
        self._alone = alone
        self._threads: list[threading.Thread] = []
        self._todo: SimpleQueue[tuple[t.NbdRequest, memoryview] | None] = SimpleQueue()
        self._changed = threading.Condition()
        self._under_way = 0
        self._held = 0
        self._idle = 0

    def __enter__(self) -> Helpers:
        return self

    def __exit__(self, *reason: object) -> None:
        """Waits for all that is under way."""
        for _ in self._threads:
            self._todo.put(None)
        for thread in self._threads:
            thread.join()
        with self._changed:
            self._changed.wait_for(lambda: not self._under_way)

    def submit(self, request: t.NbdRequest, data: memoryview) -> None:
        """``room`` was made for it. In the connection's thread."""
        if self._alone:
            self._do_once(request, data)
        elif not self._given_away(request, data):
            with self._changed:
                if not self._idle and len(self._threads) < THREADS:
                    thread = threading.Thread(target=self._main, name="nbd helper", daemon=True)
                    self._threads.append(thread)
                    thread.start()
            self._todo.put((request, data))

    def _given_away(self, request: t.NbdRequest, data: memoryview) -> bool:
        """Whether the threads of the export's iothread do it, if it is on any just now."""
        pool = self._serving.export.workers
        if pool is None:
            return False
        try:
            pool.submit(self._do_once, request, data)
        except RuntimeError:  # the export has been moved off it meanwhile, and it is gone
            return False
        return True

    def room(self, request: t.NbdRequest) -> memoryview:
        """A buffer for a write's data (an empty one for other requests); waits while too much is
        under way. ``submit`` must follow, or ``forget``."""
        cost = self._cost(request)
        with self._changed:
            self._changed.wait_for(lambda: self._fits(cost))
            self._under_way += 1
            self._held += cost
        size = request.length if request.type == n.CMD_WRITE else 0
        return memoryview(mmap.mmap(-1, size)) if size else memoryview(bytearray())

    def forget(self, request: t.NbdRequest) -> None:
        """The request has ended, in whatever way."""
        cost = self._cost(request)
        self._budget.give_back(cost)
        with self._changed:
            self._under_way -= 1
            self._held -= cost
            self._changed.notify()

    def _fits(self, cost: int) -> bool:
        """Whether there is room, which is taken from the server's then."""
        first = not self._under_way
        if not first and (self._held + cost > IN_FLIGHT or self._under_way >= REQUESTS):
            return False
        return self._budget.take(cost, anyway=first)

    def _cost(self, request: t.NbdRequest) -> int:
        """Bytes of memory that it takes."""
        if request.type == n.CMD_WRITE:
            return request.length
        if request.type == n.CMD_READ:
            whole = self._serving.at_once(request)
            return min(request.length, n.MAX_PAYLOAD if whole else PIECE)
        return 0

    # -- in other threads --------------------------------------------------------------------

    def _main(self) -> None:
        export = self._serving.export
        lane = export.lane()
        try:
            while True:
                with self._changed:
                    self._idle += 1
                work = self._todo.get()
                with self._changed:
                    self._idle -= 1
                if work is None:
                    return
                self._do(*work, lane)
        finally:
            export.drop_lane(lane)

    def _do_once(self, request: t.NbdRequest, data: memoryview) -> None:
        lane = self._serving.export.lane()
        try:
            self._do(request, data, lane)
        finally:
            self._serving.export.drop_lane(lane)

    def _do(self, request: t.NbdRequest, data: memoryview, lane: Lane) -> None:
        try:
            self._serving.carry_out(request, data, lane, self._peer.send)
        except ClientGone:
            self._peer.hang_up()
        except BaseException:
            self._peer.hang_up()
            raise
        finally:
            self.forget(request)
