"""Writing guest data: in place where it may be, else into newly allocated runs.

An allocating write has three steps, and nothing refers to its clusters before the last one::

    plan   (lock)  claim the guest clusters, allocate one contiguous run of host clusters
    write          data, and of the first and last cluster what the request leaves as it was
    link   (lock)  enter the new clusters into the L2 table, drop the old ones, give up the claim
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from monitor.engine.arrays import NDArray, np
from monitor.engine.drivers import buffers
from monitor.engine.drivers.qcow2 import layout as q
from monitor.engine.drivers.qcow2 import lazy, mapping, single, writeback
from monitor.engine.drivers.qcow2.claims import Claim
from monitor.engine.drivers.qcow2.cow import old_data
from monitor.engine.drivers.qcow2.image import Image
from monitor.engine.drivers.qcow2.mapping import Entries

_JOIN_LIMIT = 256 << 10
"""Up to this many bytes, kept and new data are put together and written in one call."""


class Plan(NamedTuple):
    """How the clusters of a piece get their data.

    ``clusters`` are the guest's, ascending; ``targets`` are host offsets, one a cluster; ``new``
    marks the clusters to be linked; ``old`` are the entries as they were. ``fresh`` means that new
    clusters hold only zeroes now.
    """

    clusters: NDArray[np.intp]
    old: Entries
    targets: Entries
    new: NDArray[np.bool_]
    allocated: NDArray[np.uint64]  # host clusters taken for this piece
    fresh: bool
    claim: Claim | None
    epoch: int


def write(image: Image, buffer: memoryview, offset: int) -> None:
    """Writes all of ``buffer`` at the guest's ``offset``. Raises OSError."""
    length = len(buffer)
    if not length:
        return
    if not image.changing:
        image.begin_changes()
    bits = image.bits
    first, last = offset >> bits, (offset + length - 1) >> bits
    if first == last and single.write_in_place(image, buffer, offset):
        return
    if first != last or not single.write_allocating(image, buffer, offset):
        _write_pieces(image, buffer, offset, first, last)
    if image.crowded():
        writeback.write_back(image)


def _write_pieces(image: Image, buffer: memoryview, offset: int, first: int, last: int) -> None:
    length = len(buffer)
    bits = image.bits
    done = 0
    while first <= last:
        count = min(q.PIECE, last - first + 1)
        end = min(length, ((first + count) << bits) - offset)
        _write_piece(image, buffer[done:end], offset + done, first, count)
        done = end
        first += count


def _write_piece(image: Image, buffer: memoryview, offset: int, first: int, count: int) -> None:
    with image.lock:
        planned = plan(image, first, count)
    carry_out(image, planned, buffer, offset, image.file.write)


def carry_out(
    image: Image,
    planned: Plan,
    buffer: memoryview,
    offset: int,
    write: Callable[[memoryview, int], None],
) -> None:
    """Writes by ``write``, to the file, and links. ``offset`` is the guest's, of the first byte."""
    try:
        for part, host in _parts(image, planned, buffer, offset):
            image.tell("write_aio")
            write(part, host)
    except BaseException:
        abandon(image, planned)
        raise
    finish(image, planned)


def plan(image: Image, first: int, count: int) -> Plan:
    """Looks up the piece and allocates what it lacks (lock held)."""
    image.claims.wait(first, count)
    image.check_writable()
    for dropped in image.tables.prepare(first, count):
        image.drop_clusters(dropped)
    old = image.tables.gather(first, count)
    return allocate(image, np.arange(first, first + count), old)


def allocate(image: Image, clusters: NDArray[np.intp], old: Entries) -> Plan:
    """The plan for ``clusters``, which nobody claims and whose entries are ``old`` (lock held)."""
    bits, count = image.bits, len(clusters)
    hosts: Entries = old & np.uint64(q.OFFSET_MASK)
    mine = (old & (q.COPIED | q.COMPRESSED)) == q.COPIED
    mine &= hosts != 0
    new = ~mine | ((old & q.ZERO) != 0)
    missing = int(count - np.count_nonzero(mine))
    targets: Entries = hosts
    allocated: Entries = hosts[:0]
    fresh = False
    if missing < count:
        _check_in_place(image, targets[mine])
    if missing:
        before = image.refcounts.file_end
        start = image.refcounts.allocate(missing)
        fresh = start << bits >= before
        allocated = np.arange(start, start + missing, dtype=np.uint64)
        targets[~mine] = allocated << np.uint64(bits)
    claim = image.claims.take(*extent(clusters)) if new.any() else None
    return Plan(clusters, old, targets, new, allocated, fresh, claim, image.enter())


def extent(clusters: NDArray[np.intp]) -> tuple[int, int, NDArray[np.intp] | None]:
    """The first of ascending clusters and how many there are up to the last one; which of these,
    unless it is all of them."""
    first = int(clusters[0])
    count = int(clusters[-1]) + 1 - first
    return first, count, None if count == len(clusters) else clusters


def _check_in_place(image: Image, hosts: Entries) -> None:
    """Guest data never goes where metadata lies, whatever an L2 entry says."""
    size = image.geometry.cluster_size
    starts = mapping.breaks(hosts[1:] != hosts[:-1] + np.uint64(size))
    for low, high in zip(starts, [*starts[1:], len(hosts)], strict=True):
        offset, length = int(hosts[low]), (high - low) * size
        if image.metadata.hits(offset, length):
            name = image.metadata.name_at(offset, length)
            message = f"Preventing invalid write on metadata (overlaps with {name})"
            image.corrupt(message, offset, length)


def _parts(
    image: Image, plan: Plan, buffer: memoryview, offset: int
) -> list[tuple[memoryview, int]]:
    """What to write where: a part for each run of host clusters, completed at both ends."""
    size = image.geometry.cluster_size
    head = offset & (size - 1)
    tail = -(offset + len(buffer)) & (size - 1)
    targets = plan.targets
    starts = mapping.breaks(targets[1:] != targets[:-1] + np.uint64(size))
    parts = []
    for low, high in zip(starts, [*starts[1:], len(targets)], strict=True):
        begin = max(0, low * size - head)
        end = min(len(buffer), high * size - head)
        parts.append((buffer[begin:end], int(targets[low]) + (head if low == 0 else 0)))
    if head and plan.new[0]:
        parts[0:1] = _keep_head(image, plan, parts[0], head)
    if tail and plan.new[-1]:
        parts[-1:] = _keep_tail(image, plan, parts[-1], tail)
    return parts


def _keep_head(
    image: Image, plan: Plan, part: tuple[memoryview, int], size: int
) -> list[tuple[memoryview, int]]:
    data, host = part
    offset = int(plan.clusters[0]) << image.bits
    kept = old_data(image, int(plan.old[0]), offset, size, fresh=plan.fresh)
    if kept is None:
        return [part]
    if len(data) <= _JOIN_LIMIT:
        return [(_join(kept, data), host - size)]
    return [(kept, host - size), part]


def _keep_tail(
    image: Image, plan: Plan, part: tuple[memoryview, int], size: int
) -> list[tuple[memoryview, int]]:
    data, host = part
    end = (int(plan.clusters[-1]) + 1) << image.bits
    kept = old_data(image, int(plan.old[-1]), end - size, size, fresh=plan.fresh)
    if kept is None:
        return [part]
    if len(data) <= _JOIN_LIMIT:
        return [(_join(data, kept), host)]
    return [part, (kept, host + len(data))]


def _join(first: memoryview, second: memoryview) -> memoryview:
    joined = bytearray(len(first) + len(second))
    joined[: len(first)] = first
    joined[len(first) :] = second
    return memoryview(joined)


def finish(image: Image, plan: Plan) -> None:
    """The data is written: the L2 table may now refer to it. Raises OSError, and has abandoned."""
    if plan.claim is None:
        image.leave(plan.epoch)
    else:
        _link(image, plan)


def _link(image: Image, plan: Plan) -> None:
    try:
        lazy.before_linking(image)
        with image.lock:
            image.tables.scatter(
                plan.clusters[plan.new], plan.targets[plan.new] | np.uint64(q.COPIED)
            )
            kept = plan.old[plan.new]
            own = (kept & (q.COPIED | q.COMPRESSED)) == q.COPIED
            if kept.any():
                image.drop(kept[~own])
            image.data_pending = True
            assert plan.claim is not None
            image.claims.give_up(plan.claim)
    except BaseException:
        abandon(image, plan)
        raise
    image.leave(plan.epoch)


def abandon(image: Image, plan: Plan) -> None:
    """The write failed: what it allocated was never referred to."""
    image.leave(plan.epoch)
    with image.lock:
        if plan.claim is not None:
            image.claims.give_up(plan.claim)
        image.refcounts.release(plan.allocated)


def write_zero_data(image: Image, offset: int, length: int) -> None:
    """Writes zeroes as data."""
    buffers.write_zeroes(lambda part, at: write(image, part, at), offset, length)
