"""A client's edge for code that knows no lanes: each request takes the thread's lane itself."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import ParamSpec, TypeVar

from monitor.engine.drivers.base import Operations
from monitor.engine.graph.client import Lane
from monitor.engine.graph.edge import RootEdge
from monitor.engine.graph.stages import no_reservation

P = ParamSpec("P")
T = TypeVar("T")


class LanedChild(Operations):
    """``Child`` of the driver contract, for the one thread that is inside ``with``. A drained
    section waits for one of its requests at most, however long the whole work takes; the root's
    operations are looked up at each call, since such a section may bind them anew.
    """

    event: Callable[[str], None] | None = None
    """Who makes images reports nothing."""

    def __init__(self, root: RootEdge) -> None:
        self._root = root
        self._lane = lane = root.parent.lane()
        self.read = _laned(lane, lambda *args: root.read(*args))
        self.write = _laned(lane, lambda *args: root.write(*args))
        self.write_zeroes = _laned(lane, lambda *args: root.write_zeroes(*args))
        self.discard = _laned(lane, lambda *args: root.discard(*args))
        self.flush = _laned(lane, lambda: root.flush())
        self.map = _laned(lane, lambda *args: root.map(*args))
        # Nothing is held from one request to the next, and a reservation would have to end in the
        # lane that it began in.
        self.hold = nullcontext
        self.map_for_write = no_reservation
        self.read_ranges = _laned(lane, lambda *args: root.read_ranges(*args))
        self.write_ranges = _laned(lane, lambda *args: root.write_ranges(*args))
        self.write_compressed = _laned(lane, lambda *args: root.write_compressed(*args))

    def __enter__(self) -> LanedChild:
        return self

    def __exit__(self, *reason: object) -> None:
        self._root.parent.drop_lane(self._lane)

    def length(self) -> int:
        return self._root.length()

    def truncate(self, size: int) -> None:
        with self._lane:
            self._root.truncate(size)

    def grow(self, size: int, preallocation: str) -> None:
        with self._lane:
            self._root.grow(size, preallocation)

    def expect(self, length: int) -> None:
        with self._lane:
            self._root.expect(length)

    def reserve(self, size: int) -> None:
        with self._lane:
            self._root.reserve(size)

    def cluster_size(self) -> int | None:
        return self._root.cluster_size()

    @property
    def compresses(self) -> bool:
        return self._root.compresses

    @property
    def alignment(self) -> int:
        return self._root.alignment

    @property
    def node_name(self) -> str:
        return self._root.node_name

    @property
    def filename(self) -> str:
        return self._root.filename


def _laned(lane: Lane, operation: Callable[P, T]) -> Callable[P, T]:
    def request(*args: P.args, **kwargs: P.kwargs) -> T:
        with lane:
            return operation(*args, **kwargs)

    return request
