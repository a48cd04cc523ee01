"""Dirty bitmaps in an image: loaded, marked as in use, stored again, removed.

While an image is open for writing, its bitmaps live in memory and those on the disk are marked
*in use*: whoever finds that mark knows that they may miss writes. The order::

    before the first change   the mark, in place: one field of each entry, each within a sector
                              -- barrier --
    at the end                data, tables and a new directory, in new clusters; refcounts
                              -- barrier --
                              the header's extension names the new directory, without marks
                              -- barrier --
                              the old ones lose their references

So a crash leaves them as they were stored (nothing has changed since), marked, or stored anew.
Called with no request under way, in a worker, and with the image's flush lock free.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from monitor.engine.arrays import NDArray, np
from monitor.engine.drivers.qcow2 import extension, writeback
from monitor.engine.drivers.qcow2 import layout as q
from monitor.engine.drivers.qcow2.bitmaps import (
    Directory,
    Stored,
    extension_of,
    pack_directory,
    read_table,
)
from monitor.engine.drivers.qcow2.errors import BadBitmaps, CannotKeepBitmaps
from monitor.engine.drivers.qcow2.image import Image
from monitor.engine.drivers.qcow2.mapping import Entries, bytes_view, clusters_at
from monitor.engine.errors import host_failure

if TYPE_CHECKING:
    from monitor.engine.bitmap import DirtyBitmap

_FLAGS = struct.Struct(">I")
_FLAGS_AT = 12  # in an entry of the directory


# -- loading -----------------------------------------------------------------------------------


def load(image: Image) -> list[DirtyBitmap]:
    """The image's bitmaps, in the directory's order; one that is marked in use is inconsistent,
    and nothing of it is read. Raises BadBitmaps, HostFailure."""
    from monitor.engine.bitmap import DirtyBitmap

    loaded = []
    data_left, tables_left = q.MAX_BITMAP_DATA, q.MAX_BITMAP_TABLES
    for entry in image.bitmap_directory.entries:
        if not entry.usable:
            continue
        bitmap = DirtyBitmap(image.size, 1 << entry.granularity_bits, entry.name)
        bitmap.persistent = True
        bitmap.enabled = bool(entry.flags & q.BITMAP_AUTO)
        if entry.in_use:
            bitmap.inconsistent, bitmap.enabled = True, False
        else:
            tables_left -= entry.table_size * 8
            if tables_left < 0:
                raise BadBitmaps("The tables of the bitmaps are too large")
            try:
                data_left -= _load_one(image, entry, bitmap, data_left)
            except OSError as error:
                what = f"Could not read bitmap '{entry.name}' from image"
                raise host_failure(what, error) from error
        loaded.append(bitmap)
    return loaded


def _load_one(image: Image, entry: Stored, bitmap: DirtyBitmap, limit: int) -> int:
    """Fills a bitmap, and tells how many bytes of data were read for it: ``limit`` at most, and
    never more than the file has, whatever its tables name twice."""
    from monitor.engine.bitmapwords import load_words

    cluster = image.geometry.cluster_size
    covered = cluster * 8 << entry.granularity_bits  # bytes of the disk
    if entry.table_size != -(-image.size // covered):
        raise BadBitmaps(f"Could not read bitmap '{entry.name}' from image: Invalid argument")
    table = read_table(image.file, entry, image.geometry)
    hosts = table & np.uint64(q.OFFSET_MASK)
    size = int(np.count_nonzero(hosts)) * cluster
    if size > min(limit, image.file.length()):
        raise BadBitmaps(f"Bitmap '{entry.name}' holds more data than can be read")
    ones = (hosts == 0) & ((table & np.uint64(q.BITMAP_ALL_ONES)) != 0)
    for start, end in _runs(ones):
        bitmap.set(start * covered, min(end * covered, image.size) - start * covered)
    buffer = bytearray(cluster)
    for number in np.flatnonzero(hosts).tolist():
        image.file.read(memoryview(buffer), int(hosts[number]))
        load_words(bitmap, number * cluster // 8, memoryview(buffer))
    return size


def _runs(flags: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Where runs of true begin and end."""
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False)).tolist()
    return zip(edges[::2], edges[1::2], strict=True)


# -- while it is open ----------------------------------------------------------------------------


def mark_in_use(image: Image) -> None:
    """Says on the disk, unless it does already, that the bitmaps may miss writes (flush lock held).
    Raises OSError."""
    directory = image.bitmap_directory
    if not image.bitmaps_unmarked:
        return
    at = directory.offset
    marked = []
    for entry in directory.entries:
        size = len(entry.pack())
        if entry.usable and not entry.in_use:
            entry = replace(entry, flags=entry.flags | q.BITMAP_IN_USE)
            image.file.write(memoryview(_FLAGS.pack(entry.flags)), at + _FLAGS_AT)
        marked.append(entry)
        at += size
    image.file.flush()
    image.bitmap_directory = replace(directory, entries=tuple(marked))


def check_new(image: Image, name: str, granularity: int, others: Sequence[str]) -> None:
    """Whether one more bitmap can be kept. Raises CannotKeepBitmaps."""
    if image.geometry.version < 3:
        raise CannotKeepBitmaps("Cannot store dirty bitmaps in qcow2 v2 files")
    _check_one(image, name, granularity)
    if len(others) + 1 > q.MAX_BITMAPS:
        raise CannotKeepBitmaps("Maximum number of persistent bitmaps is already reached")
    if sum(_entry_size(other) for other in (*others, name)) > q.MAX_BITMAP_DIRECTORY:
        raise CannotKeepBitmaps("Not enough space in the bitmap directory")


def _check_one(image: Image, name: str, granularity: int) -> None:
    """The limits of one bitmap."""
    data = (image.size // granularity + 8) // 8
    if granularity > 1 << q.MAX_GRANULARITY_BITS:
        raise CannotKeepBitmaps(
            f"Granularity exceeds maximum ({1 << q.MAX_GRANULARITY_BITS} bytes)"
        )
    if data > q.MAX_BITMAP_BYTES:
        raise CannotKeepBitmaps(
            "Too much space will be occupied by the bitmap. Use larger granularity"
        )
    if len(name.encode()) > q.MAX_BITMAP_NAME:
        raise CannotKeepBitmaps(f"Name length exceeds maximum ({q.MAX_BITMAP_NAME} characters)")


def _entry_size(name: str) -> int:
    return (q.BITMAP.size + len(name.encode()) + 7) & ~7


def check_resize(image: Image, kept: Sequence[DirtyBitmap]) -> None:
    """A disk changes its size with all of its bitmaps, which must be in memory and sound. Raises
    RequestError."""
    named = {bitmap.name: bitmap for bitmap in kept}
    for entry in image.bitmap_directory.entries:
        bitmap = named.get(entry.name)
        if bitmap is None:
            raise CannotKeepBitmaps(
                "Cannot resize qcow2 with persistent bitmaps that were not loaded into memory"
            )
        bitmap.check()


# -- storing -----------------------------------------------------------------------------------


@dataclass(slots=True)
class _Plan:
    """A bitmap to be stored: which clusters of its data are written, and which are all ones."""

    bitmap: DirtyBitmap
    entry: Stored
    table: Entries
    data: list[int]

    @property
    def clusters(self) -> int:
        return len(self.data)


def store(image: Image, kept: Sequence[DirtyBitmap]) -> None:
    """Stores those of ``kept`` that can be used; the image's others stay as they are. Raises
    CannotKeepBitmaps, HostFailure, OSError, and what is on the disk is what was there."""
    wanted = [bitmap for bitmap in kept if not (bitmap.inconsistent or bitmap.readonly)]
    if not wanted:
        return
    if image.read_only:
        raise CannotKeepBitmaps("No write access")
    old = {entry.name: entry for entry in image.bitmap_directory.entries}
    entries = dict(old)
    plans = []
    for bitmap in reversed(wanted):  # QEMU writes the newest first
        name = bitmap.name or ""
        try:
            _check_one(image, name, bitmap.granularity)
        except CannotKeepBitmaps as error:
            raise CannotKeepBitmaps(
                f"Bitmap '{name}' doesn't satisfy the constraints: {error.text}"
            ) from error
        plan = _plan(image, bitmap, old.get(name))
        entries[name] = plan.entry
        plans.append(plan)
    if len(entries) > q.MAX_BITMAPS:
        raise CannotKeepBitmaps("Too many persistent bitmaps")
    if sum(len(entry.pack()) for entry in entries.values()) > q.MAX_BITMAP_DIRECTORY:
        raise CannotKeepBitmaps("Bitmap directory is too large")
    data, tables = 0, 0
    for plan in plans:
        data += plan.clusters << image.bits
        tables += len(plan.table) * 8
        if data > q.MAX_BITMAP_DATA or tables > q.MAX_BITMAP_TABLES:
            raise CannotKeepBitmaps(f"Bitmap '{plan.bitmap.name}' is too big")
    replaced = [old[plan.entry.name] for plan in plans if plan.entry.name in old]
    if not image.changing:
        image.begin_changes()
    with image.flush_lock:
        _replace_directory(image, tuple(entries.values()), plans, replaced)


def remove(image: Image, name: str) -> None:
    """Forgets one bitmap; none of that name is no mistake. Raises OSError."""
    if all(entry.name != name for entry in image.bitmap_directory.entries):
        return
    if not image.changing:
        image.begin_changes()  # those that stay are marked
    gone = [entry for entry in image.bitmap_directory.entries if entry.name == name]
    rest = tuple(entry for entry in image.bitmap_directory.entries if entry.name != name)
    with image.flush_lock:
        _replace_directory(image, rest, [], gone)


def _plan(image: Image, bitmap: DirtyBitmap, before: Stored | None) -> _Plan:
    cluster = image.geometry.cluster_size
    covered = cluster * 8 * bitmap.granularity
    table = np.zeros(-(-image.size // covered), np.uint64)
    data = []
    at = bitmap.next_dirty(0)
    while at is not None:
        number = at // covered
        end = (number + 1) * covered
        # Bits beyond the end of the disk are clean, so a last cluster that is not whole has data.
        if end <= image.size and bitmap.is_full(number * covered, covered):
            table[number] = q.BITMAP_ALL_ONES
        else:
            data.append(number)
        at = bitmap.next_dirty(end)
    flags = q.BITMAP_AUTO if bitmap.enabled else 0
    entry = Stored(
        raw_name=before.raw_name if before else (bitmap.name or "").encode(),
        table_offset=0,
        table_size=len(table),
        flags=flags | (before.flags & q.BITMAP_EXTRA_COMPATIBLE if before else 0),
        granularity_bits=bitmap.granularity.bit_length() - 1,
        extra=before.extra if before else b"",
    )
    return _Plan(bitmap, entry, table, data)


def _replace_directory(
    image: Image, entries: tuple[Stored, ...], plans: list[_Plan], replaced: list[Stored]
) -> None:
    """The order of the module's docstring (flush lock held)."""
    geometry = image.geometry
    old = image.bitmap_directory
    freed = [clusters_at(image.geometry, old.offset, old.size), *_clusters_of(image, replaced)]
    size = len(pack_directory(entries))
    total = geometry.clusters(size)
    total += sum(p.clusters + geometry.clusters(len(p.table) * 8) for p in plans)
    with image.lock:
        first = image.refcounts.allocate(total) if total else 0
    taken = np.arange(first, first + total, dtype=np.uint64)
    try:
        at = first << image.bits
        for plan in plans:
            try:
                at = _write_bitmap(image, plan, at)
            except OSError as error:
                what = f"Failed to write bitmap '{plan.bitmap.name}' to file"
                raise host_failure(what, error) from error
        directory = Directory(at if entries else 0, size, entries)
        if entries:
            _write_padded(image, pack_directory(entries), at)
        writeback.drain_locked(image)
        extension.replace(image, extension_of(directory) if entries else None)
    except extension.HeaderUnknown:  # either may be in force, so the clusters of both stay
        image.bitmap_directory, image.changing = Directory(), False
        raise
    except BaseException:
        if not image.broken:
            with image.lock:
                image.refcounts.release(taken)
        raise
    image.bitmap_directory = directory
    with image.lock:
        image.metadata.forget()
        image.retire([part for part in freed if len(part)])
    with contextlib.suppress(OSError):  # it stays to be done, and the next flush tells
        writeback.drain_locked(image)


def _write_bitmap(image: Image, plan: _Plan, at: int) -> int:
    """Writes data and table from host offset ``at`` on; where the next may begin."""
    from monitor.engine.bitmapwords import words_of

    cluster = image.geometry.cluster_size
    for number in plan.data:
        words = words_of(plan.bitmap, number * cluster // 8, cluster // 8)
        image.file.write(memoryview(b"".join(words)), at)
        plan.table[number] = at
        at += cluster
    plan.entry.table_offset = at
    padded = np.zeros(image.geometry.clusters(len(plan.table) * 8) * cluster // 8, np.uint64)
    padded[: len(plan.table)] = plan.table
    image.file.write(bytes_view(padded.byteswap(inplace=True)), at)
    return at + len(padded) * 8


def _write_padded(image: Image, data: bytes, at: int) -> None:
    whole = image.geometry.clusters(len(data)) << image.bits
    image.file.write(memoryview(data.ljust(whole, b"\0")), at)


# -- host clusters -------------------------------------------------------------------------------


def _clusters_of(image: Image, entries: Sequence[Stored]) -> Iterator[NDArray[np.uint64]]:
    """The tables and the data of bitmaps. A table that cannot be read keeps its data: it leaks."""
    for entry in entries:
        yield clusters_at(image.geometry, entry.table_offset, entry.table_size * 8)
        try:
            table = read_table(image.file, entry, image.geometry)
        except (BadBitmaps, OSError):
            continue
        hosts = table & np.uint64(q.OFFSET_MASK)
        yield hosts[hosts != 0] >> np.uint64(image.bits)


def all_clusters(image: Image) -> Iterator[NDArray[np.uint64]]:
    """Every reference from the bitmaps, for counting anew. Raises BadBitmaps, OSError."""
    directory = image.bitmap_directory
    yield clusters_at(image.geometry, directory.offset, directory.size)
    for entry in directory.entries:
        yield clusters_at(image.geometry, entry.table_offset, entry.table_size * 8)
        table = read_table(image.file, entry, image.geometry)
        hosts = table & np.uint64(q.OFFSET_MASK)
        yield hosts[hosts != 0] >> np.uint64(image.bits)
