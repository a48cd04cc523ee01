"""One refcount block in memory: a counter a host cluster, whatever their width on disk."""

from __future__ import annotations

from typing import Any, Final

from monitor.engine.arrays import NDArray, np
from monitor.engine.drivers.qcow2 import layout as q
from monitor.engine.drivers.qcow2.cached import CachedTable

_DISK: Final[dict[int, np.dtype[Any]]] = {
    3: np.dtype("u1"),
    4: np.dtype(">u2"),
    5: np.dtype(">u4"),
    6: np.dtype(">u8"),
}
_MEMORY: Final[dict[int, np.dtype[Any]]] = {
    3: np.dtype("u1"),
    4: np.dtype("u2"),
    5: np.dtype("u4"),
    6: np.dtype("u8"),
}


def counter_type(order: int) -> np.dtype[Any]:
    """The native type that holds counters of ``1 << order`` bits."""
    return _MEMORY[max(order, 3)]


def unpack(raw: NDArray[np.uint8], order: int) -> NDArray[Any]:
    """Counters of ``1 << order`` bits as an array of native integers.

    Narrow ones lie in a byte from the least significant bit up.
    """
    counters: NDArray[Any]
    if order >= 3:
        counters = raw.view(_DISK[order]).astype(_MEMORY[order])
    else:
        width = 1 << order
        shifts = np.arange(0, 8, width, dtype=np.uint8)
        counters = ((raw[:, None] >> shifts) & np.uint8((1 << width) - 1)).reshape(-1)
    return counters


def pack(counters: NDArray[Any], order: int) -> NDArray[np.uint8]:
    """The bytes of ``counters``; their number is a multiple of a byte's worth."""
    raw: NDArray[np.uint8]
    if order >= 3:
        raw = counters.astype(_DISK[order]).view(np.uint8)
    else:
        width = 1 << order
        shifts = np.arange(0, 8, width, dtype=np.uint8)
        raw = np.bitwise_or.reduce(counters.reshape(-1, 8 // width) << shifts, axis=1)
    return raw


class RefBlock(CachedTable):
    """Counters of the clusters that one block describes."""

    __slots__ = ("counters",)

    def __init__(self, offset: int, counters: NDArray[Any]) -> None:
        super().__init__(offset, len(counters))
        self.counters = counters

    def take_dirty(self, order: int) -> tuple[int, NDArray[np.uint8], int, int]:
        """What the disk lacks: host offset, bytes, and the range of entries."""
        low, high = self.begin_writing((q.SECTOR * 8) >> order)
        return self.offset + ((low << order) >> 3), pack(self.counters[low:high], order), low, high
