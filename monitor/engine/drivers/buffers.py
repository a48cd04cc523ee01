"""Zeroes in memory, without allocating them."""

from __future__ import annotations

import functools
import mmap
from typing import Final

PIECE: Final = 1 << 20


@functools.cache
def zeroes() -> memoryview:
    """PIECE bytes of zeroes, read-only: page-aligned, and all of them one page of the kernel's."""
    return memoryview(mmap.mmap(-1, PIECE, prot=mmap.PROT_READ))


def zero(buffer: memoryview) -> None:
    """Fills ``buffer`` with zeroes."""
    size = len(buffer)
    for start in range(0, size, PIECE):
        part = min(size - start, PIECE)
        buffer[start : start + part] = zeroes()[:part]
