"""Zeroes in memory: made without allocating them, and found."""

from __future__ import annotations

import functools
import mmap
from collections.abc import Callable, Iterator, Sequence
from typing import Final

PIECE: Final = 1 << 20
_STEP: Final = 128 << 10
"""Bytes that are filled at a time: more do not fit into the processor's cache, which costs time."""


@functools.cache
def zeroes() -> memoryview:
    """PIECE bytes of zeroes, read-only: page-aligned, and all of them one page of the kernel's."""
    return memoryview(mmap.mmap(-1, PIECE, prot=mmap.PROT_READ))


def zero(buffer: memoryview) -> None:
    """Fills ``buffer`` with zeroes."""
    size = len(buffer)
    for start in range(0, size, _STEP):
        part = min(size - start, _STEP)
        buffer[start : start + part] = zeroes()[:part]


def write_zeroes(write: Callable[[memoryview, int], None], offset: int, length: int) -> None:
    """Writes zeroes, as data."""
    end = offset + length
    for start in range(offset, end, PIECE):
        write(zeroes()[: min(PIECE, end - start)], start)


def by_zeroes(
    ranges: Sequence[tuple[int, int]], data: memoryview
) -> Iterator[tuple[list[tuple[int, int]], memoryview, bool]]:
    """Ranges (offset, length) whose data lies behind one another in ``data``: as many as follow one
    another that are all zeroes, or none of them; their data; and whether it is zeroes."""
    group: list[tuple[int, int]] = []
    begin = end = 0
    zeroes = False
    for offset, length in ranges:
        found = is_zero(data[end : end + length])
        if group and found is not zeroes:
            yield group, data[begin:end], zeroes
            group, begin = [], end
        group.append((offset, length))
        end += length
        zeroes = found
    if group:
        yield group, data[begin:end], zeroes


def is_zero(buffer: memoryview) -> bool:
    """Whether all bytes are zero: a look at the first eight, then 60 GiB/s."""
    if bytes(buffer[:8]).strip(b"\0"):
        return False
    from monitor.engine.arrays import np

    whole = len(buffer) & ~7
    if np.bitwise_or.reduce(np.frombuffer(buffer[:whole], dtype=np.uint64), initial=0):
        return False
    return not bytes(buffer[whole:]).strip(b"\0")
