"""One refcount block in memory: a counter a host cluster, whatever their width on disk."""

from __future__ import annotations

from typing import Any, Final

from monitor.engine.arrays import NDArray, np
from monitor.engine.drivers.qcow2 import layout as q

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


class RefBlock:
    """Counters of the clusters that one block describes, and which of them the disk lacks.

    ``low`` to ``high`` is the range of entries changed since the last write-back (empty when
    ``low >= high``); ``writing`` while a write-back of them is under way; ``placed`` once the file
    is known to have room for all of it.
    """

    __slots__ = ("counters", "high", "low", "offset", "placed", "used", "writing")

    def __init__(self, offset: int, counters: NDArray[Any]) -> None:
        self.offset = offset
        self.counters = counters
        self.low = len(counters)
        self.high = 0
        self.writing = False
        self.placed = False
        self.used = True

    @property
    def dirty(self) -> bool:
        return self.low < self.high

    def touch(self, low: int, high: int) -> None:
        self.low = min(self.low, low)
        self.high = max(self.high, high)

    def take_dirty(self, order: int) -> tuple[int, NDArray[np.uint8], int, int]:
        """The changed part in whole sectors: host offset, bytes, and the entries it covers.

        Marks the block clean and as being written.
        """
        per_sector = (q.SECTOR * 8) >> order
        low = self.low // per_sector * per_sector
        high = min(-(-self.high // per_sector) * per_sector, len(self.counters))
        data = pack(self.counters[low:high], order)
        self.low, self.high = len(self.counters), 0
        self.writing = True
        return self.offset + ((low << order) >> 3), data, low, high
