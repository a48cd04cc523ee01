"""Requests of an NBD client carried out on an export, and the replies to them.

Short requests are done in the connection's own thread, a batch at a time: what the client sent in
one go is answered in one go. What is long or may wait for the disk (flushes, zeroes, questions
about allocation, large pieces) goes to a few helping threads, so that answers overtake each other.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import mmap
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from monitor.wire.nbd import layout as n
from monitor.wire.nbd import transmission as t
from monitor.wire.nbd.offers import ALLOCATION, BITMAP, DEPTH

if TYPE_CHECKING:
    from monitor.engine.api import Exported, Lane
    from monitor.wire.nbd.offers import Offer

SHORT: Final = 64 << 10
"""Bytes of data up to which a request is short."""

PIECE: Final = 1 << 20
"""Bytes that are read or written in one stay in a lane."""

SPLICED: Final = 256 << 10
"""Bytes of a read from which it is worth a pipe, through which a file's pages go uncopied."""

_KNOWN_FLAGS: Final = {
    n.CMD_WRITE: n.CMD_FLAG_FUA,
    n.CMD_WRITE_ZEROES: n.CMD_FLAG_FUA | n.CMD_FLAG_NO_HOLE | n.CMD_FLAG_FAST_ZERO,
    n.CMD_TRIM: n.CMD_FLAG_FUA,
    n.CMD_BLOCK_STATUS: n.CMD_FLAG_REQ_ONE,
}
_NAMES: Final = {
    n.CMD_READ: "read",
    n.CMD_WRITE: "write",
    n.CMD_DISC: "disconnect",
    n.CMD_FLUSH: "flush",
    n.CMD_TRIM: "trim",
    n.CMD_CACHE: "cache",
    n.CMD_WRITE_ZEROES: "write zeroes",
    n.CMD_BLOCK_STATUS: "block status",
}
_CHANGES: Final = frozenset({n.CMD_WRITE, n.CMD_TRIM, n.CMD_WRITE_ZEROES})


class Refusal(Exception):
    """A request that cannot be carried out; ``number`` is the protocol's error."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(text)
        self.number = number


def is_short(request: t.NbdRequest) -> bool:
    """Whether the connection's thread does it itself."""
    return (
        request.type in (n.CMD_READ, n.CMD_WRITE)
        and request.length <= SHORT
        and not request.flags & n.CMD_FLAG_FUA
    )


class Pipe(NamedTuple):
    """Between a file and a socket: a lane is left before the socket is waited for."""

    source: int
    sink: int


@contextlib.contextmanager
def _pipe() -> Iterator[Pipe]:
    pipe = Pipe(*os.pipe2(os.O_CLOEXEC))
    try:
        with contextlib.suppress(OSError):  # of a user who has many, it stays a small one
            fcntl.fcntl(pipe.sink, fcntl.F_SETPIPE_SZ, PIECE)
        yield pipe
    finally:
        os.close(pipe.source)
        os.close(pipe.sink)


class Serving:
    """What one connection does with its export. Methods may be called from several threads, each
    with its own lane."""

    def __init__(
        self, export: Exported, offer: Offer, contexts: dict[int, str], *, structured: bool
    ) -> None:
        self.export = export
        self.size = offer.size
        self.contexts = contexts
        self.structured = structured
        self.send_pipe: Callable[[bytes, int, int], None] | None = None
        """Sends a header and so many bytes of a pipe; None where nothing can be sent uncopied."""
        self._read_only = bool(offer.flags & n.FLAG_READ_ONLY)
        self._flags = {**_KNOWN_FLAGS, n.CMD_READ: n.CMD_FLAG_DF if structured else 0}

    # -- what may be asked at all ------------------------------------------------------------

    def check(self, request: t.NbdRequest) -> None:
        """Raises Refusal."""
        kind = request.type
        if kind not in _NAMES:
            raise Refusal(n.EINVAL, f"invalid request type ({kind}) received")
        if kind in _CHANGES and self._read_only:
            raise Refusal(n.EPERM, "Export is read-only")
        if request.flags & ~self._flags.get(kind, 0):
            text = f"unsupported flags for command {_NAMES[kind]} (got 0x{request.flags:x})"
            raise Refusal(n.EINVAL, text)
        if kind == n.CMD_READ and request.length > n.MAX_PAYLOAD:
            text = f"len ({request.length}) is larger than max len ({n.MAX_PAYLOAD})"
            raise Refusal(n.EINVAL, text)
        if kind == n.CMD_BLOCK_STATUS and not self.contexts:
            raise Refusal(n.EINVAL, "block status was not negotiated")
        if kind == n.CMD_BLOCK_STATUS and not request.length:
            raise Refusal(n.EINVAL, "need non-zero length")
        if kind != n.CMD_FLUSH and request.offset + request.length > self.size:
            number = n.ENOSPC if kind in (n.CMD_WRITE, n.CMD_WRITE_ZEROES) else n.EINVAL
            text = f"operation past EOF; From: {request.offset}, Len: {request.length}, "
            raise Refusal(number, text + f"Size: {self.size}")

    # -- replies -----------------------------------------------------------------------------

    def failure(self, request: t.NbdRequest, error: Exception) -> bytes:
        """The reply to a request that failed."""
        if isinstance(error, Refusal):
            number, text = error.number, str(error)
        else:
            number = t.error_code(error.errno if isinstance(error, OSError) else errno.EIO)
            text = f"{_NAMES.get(request.type, 'request')} failed"
        if self.structured:
            return t.failed(request.cookie, number, text)
        return t.simple(request.cookie, number)

    def success(self, request: t.NbdRequest) -> bytes:
        """The reply to a request without data. (A read of nothing has none either.)"""
        if self.structured and request.type in (n.CMD_READ, n.CMD_BLOCK_STATUS):
            return t.finished(request.cookie)
        return t.simple(request.cookie)

    def _data_header(self, request: t.NbdRequest) -> bytes:
        """What stands before a read's data where all of it comes at once."""
        if self.structured and request.length:
            return t.data_header(request.cookie, request.offset, request.length, done=True)
        return self.success(request)

    # -- short requests ----------------------------------------------------------------------

    def read_into(self, request: t.NbdRequest, out: memoryview) -> int:
        """Reads, in a lane, and builds the whole reply at the start of ``out``; its bytes."""
        length = request.length
        header = self._data_header(request)
        size = len(header)
        self.export.read(out[size : size + length], request.offset)
        out[:size] = header
        return size + length

    def write(self, request: t.NbdRequest, data: memoryview) -> None:
        """Writes, in a lane."""
        self.export.write(data, request.offset)
        if request.flags & n.CMD_FLAG_FUA or self.export.writethrough:
            self.export.flush()

    def at_once(self, request: t.NbdRequest) -> bool:
        """Whether all of a read's data must come in one piece."""
        return not self.structured or bool(request.flags & n.CMD_FLAG_DF)

    # -- long requests -----------------------------------------------------------------------

    def carry_out(
        self, request: t.NbdRequest, data: memoryview, lane: Lane, send: Callable[..., None]
    ) -> None:
        """Does any request but a disconnect, and sends its reply: ``send`` takes buffers that
        belong together. ``data`` is a write's."""
        try:
            self.check(request)
            _LONG[request.type](self, request, data, lane, send)
        except (OSError, Refusal) as error:
            send(self.failure(request, error))

    def _read(
        self, request: t.NbdRequest, data: memoryview, lane: Lane, send: Callable[..., None]
    ) -> None:
        whole = self.at_once(request)
        if not whole and self.send_pipe is not None and request.length >= SPLICED:
            with _pipe() as pipe:
                self._read_parts(request, lane, send, pipe)
            return
        room = memoryview(mmap.mmap(-1, request.length if whole else min(request.length, PIECE)))
        if whole:
            self._fill(request.offset, room, lane)
            send(self._data_header(request), room)
            return
        self._read_parts(request, lane, send, None, room)

    def _read_parts(
        self,
        request: t.NbdRequest,
        lane: Lane,
        send: Callable[..., None],
        pipe: Pipe | None,
        room: memoryview | None = None,
    ) -> None:
        """A read in chunks: holes, what comes through ``pipe`` and what through ``room``."""
        end = request.offset + request.length
        for offset, length, hole in self._parts(request, lane):
            if hole:
                done = offset + length == end
                send(t.hole(request.cookie, offset, length, done=done))
                continue
            stop = offset + length
            while offset < stop:
                count = self._spliced(pipe, offset, stop - offset, lane) if pipe else 0
                done = offset + (count or stop - offset) == end
                if pipe and count:
                    header = t.data_header(request.cookie, offset, count, done=done)
                    assert self.send_pipe is not None
                    self.send_pipe(header, pipe.source, count)
                    offset += count
                    continue
                room = room or memoryview(mmap.mmap(-1, PIECE))
                part = room[: stop - offset]
                self._fill(offset, part, lane)
                send(t.data_header(request.cookie, offset, stop - offset, done=done), part)
                break

    def _spliced(self, pipe: Pipe, offset: int, length: int, lane: Lane) -> int:
        """Bytes that are in the pipe now, uncopied, straight from a host file; 0 where they do not
        lie in one. The pipe is empty before."""
        with lane:
            found = self.export.plain(offset, length)
            if found is None:
                return 0
            descriptor, at, size = found
            return os.splice(descriptor, pipe.sink, size, at)

    def _parts(self, request: t.NbdRequest, lane: Lane) -> Iterator[tuple[int, int, bool]]:
        """Pieces (offset, length, is a hole) of at most PIECE bytes of data each."""
        with lane:
            runs = list(self.export.allocation(request.offset, request.length))
        offset = request.offset
        for zero, group in itertools.groupby(runs, key=lambda run: run[2]):
            length = sum(run[0] for run in group)
            end = offset + length
            while offset < end:
                step = end - offset if zero else min(PIECE, end - offset)
                yield offset, step, zero
                offset += step

    def _fill(self, offset: int, data: memoryview, lane: Lane) -> None:
        for at in range(0, len(data), PIECE):
            with lane:
                self.export.read(data[at : at + PIECE], offset + at)

    def _write(
        self, request: t.NbdRequest, data: memoryview, lane: Lane, send: Callable[..., None]
    ) -> None:
        for at in range(0, request.length, PIECE):
            with lane:
                self.export.write(data[at : min(at + PIECE, request.length)], request.offset + at)
        self._end(request, lane, send)

    def _end(self, request: t.NbdRequest, lane: Lane, send: Callable[..., None]) -> None:
        """The end of what changes the disk: flushed where that was asked for."""
        if request.flags & n.CMD_FLAG_FUA or self.export.writethrough:
            with lane:
                self.export.flush()
        send(self.success(request))

    def _flush(
        self, request: t.NbdRequest, data: memoryview, lane: Lane, send: Callable[..., None]
    ) -> None:
        with lane:
            self.export.flush()
        send(self.success(request))

    def _trim(
        self, request: t.NbdRequest, data: memoryview, lane: Lane, send: Callable[..., None]
    ) -> None:
        with lane:
            self.export.discard(request.offset, request.length)
        self._end(request, lane, send)

    def _cache(
        self, request: t.NbdRequest, data: memoryview, lane: Lane, send: Callable[..., None]
    ) -> None:
        """The page cache gets what a read would bring; advice, so a megabyte's look is enough."""
        room = memoryview(bytearray(min(request.length, PIECE)))
        for at in range(0, request.length, PIECE):
            with lane:
                self.export.read(room[: min(PIECE, request.length - at)], request.offset + at)
        send(self.success(request))

    def _write_zeroes(
        self, request: t.NbdRequest, data: memoryview, lane: Lane, send: Callable[..., None]
    ) -> None:
        may_unmap = not request.flags & n.CMD_FLAG_NO_HOLE
        fast = bool(request.flags & n.CMD_FLAG_FAST_ZERO)
        with lane:
            self.export.write_zeroes(request.offset, request.length, may_unmap, fast)
        self._end(request, lane, send)

    # -- block status ------------------------------------------------------------------------

    def _block_status(
        self, request: t.NbdRequest, data: memoryview, lane: Lane, send: Callable[..., None]
    ) -> None:
        limit = 1 if request.flags & n.CMD_FLAG_REQ_ONE else n.MAX_EXTENTS
        last = max(self.contexts)
        replies = []
        for number, context in sorted(self.contexts.items()):
            with lane:
                runs = self._status(context, request.offset, request.length)
                extents = list(itertools.islice(_joined(runs), limit))
            done = number == last
            replies.append(t.block_status(request.cookie, number, extents, done=done))
        send(*replies)

    def _status(self, context: str, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Runs (length, flags) of one context."""
        if context == ALLOCATION:
            for size, hole, zero in self.export.allocation(offset, length):
                yield size, (n.STATE_HOLE if hole else 0) | (n.STATE_ZERO if zero else 0)
        elif context == DEPTH:
            yield from self.export.depth(offset, length)
        else:
            for size, dirty in self.export.dirty(context.removeprefix(BITMAP), offset, length):
                yield size, n.STATE_DIRTY if dirty else 0


def _joined(runs: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Neighbours of one kind as one run."""
    for flags, group in itertools.groupby(runs, key=lambda run: run[1]):
        yield sum(run[0] for run in group), flags


_LONG: Final = {
    n.CMD_READ: Serving._read,
    n.CMD_WRITE: Serving._write,
    n.CMD_FLUSH: Serving._flush,
    n.CMD_TRIM: Serving._trim,
    n.CMD_CACHE: Serving._cache,
    n.CMD_WRITE_ZEROES: Serving._write_zeroes,
    n.CMD_BLOCK_STATUS: Serving._block_status,
}
