"""Sizes: in words, for messages of the engine's own, and in sectors.

QEMU counts disks in sectors of 512 bytes: a file of an odd length ends with a whole one.
"""

from __future__ import annotations

from typing import Final

SECTOR: Final = 512

UNITS = ("", "K", "M", "G", "T", "P", "E")


def whole_sectors(length: int) -> int:
    """The bytes of all sectors that ``length`` bytes lie in."""
    return -(-length // SECTOR) * SECTOR


def human_size(size: int) -> str:
    """``64M``, ``1.5G``, ``512``: the largest unit that keeps the number at 1 or more."""
    value, unit = float(size), 0
    while value >= 1024 and unit < len(UNITS) - 1:
        value /= 1024
        unit += 1
    return f"{value:.3g}{UNITS[unit]}" if value < 1000 else f"{value:.0f}{UNITS[unit]}"
