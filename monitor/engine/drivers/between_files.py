"""Leaving a copy to the host: from file to file, without the bytes coming by."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Final, Literal, Protocol

from monitor.engine.drivers import syscalls
from monitor.engine.drivers.base import Child, Extent, ExtentKind, Reservation

_LEAST: Final = 256 << 10
"""Bytes from which on leaving a copy to the host costs less than reading and writing it."""
_IMPOSSIBLE: Final = frozenset(
    {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.ETXTBSY}
)

Side = Literal["read", "write"]
"""The side of a copy that an error comes from."""


class Reserving(Protocol):
    """What is copied to: an edge, or a driver itself."""

    def map_for_write(self, offset: int, length: int, /) -> Reservation | None: ...


class BetweenFiles:
    """Copies what lies plainly in host files at both ends, until it turns out that the host cannot.
    Called from several threads."""

    def __init__(self) -> None:
        self._possible = True

    def would_copy(self, length: int) -> bool:
        """Whether it is worth asking for a range so long."""
        return self._possible and length >= _LEAST

    def copy(
        self,
        source: Child,
        target: Reserving,
        offset: int,
        length: int,
        at: Callable[[Side], None] = lambda side: None,
    ) -> int:
        """How much of the beginning the host has copied. What it could not is left to reads and
        writes, which tell the failing side apart. In a lane. ``at`` is told which side an error
        will come from. Raises OSError: of ``map``, ``map_for_write``, and ``commit``."""
        if not self.would_copy(length):
            return 0
        end, position = offset + length, offset
        with source.hold():
            while position < end:
                at("read")
                run = source.map(position, end - position)[0]
                if run.kind is not ExtentKind.DATA or run.host < 0 or run.compressed:
                    break
                at("write")
                copied = self._copy_run(target, run, position)
                if not copied:
                    break
                position += copied
        return position - offset

    def _copy_run(self, target: Reserving, run: Extent, offset: int) -> int:
        reserved = target.map_for_write(offset, run.length)
        if reserved is None:
            return 0
        try:
            position = run.host_offset
            for place in reserved.runs:
                _copy_range(run.host, position, place)
                position += place.length
        except OSError as error:
            reserved.abort()
            if error.errno in _IMPOSSIBLE:
                self._possible = False
            return 0
        except BaseException:
            reserved.abort()
            raise
        reserved.commit()
        return reserved.length


def _copy_range(host: int, offset: int, place: Extent) -> None:
    done = 0
    while done < place.length:
        count = syscalls.copy_range(
            host, offset + done, place.host, place.host_offset + done, place.length - done
        )
        if not count:  # the source's file ends before its disk does
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
        done += count
