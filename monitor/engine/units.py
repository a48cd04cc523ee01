"""Sizes in words, for messages of the engine's own."""

from __future__ import annotations

UNITS = ("", "K", "M", "G", "T", "P", "E")


def human_size(size: int) -> str:
    """``64M``, ``1.5G``, ``512``: the largest unit that keeps the number at 1 or more."""
    value, unit = float(size), 0
    while value >= 1024 and unit < len(UNITS) - 1:
        value /= 1024
        unit += 1
    return f"{value:.3g}{UNITS[unit]}" if value < 1000 else f"{value:.0f}{UNITS[unit]}"
