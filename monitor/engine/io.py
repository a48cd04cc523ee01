"""qemu-io's requests on a client's root: bounded buffers, one lane entry for each piece."""

from __future__ import annotations

import mmap
from collections.abc import Iterator

from msgspec import UNSET

from monitor.engine import accounting, permissions
from monitor.engine.clock import Clock
from monitor.engine.drivers.base import ExtentKind
from monitor.engine.graph.client import Client, Lane
from monitor.engine.graph.edge import RootEdge
from monitor.engine.schema.base import given
from monitor.engine.schema.extra import IoExtent, IoRequest, IoResult

PIECE = 1 << 20
"""Bytes of one system call, and of the buffer."""

MAX_DATA = 1 << 20
"""The most that is given back as data."""


def permissions_for(request: IoRequest) -> int:
    """What the request's client has to take."""
    if request.operation in ("write", "zero", "discard"):
        return permissions.WRITE
    return 0


LIMITED = {"read": False, "write": True, "zero": True}
"""What a drive's limits hold for, and whether that writes."""


def carry_out(
    client: Client, root: RootEdge, request: IoRequest, clock: Clock, began: float
) -> IoResult:
    """Does the request on the calling (worker) thread, and counts it as one, in however many
    pieces it is done. Its time is from ``began`` on: what it has waited for limits is part of it.
    Raises OSError."""
    lane = client.lane()
    kind = _KINDS.get(request.operation)
    try:
        result = _OPERATIONS[request.operation](lane, root, request)
        if request.fua is True:
            with lane:
                root.flush()
        clock.tick()
        ended = clock.monotonic()
        if kind is not None:
            lane.counters.done(kind, _span(request)[1], began, ended)
    except OSError:
        if kind is not None:
            lane.counters.has_failed(kind, began, clock.monotonic())
        raise
    finally:
        client.drop_lane(lane)
    result.seconds = ended - began
    return result


def _pieces(request: IoRequest) -> Iterator[tuple[int, int]]:
    offset = given(request.offset, 0)
    left = given(request.length, 0)
    while left:
        length = min(left, PIECE)
        yield offset, length
        offset += length
        left -= length


def _span(request: IoRequest) -> tuple[int, int]:
    offset = given(request.offset, 0)
    return offset, given(request.length, 0)


def _check(root: RootEdge, request: IoRequest) -> None:
    """The whole range at once, so that a request beyond the end changes nothing."""
    root.check(*_span(request), 0)


def _buffer(request: IoRequest) -> memoryview:
    """A page-aligned buffer for one piece. It is not closed but forgotten: the traceback of a
    failed request still holds slices of it, and closing would fail for that reason."""
    return memoryview(mmap.mmap(-1, max(1, min(_span(request)[1], PIECE))))


def _read(lane: Lane, root: RootEdge, request: IoRequest) -> IoResult:
    _check(root, request)
    result = IoResult()
    collected = bytearray()
    buffer = _buffer(request)
    for offset, length in _pieces(request):
        with lane:
            root.read(buffer[:length], offset)
        if request.pattern is not UNSET and result.mismatch is UNSET:
            _compare(buffer[:length], offset, request, result)
        if request.want_data is True and len(collected) < MAX_DATA:
            collected += buffer[: min(length, MAX_DATA - len(collected))]
        result.bytes += length
    if request.want_data is True:
        result.data = bytes(collected)
    return result


def _compare(piece: memoryview, offset: int, request: IoRequest, result: IoResult) -> None:
    """Looks for the first byte inside the pattern's window that is not the pattern."""
    start, total = _span(request)
    window = given(request.pattern_offset, 0)
    span = given(request.pattern_length, total - window)
    low = max(start + window, offset)
    high = min(start + window + span, offset + len(piece))
    if low >= high:
        return
    part = piece[low - offset : high - offset]
    assert request.pattern is not UNSET
    pattern = request.pattern & 0xFF
    data = bytes(part)
    rest = data.lstrip(bytes([pattern]))
    if rest:
        result.mismatch = low + len(data) - len(rest)


def _write(lane: Lane, root: RootEdge, request: IoRequest) -> IoResult:
    _check(root, request)
    pattern = given(request.pattern, 0xCD) & 0xFF
    result = IoResult()
    buffer = _buffer(request)
    buffer[:] = bytes([pattern]) * len(buffer)
    for offset, length in _pieces(request):
        with lane:
            root.write(buffer[:length], offset)
        result.bytes += length
    return result


def _zero(lane: Lane, root: RootEdge, request: IoRequest) -> IoResult:
    offset, length = _span(request)
    with lane:
        root.write_zeroes(offset, length, request.may_unmap is True, False)
    return IoResult(bytes=length)


def _discard(lane: Lane, root: RootEdge, request: IoRequest) -> IoResult:
    offset, length = _span(request)
    with lane:
        root.discard(offset, length)
    return IoResult(bytes=length)


def _flush(lane: Lane, root: RootEdge, request: IoRequest) -> IoResult:
    with lane:
        root.flush()
    return IoResult()


def _length(lane: Lane, root: RootEdge, request: IoRequest) -> IoResult:
    return IoResult(length=root.length())


def _extents(lane: Lane, root: RootEdge, offset: int, length: int) -> list[IoExtent]:
    """Runs by whether this layer holds them; zeroes that are recorded count as held."""
    runs: list[IoExtent] = []
    end = offset + length
    while offset < end:
        with lane:
            extents = root.map(offset, end - offset)
        for extent in extents:
            held = extent.kind is not ExtentKind.UNALLOCATED
            if runs and runs[-1].allocated == held:
                runs[-1].length += extent.length
            else:
                runs.append(IoExtent(offset=offset, length=extent.length, allocated=held))
            offset += extent.length
    return runs


def _map(lane: Lane, root: RootEdge, request: IoRequest) -> IoResult:
    return IoResult(extents=_extents(lane, root, 0, root.length()), length=root.length())


def _alloc(lane: Lane, root: RootEdge, request: IoRequest) -> IoResult:
    """Of the part of the range that lies within the image; ``length`` is that part's."""
    offset, length = _span(request)
    length = max(0, min(length, root.length() - offset))
    runs = _extents(lane, root, offset, length)
    allocated = sum(run.length for run in runs if run.allocated)
    return IoResult(allocated=allocated, length=length, extents=runs)


_KINDS = {
    "read": accounting.READ,
    "write": accounting.WRITE,
    "zero": accounting.WRITE,
    "discard": accounting.UNMAP,
    "flush": accounting.FLUSH,
}
"""What is counted; looking at an image is not."""

_OPERATIONS = {
    "read": _read,
    "write": _write,
    "zero": _zero,
    "discard": _discard,
    "flush": _flush,
    "length": _length,
    "map": _map,
    "alloc": _alloc,
}
