"""Reading and mapping."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

from monitor.engine.drivers.base import Child, Extent, ExtentKind
from monitor.engine.drivers.buffers import zero
from monitor.engine.drivers.qcow2 import layout as q
from monitor.engine.drivers.qcow2 import mapping
from monitor.engine.drivers.qcow2.image import Image

_MAX_EXTENTS = 4096  # about what one answer of `map` holds
_FILE_MAP_SPAN = 256 << 20


def read(image: Image, buffer: memoryview, offset: int) -> None:
    """Fills ``buffer`` with the guest's bytes at ``offset``. Raises OSError."""
    length = len(buffer)
    if not length:
        return
    bits = image.bits
    first, last = offset >> bits, (offset + length - 1) >> bits
    if first == last and _read_plain(image, buffer, offset):
        return
    done = 0
    while first <= last:
        count = min(q.PIECE, last - first + 1)
        end = min(length, ((first + count) << bits) - offset)
        _read_piece(image, buffer[done:end], offset + done, first, count)
        done = end
        first += count


def _read_plain(image: Image, buffer: memoryview, offset: int) -> bool:
    """A read within one cluster whose table is in memory and whose data lies plainly; else no."""
    cluster = offset >> image.bits
    in_cluster = image.in_cluster
    with image.lock:
        table = image.tables.cache.get(cluster >> image.l2_bits)
        if table is None:
            return False
        table.used = True
        entry = table.view[cluster & image.in_table]
        host = entry & q.OFFSET_MASK
        if not host or entry & (q.COMPRESSED | q.ZERO) or host & in_cluster:
            return False
        host += offset & in_cluster
        if host + len(buffer) > image.refcounts.file_end:
            return False
        epoch = image.enter()
    try:
        if image.file.event is not None:
            image.file.event("read_aio")
        image.file.read(buffer, host)
    finally:
        image.leave(epoch)
    return True


def _read_piece(image: Image, buffer: memoryview, offset: int, first: int, count: int) -> None:
    bits = image.bits
    with image.lock:
        entries = image.tables.gather(first, count)
        epoch = image.enter()
    try:
        base = offset - (first << bits)
        for kind, start, clusters, host in mapping.runs(entries, 1 << bits):
            low = max(0, (start << bits) - base)
            high = min(len(buffer), ((start + clusters) << bits) - base)
            skipped = offset + low - ((first + start) << bits)
            read_run(image, buffer[low:high], offset + low, kind, host, skipped)
    finally:
        image.leave(epoch)


def read_run(
    image: Image, buffer: memoryview, offset: int, kind: int, host: int, skipped: int = 0
) -> None:
    """The guest's bytes at ``offset``: those of one of ``mapping.runs``, without its first
    ``skipped`` bytes. Between ``enter`` and ``leave``."""
    if kind == mapping.DATA:
        _read_data(image, buffer, host + skipped)
    elif kind == mapping.UNALLOCATED:
        image.tell("read_backing_aio")
        image.read_backing(buffer, offset)
    elif kind == mapping.ZERO:
        zero(buffer)
    else:
        cluster = memoryview(image.read_compressed(host))
        buffer[:] = cluster[skipped : skipped + len(buffer)]


def _read_data(image: Image, buffer: memoryview, host: int) -> None:
    """Plain data; a run that begins past the end of the file was truncated away."""
    if host + len(buffer) > image.refcounts.file_end:
        # The last cluster of a file may be cut short where only zeroes would follow.
        last = (host + len(buffer) - 1) & ~(image.geometry.cluster_size - 1)
        if last >= image.file.length():
            message = f"Data cluster offset {last:#x} outside of the file"
            image.corrupt(message, last, image.geometry.cluster_size, fatal=False)
    image.tell("read_aio")
    image.file.read(buffer, host)


def holds(image: Image, offset: int, length: int) -> bool:
    """See ``Driver.holds``: a range within one cluster whose table is in memory."""
    cluster = offset >> image.bits
    if offset + length - 1 >> image.bits != cluster:
        return False
    with image.lock:
        table = image.tables.cache.get(cluster >> image.l2_bits)
        entry = table.view[cluster & image.in_table] if table is not None else 0
    return bool(entry & (q.OFFSET_MASK | q.ZERO | q.COMPRESSED))


def map_range(image: Image, offset: int, length: int) -> list[Extent]:
    """The runs at ``offset``: see ``Driver.map``. Raises OSError."""
    bits = image.bits
    position, end = offset, offset + length
    extents: list[Extent] = []
    hosts = _HostMap(image.file)
    while position < end and len(extents) < _MAX_EXTENTS:
        first = position >> bits
        with image.lock:
            skipped = _absent(image, first)
            if skipped:
                entries = None
            else:
                count = min(q.PIECE, ((end - 1) >> bits) - first + 1)
                entries = image.tables.gather(first, count)
        if entries is None:
            stop = min(end, (first + skipped) << bits)
            _append(extents, Extent(ExtentKind.UNALLOCATED, stop - position))
            position = stop
            continue
        for kind, start, clusters, host in mapping.runs(entries, 1 << bits, join_compressed=True):
            stop = min(end, (first + start + clusters) << bits)
            if kind == mapping.DATA:
                within = position - ((first + start) << bits)
                for extent in hosts.split(host + within, stop - position):
                    _append(extents, extent)
            elif kind == mapping.COMPRESSED:
                _append(extents, Extent(ExtentKind.DATA, stop - position, compressed=True))
            elif kind == mapping.ZERO:
                _append(extents, Extent(ExtentKind.ZERO, stop - position))
            else:
                _append(extents, Extent(ExtentKind.UNALLOCATED, stop - position))
            position = stop
    return extents


def _absent(image: Image, first: int) -> int:
    """Guest clusters from ``first`` on that have no L2 table (lock held)."""
    l2_bits = image.geometry.l2_bits
    index = first >> l2_bits
    used = image.tables.next_used(index)
    return max(0, (used << l2_bits) - first)


def _append(extents: list[Extent], new: Extent) -> None:
    """Adds a run, joined to the last one where they are one."""
    if extents:
        kind, length, host, host_offset, compressed = extents[-1]
        if (
            kind == new.kind
            and host == new.host
            and compressed == new.compressed
            and (host < 0 or host_offset + length == new.host_offset)
        ):
            extents[-1] = Extent(kind, length + new.length, host, host_offset, compressed)
            return
    extents.append(new)


class _HostMap:
    """Where runs of the image file lie on the host, asking the file child for large spans. Guest
    clusters that follow one another may lie far apart in the file, so all that was told is kept."""

    def __init__(self, file: Child) -> None:
        self.file = file
        self.starts: list[int] = []  # file offsets of the known extents, ascending
        self.known: list[Extent] = []

    def split(self, offset: int, length: int) -> list[Extent]:
        """The run of data at ``offset`` in the file as runs of the guest's."""
        result = []
        while length:
            extent, skipped = self._find(offset, length)
            count = min(length, extent.length - skipped)
            if extent.kind == ExtentKind.DATA:
                host, plain = extent.host, extent.host_offset + skipped
                if host < 0:
                    plain = 0
                result.append(Extent(ExtentKind.DATA, count, host, plain))
            else:
                result.append(Extent(ExtentKind.ZERO, count))
            offset += count
            length -= count
        return result

    def _find(self, offset: int, length: int) -> tuple[Extent, int]:
        """The extent that ``offset`` lies in, and how far in it."""
        at = bisect_right(self.starts, offset)
        if at:
            skipped = offset - self.starts[at - 1]
            extent = self.known[at - 1]
            if skipped < extent.length:
                return extent, skipped
        return self._ask(at, offset, length), 0

    def _ask(self, at: int, offset: int, length: int) -> Extent:
        """Learns what lies from ``offset`` to the known extent in place ``at``; its extent."""
        if len(self.known) > _MAX_EXTENTS:
            self.starts, self.known, at = [], [], 0
        span = max(length, _FILE_MAP_SPAN)
        if at < len(self.starts):
            span = min(span, self.starts[at] - offset)
        inside = min(span, self.file.length() - offset)
        found = self.file.map(offset, inside) if inside > 0 else []
        if not found:  # past the end of the file: nothing but zeroes
            found = [Extent(ExtentKind.ZERO, span)]
        ends = list(accumulate(extent.length for extent in found))
        self.starts[at:at] = [offset, *(offset + end for end in ends[:-1])]
        self.known[at:at] = found
        return found[0]
