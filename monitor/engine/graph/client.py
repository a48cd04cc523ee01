"""Clients: where requests enter the graph, and the only thing with a gate.

A drive, a job, an export or the prompt's qemu-io is a client. Each of its threads has a *lane*;
requests are made inside ``with lane:``. A drained section closes the gates of every client that
reaches a node and waits until none of their lanes is busy.

    lane enters                      drain begins
    1 busy = True                    1 closed += 1
    2 closed? no: go on              2 any lane busy? no: it is quiet
      yes: busy = False, kick, wait    yes: wait for a kick, look again
    lane leaves
    3 busy = False
    4 closed? kick

Whichever side does its first step last sees the other's, so either the lane holds back or the
drain waits: no lock is needed on a request's path. This order of steps is the whole proof. It
rests on the GIL's sequential consistency; without one (free-threaded interpreters), a lane takes
the client's lock around its two steps.

Rules in a lane: enter no other lane; hold no lock when entering; wait only for the driver's own
I/O or for another request in a lane.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar

from monitor.engine.accounting import Account
from monitor.engine.graph.edge import Edge, RootEdge

if TYPE_CHECKING:
    from monitor.engine.objects.iothread import Iothread
    from monitor.engine.schema.query import GraphNodeType

GIL = getattr(sys, "_is_gil_enabled", lambda: True)()


class Lane:
    """One thread's way through its client's gate. Not reentrant; one thread only."""

    __slots__ = ("_client", "busy", "counters")

    def __init__(self, client: Client) -> None:
        self._client = client
        self.counters = client.account.open()
        """What its thread has read and written, for who makes requests to keep."""
        self.busy = False

    def __enter__(self) -> Lane:
        client = self._client
        while True:
            self.busy = True
            if not client.closed:
                return self
            self.busy = False
            client.kick()
            client.wait_until_open()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.busy = False
        if self._client.closed:
            self._client.kick()


class LockedLane(Lane):
    """The same for interpreters without a GIL: the steps are ordered by the client's lock."""

    __slots__ = ()

    def __enter__(self) -> Lane:
        client = self._client
        while True:
            with client.lock:
                if not client.closed:
                    self.busy = True
                    return self
            client.kick()
            client.wait_until_open()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._client.lock:
            self.busy = False
            closed = self._client.closed
        if closed:
            self._client.kick()


class Client:
    """Somebody who makes requests, with edges (``roots``) to the nodes it makes them on."""

    graph_type: ClassVar[GraphNodeType] = "block-backend"  # as x-debug-query-block-graph calls it

    stays_at_node = False
    """Whether its edges stay when a node is replaced by another (jobs), or follow (drives)."""

    def __init__(self, name: str = "", account: Account | None = None) -> None:
        self.name = name
        self.account = account or Account()
        """What has gone through it; qemu-io on a drive counts as the drive."""
        self.roots: list[RootEdge] = []
        self.lanes: list[Lane] = []
        self.closed = 0
        self.lock = threading.Lock()
        self._open = threading.Event()
        self._open.set()
        self._wakes: tuple[Callable[[], None], ...] = ()

    @property
    def stays_in_place(self) -> bool:
        """Whether its nodes may not be moved to another iothread."""
        return False

    def moved(self, iothread: Iothread | None) -> None:
        """Hook: its nodes are there now."""

    def describe(self) -> str:
        """The client in the words of a permission conflict."""
        return f"block device '{self.name}'" if self.name else "an unnamed block device"

    @property
    def device_name(self) -> str:
        """The name by which users call the nodes that the client shows; "" for none."""
        return self.name

    def lane(self) -> Lane:
        """A new lane, for the calling thread. Give it back with ``drop_lane``."""
        lane = Lane(self) if GIL else LockedLane(self)
        with self.lock:
            self.lanes = [*self.lanes, lane]
        return lane

    def drop_lane(self, lane: Lane) -> None:
        with self.lock:
            self.lanes = [other for other in self.lanes if other is not lane]
        self.account.close(lane.counters)
        self.kick()

    # -- the gate; close and reopen are called on the control loop only ----------------------

    def close_gate(self, wake: Callable[[], None]) -> None:
        """No lane may become busy from now on. ``wake`` is called, from any thread, whenever a
        lane may have become idle, until ``open_gate`` with the same ``wake``. Nests."""
        with self.lock:
            self._wakes = (*self._wakes, wake)
            self._open.clear()
            self.closed += 1
        self.gate_closed()

    def open_gate(self, wake: Callable[[], None]) -> None:
        with self.lock:
            self._wakes = tuple(other for other in self._wakes if other is not wake)
            self.closed -= 1
            if not self.closed:
                self._open.set()
        self.gate_opened()

    def gate_closed(self) -> None:
        """Hook: a drained section has begun (jobs go to their pause point)."""

    def gate_opened(self) -> None:
        """Hook: a drained section has ended."""

    @property
    def quiet(self) -> bool:
        return not any(lane.busy for lane in self.lanes)

    def kick(self) -> None:
        for wake in self._wakes:
            wake()

    def wait_until_open(self) -> None:
        self._open.wait()


__all__ = ["Client", "Edge", "Lane", "RootEdge"]
