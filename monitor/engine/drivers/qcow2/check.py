"""Checking an open image, and mending it: the refcounts and COPIED flags held against what refers
to what. The numbers are those of ``qemu-img check``."""

from __future__ import annotations

from typing import Any, Final

from monitor.engine.arrays import NDArray, np
from monitor.engine.drivers.base import CheckReport, Fix
from monitor.engine.drivers.qcow2 import census as counting
from monitor.engine.drivers.qcow2 import layout as q
from monitor.engine.drivers.qcow2 import lazy, repair, writeback
from monitor.engine.drivers.qcow2.census import Census
from monitor.engine.drivers.qcow2.errors import TablesDamaged
from monitor.engine.drivers.qcow2.image import Image

_MAX_LINES: Final = 1000


def check(image: Image, fix: Fix) -> CheckReport:
    """Compares, and mends what ``fix`` names. No request is under way. Raises OSError,
    TooLargeToRepair."""
    with image.flush_lock:
        if not image.read_only and image.unfinished:
            writeback.drain_locked(image)
        report, census, stored = _compare(image, fix)
        if fix != "none" and (report.leaks or report.corruptions):
            report = _mend(image, fix, report, census, stored)
    return report


def _compare(image: Image, fix: Fix) -> tuple[CheckReport, Census, NDArray[np.uint32]]:
    census = counting.take(image)
    counts = census.counts
    stored = _stored(image, len(counts))
    wrong = np.flatnonzero(stored != counts)
    low = stored[wrong] < counts[wrong]
    lines = list(census.problems)
    for cluster in wrong[:_MAX_LINES].tolist():
        kind = "ERROR" if stored[cluster] < counts[cluster] else "Leaked"
        lines.append(
            f"{kind} cluster {cluster} refcount={stored[cluster]} reference={counts[cluster]}"
        )
    report = CheckReport(
        image_end_offset=max(_end(stored), _end(counts)) << image.bits,
        total_clusters=image.geometry.clusters(image.size),
        allocated_clusters=census.allocated,
        fragmented_clusters=census.fragmented,
        compressed_clusters=census.compressed,
        leaks=int(np.count_nonzero(~low)),
        corruptions=census.corruptions + int(np.count_nonzero(low)),
        problems=lines,
    )
    _check_copied(image, counts if fix == "all" else stored, report)
    return report, census, stored


def _end(counts: NDArray[np.uint32]) -> int:
    """Where the zeroes at the end begin."""
    high = len(counts)
    while high:
        low = max(0, high - q.PIECE)
        used = np.flatnonzero(counts[low:high])
        if len(used):
            return low + int(used[-1]) + 1
        high = low
    return 0


def _stored(image: Image, clusters: int) -> NDArray[np.uint32]:
    """The refcounts as they are recorded, of so many ``clusters``."""
    refcounts = image.refcounts
    entries = refcounts.block_entries
    blocks = np.flatnonzero(refcounts.table).tolist()
    limit = -(-clusters // entries)
    stored = np.zeros(clusters, np.uint32)
    for index in blocks:
        offset = int(refcounts.table[index]) & q.REFTABLE_MASK
        if index >= limit or offset & image.in_cluster or offset >= image.file.length():
            continue
        block = refcounts.block(index)
        if block is not None:
            low = index * entries
            part: NDArray[Any] = block.counters[: clusters - low]
            if part.dtype.itemsize > 4:
                part = np.minimum(part, np.uint64(0xFFFF_FFFF))
            stored[low : low + len(part)] = part
    return stored


def _check_copied(image: Image, counts: NDArray[np.uint32], report: CheckReport) -> None:
    """Whether the COPIED flags of the active tables agree with ``counts``."""
    l1 = image.tables.l1
    wrong = np.flatnonzero(_disagrees(image, l1, counts))
    for index in wrong[:_MAX_LINES].tolist():
        entry = int(l1[index])
        refcount = int(counts[(entry & q.OFFSET_MASK) >> image.bits])
        report.problems.append(
            f"ERROR OFLAG_COPIED L2 cluster: l1_index={index} l1_entry={entry:x} "
            f"refcount={refcount}"
        )
    report.corruptions += len(wrong)
    offsets: NDArray[np.uint64] = l1[_inside(image, l1, counts)] & np.uint64(q.OFFSET_MASK)
    for tables in counting.batches(image, offsets):
        entries = tables.reshape(-1)
        odd = np.flatnonzero(_disagrees(image, entries, counts))
        for at in odd[: max(0, _MAX_LINES - len(report.problems))].tolist():
            entry = int(entries[at])
            refcount = int(counts[(entry & q.OFFSET_MASK) >> image.bits])
            report.problems.append(
                f"ERROR OFLAG_COPIED data cluster: l2_entry={entry:x} refcount={refcount}"
            )
        report.corruptions += len(odd)


def _inside(image: Image, entries: NDArray[np.uint64], counts: Any) -> NDArray[np.bool_]:
    """Entries that name an aligned host cluster inside the file."""
    hosts = entries & q.OFFSET_MASK
    good: NDArray[np.bool_] = (entries & q.COMPRESSED) == 0
    good &= hosts != 0
    good &= (hosts & np.uint64(image.in_cluster)) == 0
    good &= (hosts >> np.uint64(image.bits)) < len(counts)
    return good


def _disagrees(
    image: Image, entries: NDArray[np.uint64], counts: NDArray[np.uint32]
) -> NDArray[np.bool_]:
    good = _inside(image, entries, counts)
    hosts = (entries & q.OFFSET_MASK) >> np.uint64(image.bits)
    single = counts.take(hosts.astype(np.intp), mode="clip") == 1
    flagged = (entries & q.COPIED) != 0
    result: NDArray[np.bool_] = good & (single != flagged)
    return result


def _mend(
    image: Image, fix: Fix, found: CheckReport, census: Census, stored: NDArray[np.uint32]
) -> CheckReport:
    """Leaks only, or all of refcounts and flags; the report of a second look, with what the first
    one found and this one does not any more as fixed."""
    image.check_writable()
    if census.corruptions:
        raise TablesDamaged
    counts = census.counts if fix == "all" else np.minimum(census.counts, stored)
    with image.lock:
        repair.set_refcounts(image, counts, add_blocks=fix == "all")
        if fix == "all":
            repair.set_copied_flags(image, counts)
    writeback.drain_locked(image)
    lazy_bit = image.is_dirty
    again, _, _ = _compare(image, "none")
    if lazy_bit and not again.corruptions:
        lazy.mark_clean(image)
    again.leaks_fixed = max(0, found.leaks - again.leaks)
    again.corruptions_fixed = max(0, found.corruptions - again.corruptions)
    again.problems = found.problems
    return again
