"""Which parts of a host file hold data, and how to make them hold none."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from typing import Final

from monitor.engine.drivers import syscalls
from monitor.engine.drivers.base import Extent, ExtentKind

MAX_RUNS: Final = 256
"""Runs in one answer of ``host_extents``: one costs two system calls."""


def host_extents(fd: int, offset: int, length: int, *, offered: int) -> list[Extent]:
    """The runs of ``[offset, offset + length)``, at most MAX_RUNS, by SEEK_DATA and SEEK_HOLE.

    ``offered`` is the descriptor to name in the runs inside the file, or -1 for none. What lies
    beyond the end of the file is ZERO. lseek moves a position that nothing here reads from, so
    threads do not disturb each other; a file that changes meanwhile is described as it was found,
    run by run.
    """
    runs: list[Extent] = []
    end = offset + length
    while offset < end and len(runs) < MAX_RUNS:
        kind, stop, inside = _run_at(fd, offset)
        stop = min(stop, end)
        host = offered if inside else -1
        runs.append(Extent(kind, stop - offset, host, offset if host >= 0 else 0))
        offset = stop
    return runs


def _run_at(fd: int, offset: int) -> tuple[ExtentKind, int, bool]:
    """Kind and end of the run at ``offset``, and whether it lies inside the file."""
    size = os.fstat(fd).st_size
    if offset >= size:
        return ExtentKind.ZERO, 1 << 63, False
    try:
        data = os.lseek(fd, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a hole up to the end of the file
            return ExtentKind.ZERO, size, True
        return ExtentKind.DATA, size, True  # a filesystem that cannot tell
    if data > offset:
        return ExtentKind.ZERO, data, True
    try:
        hole = os.lseek(fd, offset, os.SEEK_HOLE)
    except OSError:  # truncated since
        return ExtentKind.DATA, size, True
    return ExtentKind.DATA, max(hole, offset + 1), True


class Space:
    """Zeroing and discarding by ``fallocate``; remembers what the filesystem cannot do."""

    def __init__(self) -> None:
        self._unsupported: set[Callable[[int, int, int], None]] = set()
        self._lock = threading.Lock()
        self._discards = {"discard-nb-ok": 0, "discard-nb-failed": 0, "discard-bytes-ok": 0}

    def zero(self, fd: int, offset: int, length: int, *, may_unmap: bool) -> bool:
        """Makes the range read as zeroes; False where only writing zeroes would.

        Where storage must not be given back it is allocated, so that a later write cannot meet
        a full disk. The file may end before the range afterwards, as it may have before.
        """
        if may_unmap and self._try(syscalls.punch_hole, fd, offset, length):
            return True
        if self._try(syscalls.zero_range, fd, offset, length):
            return True
        return self._try(syscalls.punch_hole, fd, offset, length) and self._try(
            _allocate, fd, offset, length
        )

    def discard(self, fd: int, offset: int, length: int) -> None:
        """Gives storage back where the filesystem can. Counted, whichever way it ends."""
        given_back = False
        try:
            given_back = self._give_back(fd, offset, length)
        finally:
            with self._lock:
                self._discards["discard-nb-ok" if given_back else "discard-nb-failed"] += 1
                self._discards["discard-bytes-ok"] += length if given_back else 0

    def _give_back(self, fd: int, offset: int, length: int) -> bool:
        return self._try(syscalls.punch_hole, fd, offset, length)

    def stats(self) -> dict[str, int]:
        """QMP's ``BlockStatsSpecificFile``."""
        with self._lock:
            return dict(self._discards)

    def _try(
        self, call: Callable[[int, int, int], None], fd: int, offset: int, length: int
    ) -> bool:
        if call in self._unsupported:
            return False
        try:
            call(fd, offset, length)
        except OSError as error:
            if error.errno in syscalls.UNSUPPORTED:
                self._unsupported.add(call)
                return False
            if error.errno in (errno.EINVAL, errno.EBUSY):  # not this range, or not now
                return False
            raise
        return True


def _allocate(fd: int, offset: int, length: int) -> None:
    syscalls.fallocate(fd, 0, offset, length)
