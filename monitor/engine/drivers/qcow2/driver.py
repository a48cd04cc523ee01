"""The qcow2 driver: the driver contract on top of ``Image``.

Importing this module is cheap; numpy and the rest come with the first image that is opened.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from monitor.engine.drivers.base import (
    BitmapList,
    CheckReport,
    Child,
    Driver,
    DriverKind,
    Extent,
    Fix,
    LostBitmaps,
    NewSnapshot,
    OpenContext,
    OpenFlags,
    Ranges,
    Reopen,
    Reservation,
)
from monitor.engine.drivers.qcow2 import layout as q
from monitor.engine.drivers.qcow2.errors import BadOption, CorruptForWriting
from monitor.engine.errors import RequestError
from monitor.engine.schema.base import UNSET

if TYPE_CHECKING:
    from monitor.engine.bitmap import DirtyBitmap
    from monitor.engine.drivers.qcow2.image import Image, OnCorrupt

_DEFAULT_L2_CACHE: Final = 32 << 20
_DEFAULT_REFCOUNT_CACHE: Final = 8 << 20
_MIN_CACHE_ENTRY: Final = 512

CHANGEABLE: Final = frozenset({
    "lazy-refcounts", "pass-discard-request", "pass-discard-snapshot", "pass-discard-other",
    "cache-size", "l2-cache-size", "l2-cache-entry-size", "refcount-cache-size",
    "cache-clean-interval", "overlap-check",
    *(f"overlap-check.{part}" for part in (
        "template", "main-header", "active-l1", "active-l2", "refcount-table", "refcount-block",
        "snapshot-table", "inactive-l1", "inactive-l2", "bitmap-directory",
    )),
})  # fmt: skip
"""Options that an open image may be given anew: all of qcow2's own but those of encryption."""


def probe(first_bytes: bytes) -> bool:
    """Whether a file that begins so is a qcow2 image of version 2 or later."""
    if len(first_bytes) < q.HEADER_V2.size:
        return False
    magic, version = q.HEADER_V2.unpack_from(first_bytes)[:2]
    return bool(magic == q.MAGIC and version >= 2)


class Qcow2Driver(Driver):
    """An open qcow2 image."""

    name: ClassVar[str] = "qcow2"
    kind: ClassVar[DriverKind] = DriverKind.FORMAT
    child_roles: ClassVar[tuple[str, ...]] = ("file",)
    supports_backing: ClassVar[bool] = True
    stores_bitmaps: ClassVar[bool] = True
    compresses = True
    can_snapshot: ClassVar[bool] = True
    changeable: ClassVar[frozenset[str]] = CHANGEABLE

    on_corrupt: OnCorrupt | None
    """Set by the graph; called with (host offset, size, fatal, message), from any thread."""

    def __init__(self) -> None:
        self.on_corrupt = None
        self._image: Image
        self._read: Callable[[Image, memoryview, int], None]
        self._write: Callable[[Image, memoryview, int], None]
        self._map: Callable[[Image, int, int], list[Extent]]
        self._holds: Callable[[Image, int, int], bool]

    # -- life --------------------------------------------------------------------------------

    def open(self, context: OpenContext) -> None:
        from monitor.engine.drivers.qcow2 import reading, writing
        from monitor.engine.drivers.qcow2.image import Image
        from monitor.engine.drivers.qcow2.repair import repair_if_dirty

        l2_cache, refcount_cache = _cache_sizes(context.options)
        image = Image(
            context.children["file"],
            read_only=context.flags.read_only,
            l2_cache=l2_cache,
            refcount_cache=refcount_cache,
        )
        _check_options(context.options, image.geometry)
        image.on_corrupt = self._report
        _adopt(image, context.options, context.flags)
        if not context.flags.read_only:
            with image.flush_lock:
                repair_if_dirty(image)
        self._image = image
        self._node_name = context.node_name
        if self.bitmaps is not None and image.bitmap_directory.entries:
            self._load_bitmaps(self.bitmaps)
        # Looked up once: an import statement costs a microsecond even when there is nothing to do.
        self._read, self._write, self._map = reading.read, writing.write, reading.map_range
        self._holds = reading.holds
        self._options = context.options

    def _report(self, offset: int | None, size: int | None, fatal: bool, message: str) -> None:
        if self.on_corrupt is not None:
            self.on_corrupt(offset, size, fatal, message)

    def _load_bitmaps(self, into: BitmapList) -> None:
        from monitor.engine.drivers.qcow2 import keeping

        image = self._image
        for bitmap in keeping.load(image):
            bitmap.readonly = image.read_only
            into.add(bitmap)
        self.mark_bitmaps()

    def close(self) -> None:
        from monitor.engine.drivers.qcow2 import writeback

        image = self._image
        self.expect(0)
        try:
            self._store_bitmaps()
        except (RequestError, OSError) as error:
            reason = (
                error.text if isinstance(error, RequestError) else os.strerror(error.errno or 0)
            )
            raise LostBitmaps(self._node_name, reason) from error
        finally:
            if not image.read_only and image.unfinished:
                writeback.finish(image)

    def prepare_reopen(self, flags: OpenFlags, options: Any = None) -> Reopen | None:
        from monitor.engine.drivers.qcow2 import writeback

        image = self._image
        options = self._options if options is None else options
        caches = _cache_sizes(options)
        _check_options(options, image.geometry)
        pass_discards = _pass_discards(options, flags)
        before = (image.read_only, image.unmap, image.pass_discards)
        same_flags = before == (flags.read_only, flags.unmap, pass_discards)
        if same_flags and options is self._options:
            return None
        if flags.read_only and not image.read_only:
            self._store_bitmaps()
            image.changing = False  # the next change, if any, marks them again
        settles = flags.read_only or (image.lazy and not _is_lazy(image, options))
        if settles and not image.read_only and image.unfinished:
            writeback.finish(image)
        if not flags.read_only and image.header.incompatible & q.INCOMPAT_CORRUPT:
            raise CorruptForWriting

        def commit() -> None:
            self._options = options
            image.tables.limit_cache(caches[0])
            image.refcounts.limit_cache(caches[1])
            image.read_only = flags.read_only
            _adopt(image, options, flags)
            for bitmap in self._kept():
                bitmap.readonly = flags.read_only

        return _Reopen(commit, lambda: None)

    # -- data --------------------------------------------------------------------------------

    def length(self) -> int:
        return self._image.size

    def read(self, buffer: memoryview, offset: int) -> None:
        self._read(self._image, buffer, offset)

    def write(self, buffer: memoryview, offset: int) -> None:
        self._write(self._image, buffer, offset)

    def write_zeroes(
        self, offset: int, length: int, may_unmap: bool = False, no_fallback: bool = False
    ) -> None:
        from monitor.engine.drivers.qcow2 import zeroing

        image = self._image
        zeroing.write_zeroes(image, offset, length, may_unmap and image.unmap, no_fallback)

    def discard(self, offset: int, length: int) -> None:
        """Nothing unless the node is open with ``discard=unmap``."""
        from monitor.engine.drivers.qcow2 import zeroing

        if self._image.unmap:
            zeroing.discard(self._image, offset, length)

    def flush(self) -> None:
        from monitor.engine.drivers.qcow2 import writeback

        if not self._image.read_only:
            writeback.flush(self._image)

    def truncate(self, size: int) -> None:
        from monitor.engine.drivers.qcow2 import resize

        if self._image.bitmap_directory.entries and size != self._image.size:
            from monitor.engine.drivers.qcow2 import keeping

            keeping.check_resize(self._image, self._kept())
        resize.truncate(self._image, size)

    def check(self, fix: Fix) -> CheckReport:
        from monitor.engine.drivers.qcow2 import check

        return check.check(self._image, fix)

    def grow(self, size: int, preallocation: str) -> None:
        from monitor.engine.drivers.qcow2 import resize

        resize.truncate(self._image, size, preallocation)

    def make_empty(self) -> bool:
        from monitor.engine.drivers.qcow2 import emptying

        emptying.make_empty(self._image)
        return True

    def map(self, offset: int, length: int) -> list[Extent]:
        return self._map(self._image, offset, length)

    def holds(self, offset: int, length: int) -> bool:
        return self._holds(self._image, offset, length)

    def hold(self) -> AbstractContextManager[None]:
        from monitor.engine.drivers.qcow2 import reserving

        return reserving.hold(self._image)

    def map_for_write(self, offset: int, length: int) -> Reservation | None:
        from monitor.engine.drivers.qcow2 import reserving

        return reserving.map_for_write(self._image, offset, length)

    def read_ranges(self, buffer: memoryview, ranges: Ranges) -> None:
        from monitor.engine.drivers.qcow2 import scattered

        scattered.read_ranges(self._image, buffer, ranges)

    def write_ranges(self, buffer: memoryview, ranges: Ranges) -> None:
        from monitor.engine.drivers.qcow2 import scattered

        scattered.write_ranges(self._image, buffer, ranges)

    def expect(self, length: int) -> None:
        from monitor.engine.drivers.qcow2 import ahead

        ahead.expect(self._image, length)

    def write_compressed(self, buffer: memoryview, offset: int) -> None:
        from monitor.engine.drivers.qcow2 import compressing

        compressing.write_compressed(self._image, buffer, offset)

    # -- internal snapshots --------------------------------------------------------------------

    def snapshots(self) -> list[dict[str, Any]]:
        return [snapshot.info() for snapshot in self._image.snapshots]

    def create_snapshot(self, wanted: NewSnapshot) -> str:
        from monitor.engine.drivers.qcow2 import snapshotting

        return snapshotting.create(self._image, wanted)

    def apply_snapshot(self, number: int) -> None:
        from monitor.engine.drivers.qcow2 import snapshotting

        snapshotting.apply(self._image, self._image.snapshots[number])

    def delete_snapshot(self, number: int) -> None:
        from monitor.engine.drivers.qcow2 import snapshotting

        snapshotting.delete(self._image, self._image.snapshots[number])

    # -- bitmaps -----------------------------------------------------------------------------

    def _kept(self) -> list[DirtyBitmap]:
        """Those that the image is to keep."""
        named = self.bitmaps.named() if self.bitmaps is not None else []
        return [bitmap for bitmap in named if bitmap.persistent]

    def _store_bitmaps(self) -> None:
        kept = self._kept()
        if kept:
            from monitor.engine.drivers.qcow2 import keeping

            keeping.store(self._image, kept)

    def check_new_bitmap(self, name: str, granularity: int, others: Sequence[str]) -> None:
        from monitor.engine.drivers.qcow2 import keeping

        keeping.check_new(self._image, name, granularity, others)

    @property
    def bitmaps_unmarked(self) -> bool:
        return not self._image.read_only and self._image.bitmaps_unmarked

    def mark_bitmaps(self) -> None:
        if self.bitmaps_unmarked:
            self._image.changing = False
            self._image.begin_changes()

    def remove_bitmap(self, name: str) -> None:
        from monitor.engine.drivers.qcow2 import keeping

        keeping.remove(self._image, name)

    # -- facts -------------------------------------------------------------------------------

    @property
    def backing_filename(self) -> str | None:
        name = self._image.header.backing_file
        return None if name is None else os.fsdecode(name)

    @property
    def backing_format(self) -> str | None:
        return self._image.header.backing_format

    def set_backing(self, filename: str | None, fmt: str | None) -> None:
        from monitor.engine.drivers.qcow2 import resize

        resize.set_backing(self._image, filename, fmt)

    def mark_unfinished(self, text: str | None) -> None:
        from monitor.engine.drivers.qcow2 import unfinished

        unfinished.mark(self._image, text)

    def mark_again(self, text: str) -> None:
        from monitor.engine.drivers.qcow2 import unfinished

        unfinished.put_back(self._image, text)

    def unfinished(self) -> str | None:
        if not self._image.header.extensions:
            return None
        from monitor.engine.drivers.qcow2 import unfinished

        return unfinished.mark_of(self._image.header)

    def attach_backing(self, child: Child | None) -> None:
        self._image.backing = child

    def cluster_size(self) -> int | None:
        return self._image.geometry.cluster_size

    def specific_info(self) -> dict[str, Any] | None:
        header = self._image.header
        data: dict[str, Any] = {
            "compat": "1.1" if header.version >= 3 else "0.10",
            "compression-type": q.COMPRESSION_NAMES[header.compression_type],
        }
        if header.version >= 3:
            data["lazy-refcounts"] = bool(header.compatible & q.COMPAT_LAZY_REFCOUNTS)
        data["refcount-bits"] = header.geometry.refcount_bits
        if header.version >= 3:
            data["corrupt"] = bool(header.incompatible & q.INCOMPAT_CORRUPT)
            data["extended-l2"] = False
        if self._image.bitmap_directory.entries:
            data["bitmaps"] = [entry.info() for entry in self._image.bitmap_directory.entries]
        return {"type": "qcow2", "data": data}

    def image_facts(self) -> dict[str, Any]:
        header = self._image.header
        facts: dict[str, Any] = {
            "cluster-size": self._image.geometry.cluster_size,
            "dirty-flag": bool(header.incompatible & q.INCOMPAT_DIRTY),
        }
        if self._image.snapshots:
            facts["snapshots"] = self.snapshots()
        return facts


@dataclass(slots=True)
class _Reopen:
    """A prepared change; what a read-only image must not keep was written already."""

    commit: Callable[[], None]
    abort: Callable[[], None]


def _adopt(image: Image, options: Any, flags: OpenFlags) -> None:
    """Makes ``image`` work as its options say, in what may change while it is open."""
    image.unmap = flags.unmap
    image.pass_discards = _pass_discards(options, flags)
    image.discard_snapshots = getattr(options, "pass_discard_snapshot", UNSET) is not False
    image.lazy = _is_lazy(image, options)


def _is_lazy(image: Image, options: Any) -> bool:
    """The option, or else what the image's header asks for."""
    chosen = getattr(options, "lazy_refcounts", UNSET)
    if chosen is UNSET:
        return bool(image.header.compatible & q.COMPAT_LAZY_REFCOUNTS)
    return chosen is True


def _pass_discards(options: Any, flags: OpenFlags) -> bool:
    chosen = getattr(options, "pass_discard_request", UNSET)
    return flags.unmap if chosen is UNSET else bool(chosen)


def _cache_sizes(options: Any) -> tuple[int, int]:
    """Bytes of L2 tables and of refcount blocks to keep in memory, from QEMU's three options."""

    def given(name: str) -> int | None:
        value = getattr(options, name, UNSET)
        return None if value is UNSET else int(value)

    total, l2, refcounts = (
        given("cache_size"),
        given("l2_cache_size"),
        given("refcount_cache_size"),
    )
    if total is not None:
        if l2 is not None and refcounts is not None:
            raise BadOption(
                "cache-size, l2-cache-size and refcount-cache-size may not be set at the same time"
            )
        if l2 is not None and l2 > total:
            raise BadOption("l2-cache-size may not exceed cache-size")
        if refcounts is not None and refcounts > total:
            raise BadOption("refcount-cache-size may not exceed cache-size")
        if l2 is None and refcounts is None:
            refcounts = total // 4
        if l2 is None:
            l2 = total - (refcounts or 0)
        elif refcounts is None:
            refcounts = total - l2
    return (
        _DEFAULT_L2_CACHE if l2 is None else l2,
        _DEFAULT_REFCOUNT_CACHE if refcounts is None else refcounts,
    )


def _check_options(options: Any, geometry: q.Geometry) -> None:
    entry = getattr(options, "l2_cache_entry_size", UNSET)
    if entry is not UNSET and not (
        _MIN_CACHE_ENTRY <= entry <= geometry.cluster_size and entry & (entry - 1) == 0
    ):
        raise BadOption(
            "L2 cache entry size must be a power of two between "
            f"{_MIN_CACHE_ENTRY} and the cluster size ({geometry.cluster_size})"
        )
    if getattr(options, "lazy_refcounts", UNSET) is True and geometry.version < 3:
        raise BadOption(
            "Lazy refcounts require a qcow2 image with at least qemu 1.1 compatibility level"
        )
