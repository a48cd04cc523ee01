"""Short runs of data that lie apart, planned as one piece: read and written together."""

from __future__ import annotations

from collections import deque
from typing import Final

from monitor.engine.drivers.base import Child, ExtentKind
from monitor.engine.graph.allocation import Run
from monitor.engine.jobs.copying import Piece

_LONG: Final = 256 << 10
"""Bytes from which on a run is a piece by itself: perhaps the host copies it."""


def carry(piece: Piece, source: Child, target: Child, buffer: memoryview) -> None:
    """Copies the piece's parts, by a read of all and a write of all. In a lane; raises OSError."""
    view = buffer[: piece.size]
    piece.side = "read"
    source.read_ranges(view, piece.parts)
    piece.side = "write"
    target.write_ranges(view, piece.parts)


def is_short(run: Run) -> bool:
    return run.kind is ExtentKind.DATA and run.length < _LONG


def gather(ahead: deque[Run], most: int, unit: int = 1) -> Piece | None:
    """Takes the short runs that ``ahead`` begins with, up to ``most`` bytes of them, and the gaps
    between them where nothing is to do, as long as each lies behind the one before. None, and takes
    nothing, where there are not two, each of whole ``unit``s."""
    parts: list[tuple[int, int]] = []
    taken, left, end = 0, most, 0
    for count, run in enumerate(ahead, 1):
        if parts and run.kind is ExtentKind.UNALLOCATED:
            continue
        if not is_short(run) or (run.offset | run.length) % unit or run.length > left:
            break
        if run.offset < end:  # the rest of a long run may come before short ones that lie below it
            break
        parts.append((run.offset, run.length))
        left, end = left - run.length, run.offset + run.length
        taken = count
    if len(parts) < 2:
        return None
    for _ in range(taken):
        ahead.popleft()
    start, (last, length) = parts[0][0], parts[-1]
    return Piece(start, last + length - start, copy=True, parts=parts)
