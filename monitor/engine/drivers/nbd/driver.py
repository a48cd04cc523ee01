"""The ``nbd`` driver: the contract's operations as requests to a server.

A request is cut into what the server takes: at most its largest block, in multiples of its
smallest (``Blocks``, with ``RangeLocks`` against other writers).
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from msgspec import UNSET

from monitor.engine.drivers.base import (
    Driver,
    DriverKind,
    Extent,
    ExtentKind,
    OpenContext,
    OpenFlags,
    Ranges,
    Reopen,
    cut,
    one_by_one,
)
from monitor.engine.drivers.blocks import Blocks
from monitor.engine.drivers.buffers import zero, zeroes
from monitor.engine.drivers.nbd.address import filename_of
from monitor.engine.drivers.nbd.connection import Request
from monitor.engine.drivers.nbd.session import Encryption, Session, Where
from monitor.engine.drivers.ranges import RangeLocks
from monitor.engine.errors import RequestError
from monitor.engine.schema.base import given
from monitor.engine.schema.blockdev import BlockdevOptionsNbd
from monitor.engine.schema.sockets import SocketAddressInet
from monitor.wire.nbd import layout as n
from monitor.wire.nbd.offers import ALLOCATION

if TYPE_CHECKING:
    from monitor.engine.objects.base import Objects

MAX_STATUS: Final = 1 << 30
"""Bytes that one question about allocation is about."""
MAX_ADVICE: Final = 1 << 30
"""Bytes that one discard is about."""
MAX_PIECE: Final = 1 << 20
"""Bytes that go through memory at once where a request does not lie on blocks."""


class NotResizable(RequestError):
    template = "Cannot {how} NBD nodes"
    how: str


class WriteDenied(RequestError):
    template = "request on write denied without write permission"


class NoSuchContext(RequestError):
    template = "requested x-dirty-bitmap {context} not found"
    context: str


class NbdDriver(Driver):
    name = "nbd"
    kind = DriverKind.PROTOCOL
    is_protocol = True
    remote = True
    changeable = frozenset({"reconnect-delay", "open-timeout"})

    def open(self, context: OpenContext) -> None:
        options: BlockdevOptionsNbd = context.options
        encryption = _encryption(options, context.objects)
        export = given(options.export, "")
        self._asks_for = ALLOCATION
        if options.x_dirty_bitmap is not UNSET:
            self._asks_for = str(options.x_dirty_bitmap)
        self._session = Session(
            Where(options.server, export, self._asks_for, encryption),
            _seconds(options.reconnect_delay),
            _seconds(options.open_timeout),
        )
        server = self._session.handshake
        try:
            self._settle(context.flags)
        except RequestError:
            self._session.close()
            raise
        self._filename = filename_of(options.server, export)
        self.alignment = server.minimum_block
        self._largest = server.maximum_block
        piece = min(self._largest, MAX_PIECE)
        self._blocks = Blocks(self.alignment, piece, self._read_blocks, self._write_blocks, _room)
        self._length = self._blocks.down(server.size)  # what is beyond cannot be asked for
        self._ranges = RangeLocks()

    def _settle(self, flags: OpenFlags) -> None:
        """What the server allows and has, against what is wanted. Raises RequestError."""
        server = self._session.handshake
        self._read_only = bool(server.flags & n.FLAG_READ_ONLY)
        self.turns_read_only = self._read_only and not flags.read_only
        if self._read_only and not (flags.read_only or flags.auto_read_only):
            raise WriteDenied()
        if self._asks_for != ALLOCATION and server.context_id is None:
            raise NoSuchContext(self._asks_for)

    def close(self) -> None:
        self._session.close()

    def stop_waiting(self) -> None:
        self._session.stop_waiting()

    def let_go(self) -> None:
        self._session.stop_waiting(for_good=True)

    def prepare_reopen(self, flags: OpenFlags, options: Any = None) -> Reopen | None:
        if self._read_only and not (flags.read_only or flags.auto_read_only):
            raise WriteDenied()
        return None

    # -- data --------------------------------------------------------------------------------

    def length(self) -> int:
        return self._length

    def read(self, buffer: memoryview, offset: int) -> None:
        inside = max(0, min(len(buffer), self._length - offset))
        if inside < len(buffer):
            zero(buffer[inside:])
        if not inside:  # nothing is read around nothing, beyond the end least of all
            return
        if not self._blocks.misaligned(offset | inside):
            self._read_blocks(buffer[:inside], offset)
            return
        self._blocks.read(buffer[:inside], offset)

    def write(self, buffer: memoryview, offset: int) -> None:
        end = offset + len(buffer)
        if not self._blocks.misaligned(offset | len(buffer)):
            with self._ranges.hold(offset, end, exclusive=False):
                self._write_blocks(buffer, offset)
            return
        with self._ranges.hold(self._blocks.down(offset), self._blocks.up(end), exclusive=True):
            self._blocks.write(buffer, offset)

    def read_ranges(self, buffer: memoryview, ranges: Ranges) -> None:
        if self._whole(ranges):
            self._read_at_once(buffer, ranges)
        else:
            one_by_one(self.read, buffer, ranges)

    def write_ranges(self, buffer: memoryview, ranges: Ranges) -> None:
        if self._whole(ranges):
            start, (last, length) = ranges[0][0], ranges[-1]
            with self._ranges.hold(start, last + length, exclusive=False):
                self._write_at_once(buffer, ranges)
        else:
            one_by_one(self.write, buffer, ranges)

    def _whole(self, ranges: Ranges) -> bool:
        """Whether the server takes all of them as they are."""
        return all(
            not self._blocks.misaligned(offset | length) and offset + length <= self._length
            for offset, length in ranges
        )

    def write_zeroes(
        self, offset: int, length: int, may_unmap: bool = False, no_fallback: bool = False
    ) -> None:
        flags = self._session.handshake.flags
        if not flags & n.FLAG_SEND_WRITE_ZEROES or self._blocks.misaligned(offset | length):
            if no_fallback:
                raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
            self._write_zero_buffers(offset, length)
            return
        wanted = 0 if may_unmap else n.CMD_FLAG_NO_HOLE
        if no_fallback:
            if not flags & n.FLAG_SEND_FAST_ZERO:
                raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
            wanted |= n.CMD_FLAG_FAST_ZERO
        with self._ranges.hold(offset, offset + length, exclusive=False):
            for at, size in cut(((offset, length),), self._largest):
                self._session.call(Request(n.CMD_WRITE_ZEROES, at, size, wanted))

    def discard(self, offset: int, length: int) -> None:
        """Whole blocks of the server's only; where it takes no advice there is none."""
        start, end = self._blocks.up(offset), self._blocks.down(offset + length)
        if not self._session.handshake.flags & n.FLAG_SEND_TRIM or start >= end:
            return
        with self._ranges.hold(start, end, exclusive=False):
            for at, size in cut(((start, end - start),), MAX_ADVICE):
                self._session.call(Request(n.CMD_TRIM, at, size))

    def flush(self) -> None:
        if self._session.handshake.flags & n.FLAG_SEND_FLUSH:
            self._session.call(Request(n.CMD_FLUSH))

    def truncate(self, size: int) -> None:
        if size != self._length:
            raise NotResizable("grow" if size > self._length else "resize")

    def map(self, offset: int, length: int) -> list[Extent]:
        """By block status, where the server has that; else all of it is data."""
        length = max(0, min(length, self._length - offset))
        if not length:
            return []
        if self._session.handshake.context_id is None:
            return [Extent(ExtentKind.DATA, length)]
        start = self._blocks.down(offset)
        asked = min(self._blocks.up(offset + length) - start, MAX_STATUS)
        inside = min(asked, self._length - start)
        runs = self._session.call(Request(n.CMD_BLOCK_STATUS, start, inside))
        found: list[Extent] = []
        skip, left = offset - start, length
        for size, flags in runs:
            part = min(size - min(skip, size), left)
            skip -= min(skip, size)
            if part:
                found.append(Extent(self._kind(flags), part))
                left -= part
        return found or [Extent(ExtentKind.DATA, length)]

    def _kind(self, flags: int) -> ExtentKind:
        if self._asks_for != ALLOCATION:  # a bitmap, shown as what is held and what is not
            return ExtentKind.UNALLOCATED if flags & n.STATE_DIRTY else ExtentKind.DATA
        return ExtentKind.ZERO if flags & n.STATE_ZERO else ExtentKind.DATA

    # -- facts -------------------------------------------------------------------------------

    @property
    def filename(self) -> str:
        return self._filename

    def image_facts(self) -> dict[str, Any]:
        return {}

    # -- blocks ------------------------------------------------------------------------------

    def _read_blocks(self, buffer: memoryview, offset: int) -> None:
        self._read_at_once(buffer, ((offset, len(buffer)),))

    def _read_at_once(self, buffer: memoryview, ranges: Ranges) -> None:
        requests: list[Request] = []
        done = 0
        for at, size in cut(ranges, self._largest):
            requests.append(Request(n.CMD_READ, at, size, into=buffer[done : done + size]))
            done += size
        self._session.call(*requests)

    def _write_blocks(self, buffer: memoryview, offset: int) -> None:
        self._write_at_once(buffer, ((offset, len(buffer)),))

    def _write_at_once(self, buffer: memoryview, ranges: Ranges) -> None:
        requests: list[Request] = []
        done = 0
        for at, size in cut(ranges, self._largest):
            requests.append(Request(n.CMD_WRITE, at, size, data=buffer[done : done + size]))
            done += size
        self._session.call(*requests)

    def _write_zero_buffers(self, offset: int, length: int) -> None:
        room = zeroes()
        for at, size in cut(((offset, length),), len(room)):
            self.write(room[:size], at)


def _encryption(options: BlockdevOptionsNbd, objects: Objects | None) -> Encryption | None:
    """What the options ask for; a server at a host's name must have a certificate for that.
    Raises RequestError."""
    if options.tls_creds is UNSET:
        return None
    from monitor.engine.objects.tls import encrypting

    hostname = given(options.tls_hostname)
    if hostname is None and isinstance(options.server, SocketAddressInet):
        hostname = options.server.host
    assert objects is not None
    return Encryption(*encrypting(objects, str(options.tls_creds), hostname))


@contextmanager
def _room(size: int) -> Iterator[memoryview]:
    yield memoryview(mmap.mmap(-1, size))


def _seconds(value: Any) -> float:
    return float(value) if isinstance(value, int) else 0.0
