"""Zeroing a part of a disk, for who copies: what takes no time, and what takes as long as data."""

from __future__ import annotations

import errno

from monitor.engine.drivers.base import Child, Driver


def zero(
    target: Child | Driver, offset: int, length: int, *, may_unmap: bool, most: int
) -> int | None:
    """Has the range read as zeroes. Returns the bytes that had to be written as data, usually none;
    None where they would be more than ``most``, and nothing is done then. Raises OSError."""
    try:
        target.write_zeroes(offset, length, may_unmap, True)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        if length > most:
            return None
        target.write_zeroes(offset, length, may_unmap, False)
        return length
    return 0
