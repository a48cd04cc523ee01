"""Room in the file for metadata, before anything that needs it is answered as done.

A table or refcount block reaches the disk with a later write-back, perhaps when the disk is full.
So its place is written as soon as it is allocated, and where a table that the image had before lies
in holes of the file (a copy made with ``cp --sparse``), these are filled before it first changes.
A write-back only writes over what is there then, and needs no room. (On a host filesystem that
never overwrites, no program can promise that.)
"""

from __future__ import annotations

from monitor.engine.drivers import buffers
from monitor.engine.drivers.base import Child, ExtentKind


def write_zeroes(file: Child, start: int, end: int) -> None:
    """Writes zeroes, as data, from host offset ``start`` to ``end``. Raises OSError."""
    buffers.write_zeroes(file.write, start, end - start)


def fill_holes(file: Child, start: int, end: int) -> None:
    """Has the file take up room for what reads as zeroes between ``start`` and ``end``, where no
    write is under way. Raises OSError."""
    while start < end:
        runs = file.map(start, end - start)
        if not runs:
            return
        for run in runs:
            if run.kind is ExtentKind.ZERO:
                write_zeroes(file, start, start + run.length)
            start += run.length
