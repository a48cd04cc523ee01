"""QEMU's image locks: byte-range locks that tell other processes what this one does.

A process that takes permission *b* of an image holds a shared lock on byte ``100 + b``, and one
that does not share it holds a shared lock on byte ``200 + b``::

                  100   101   102   103          200   201   202   203
    taken        cread write w-unch resize      -------------------------  not shared

All locks are shared, so any number of processes may hold the same byte. A conflict is found by
asking whether an *exclusive* lock on the opposite byte would be granted: who wants ``write`` tests
byte 201 (somebody does not share it), who does not share ``write`` tests byte 101 (somebody takes
it). Locks first, tests second: of two processes that begin together, at least one sees the other.

They are open-file-description locks: they belong to a descriptor, not to the process, so two nodes
of one process on one file exclude each other, and closing another descriptor drops nothing.
The bytes need not exist in the file. docs: QEMU's ``docs/system/qemu-block-drivers``, "Disk image
file locking".
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from collections.abc import Iterator
from typing import Final

from monitor.engine import permissions
from monitor.engine.errors import HostFailure, RequestError, host_failure

TAKEN_BASE: Final = 100
UNSHARED_BASE: Final = 200

# struct flock: l_type, l_whence, l_start, l_len, l_pid (0 for OFD locks), padding.
_FLOCK: Final = struct.Struct("@hhqqi0q")


class LockNotGranted(RequestError):
    """Another process holds the opposite lock. ``which`` is '' or 'shared '."""

    template = 'Failed to get {which}"{permission}" lock'
    permission: str
    which: str = ""


class ImageLocks:
    """The locks that one node holds on its image, all of them on one descriptor (``fd``).

    One descriptor at a time matters: the locks of a second one would look like another process's.
    """

    def __init__(self, fd: int, filename: str) -> None:
        self.fd = fd
        self._filename = filename
        self.held: frozenset[int] = frozenset()

    def extend(self, taken: int, shared: int) -> None:
        """Also holds what ``taken`` and ``shared`` need, and tests that nobody objects.

        Raises LockNotGranted, or HostFailure where the filesystem cannot lock; then the locks
        are what they were before.
        """
        added = wanted_bytes(taken, shared) - self.held
        if not added:
            return
        try:
            _acquire(self.fd, added)
            _check(self.fd, taken, shared)
        except RequestError as error:
            _release(self.fd, added)
            if isinstance(error, LockNotGranted):
                error.with_hint(f"Is another process using the image [{self._filename}]?")
            raise
        self.held |= added

    def narrow(self, taken: int, shared: int) -> None:
        """Gives back whatever ``taken`` and ``shared`` do not need. Never fails."""
        surplus = self.held - wanted_bytes(taken, shared)
        _release(self.fd, surplus)
        self.held -= surplus

    def move(self, fd: int) -> bool:
        """Holds the same locks on ``fd`` instead; False (and no change) where the host refuses.

        They are not tested: the old descriptor holds them until the new one does.
        """
        try:
            _acquire(fd, self.held)
        except HostFailure:
            _release(fd, self.held)
            return False
        _release(self.fd, self.held)  # it may stay open
        self.fd = fd
        return True


def wanted_bytes(taken: int, shared: int) -> frozenset[int]:
    """The bytes that stand for taking ``taken`` and sharing ``shared`` with others."""
    return frozenset(
        [TAKEN_BASE + bit for bit in _bits(taken)] + [UNSHARED_BASE + bit for bit in _bits(~shared)]
    )


def _bits(mask: int) -> Iterator[int]:
    return (bit for bit in range(permissions.ALL.bit_length()) if mask >> bit & 1)


def _call(fd: int, command: int, kind: int, byte: int) -> int:
    """One lock operation on one byte; the lock type that the kernel answers."""
    try:
        answer = fcntl.fcntl(fd, command, _FLOCK.pack(kind, os.SEEK_SET, byte, 1, 0))
    except OSError as error:
        raise host_failure(f"Failed to lock byte {byte}", error) from error
    return int(_FLOCK.unpack(answer)[0])


def _acquire(fd: int, wanted: frozenset[int]) -> None:
    for byte in sorted(wanted):
        _call(fd, fcntl.F_OFD_SETLK, fcntl.F_RDLCK, byte)


def _release(fd: int, unwanted: frozenset[int]) -> None:
    for byte in unwanted:
        # A failure leaves a lock that ends with its descriptor; there is nothing better to do.
        with contextlib.suppress(HostFailure):
            _call(fd, fcntl.F_OFD_SETLK, fcntl.F_UNLCK, byte)


def _check(fd: int, taken: int, shared: int) -> None:
    """Raises LockNotGranted when another holder does not share ``taken``, or takes the unshared."""
    for bit in _bits(taken):
        if not _is_free(fd, UNSHARED_BASE + bit):
            raise LockNotGranted(permissions.NAMES[1 << bit])
    for bit in _bits(~shared):
        if not _is_free(fd, TAKEN_BASE + bit):
            raise LockNotGranted(permissions.NAMES[1 << bit], "shared ")


def _is_free(fd: int, byte: int) -> bool:
    return _call(fd, fcntl.F_OFD_GETLK, fcntl.F_WRLCK, byte) == fcntl.F_UNLCK
