"""A table of the image in memory, and which of its entries the disk lacks."""

from __future__ import annotations


class CachedTable:
    """The disk lacks the entries from ``low`` to ``high`` (none where ``low >= high``), as they
    have changed since the last write-back; ``writing`` while one is under way. ``placed`` once the
    file is known to have room for all of it; ``used`` since room was last made in memory."""

    __slots__ = ("_length", "high", "low", "offset", "placed", "used", "writing")

    def __init__(self, offset: int, length: int) -> None:
        self.offset = offset
        self._length = length
        self.low = length
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

    def begin_writing(self, per_sector: int) -> tuple[int, int]:
        """The range of entries that the disk lacks, in whole sectors of ``per_sector`` entries. The
        table is clean from now on, and being written."""
        low = self.low // per_sector * per_sector
        high = min(-(-self.high // per_sector) * per_sector, self._length)
        self.low, self.high = self._length, 0
        self.writing = True
        return low, high
