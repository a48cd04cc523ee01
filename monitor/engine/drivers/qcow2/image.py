"""An open image: its tables, and the rules by which threads share them.

Locks
-----
``lock`` guards all metadata in memory and is held for short steps, table reads included, never for
guest data. ``flush_lock`` makes write-backs, header changes and resizing one at a time; it is taken
before ``lock``, never inside it. The corrupt bit alone is set by whoever finds out, whatever he
holds: feature bits are changed, and headers written that hold them, under ``header_lock``, which is
taken last.

Who may touch a host cluster
----------------------------
*Allocating writes* claim their guest clusters in ``claims``; whoever wants to change the mapping of
a claimed cluster waits until the claim is gone. Data that is written in place needs no claim.

*Freed clusters* are not free at once. When an entry is changed, what it referred to goes to
``dropped``. A write-back that makes the change durable moves it to ``retired`` with the current
epoch, and only when every request that began in that epoch or before has ended are the refcounts
lowered. So neither a crash nor a slow reader ever sees a cluster's next owner.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from errno import EIO, EROFS
from typing import NoReturn

from monitor.engine.arrays import NDArray, np
from monitor.engine.drivers.base import Child
from monitor.engine.drivers.buffers import zero
from monitor.engine.drivers.qcow2 import layout as q
from monitor.engine.drivers.qcow2.bitmaps import Directory, read_directory
from monitor.engine.drivers.qcow2.claims import Claims
from monitor.engine.drivers.qcow2.compress import decompress
from monitor.engine.drivers.qcow2.errors import CorruptionError
from monitor.engine.drivers.qcow2.header import Header, read_header
from monitor.engine.drivers.qcow2.mapping import Entries, host_clusters, tally
from monitor.engine.drivers.qcow2.overlap import MetadataMap, Region, region
from monitor.engine.drivers.qcow2.placing import fill_holes
from monitor.engine.drivers.qcow2.refcount import Refcounts, load_table
from monitor.engine.drivers.qcow2.snapshots import Snapshot, read_snapshots
from monitor.engine.drivers.qcow2.tables import Tables
from monitor.engine.errors import host_failure

OnCorrupt = Callable[[int | None, int | None, bool, str], None]
"""Called with (host offset, size, fatal, message) when the image turns out to be damaged."""

DEFAULT_L2_CACHE = 32 << 20
DEFAULT_REFCOUNT_CACHE = 8 << 20
_DROPPED_LIMIT = 256 << 20
"""Bytes of dropped clusters that start a write-back, so that they can be used again; of a large
disk a sixteenth, since each write-back waits for the host's disk twice."""
_DROPPED_CLUSTERS = 1 << 17
"""As many start one in any case: each is 8 bytes of memory."""


class Image:
    """The state that reading, writing, zeroing, resizing and write-back work on.

    Opening reads the header and the tables' roots, and writes nothing. Raises BadImage,
    HostFailure.
    """

    def __init__(
        self,
        file: Child,
        *,
        read_only: bool,
        l2_cache: int = DEFAULT_L2_CACHE,
        refcount_cache: int = DEFAULT_REFCOUNT_CACHE,
    ) -> None:
        self.file = file
        self.backing: Child | None = None
        self.read_only = read_only
        self.on_corrupt: OnCorrupt | None = None
        self.header: Header = read_header(file, read_only=read_only)
        self.geometry = self.header.geometry
        self.bits = self.geometry.cluster_bits
        self.l2_bits = self.geometry.l2_bits
        self.in_cluster = self.geometry.cluster_size - 1  # masks
        self.in_table = (1 << self.l2_bits) - 1
        self.size = self.header.size // q.SECTOR * q.SECTOR
        self.bitmap_directory: Directory = read_directory(file, self.header)
        self.snapshots: list[Snapshot]
        self.snapshots, self.snapshot_bytes = read_snapshots(file, self.header)

        self.lock = threading.Lock()
        self.claims = Claims(self.lock)
        self.flush_lock = threading.Lock()
        self.header_lock = threading.Lock()
        self.metadata = MetadataMap(self._regions)
        self._open_tables(l2_cache, refcount_cache)

        self.reserved = False  # the file may be longer than what is in use: ``ahead``
        self.changing = False  # the header says that this image is being written to
        self.header_unsure = False  # nobody knows whether it is on the disk
        self.unfinished = False  # it has been written to, and ``writeback.finish`` is to come
        self.unmap = False  # `discard=unmap`: the guest may give clusters up
        self.pass_discards = False  # freed clusters are discarded in the file
        self.lazy = False  # refcounts may be postponed: see `lazy`
        self.discard_snapshots = True  # and those that a snapshot gives up
        self.data_pending = False  # data that entries in memory refer to may not be durable
        self.dropped: list[NDArray[np.uint64]] = []
        self.dropped_count = 0
        self.retired: deque[tuple[int, list[NDArray[np.uint64]]]] = deque()
        self._epoch = 0
        self._active: dict[int, int] = {}
        self._corrupt_reported = False
        self.broken = False  # found corrupt: nothing is written any more
        self.flushes_started = 0
        self.flushes_finished = 0

    def _open_tables(self, l2_cache: int, refcount_cache: int) -> None:
        header = self.header
        try:
            l1 = load_table(self.file, header.l1_table_offset, header.l1_size)
        except OSError as error:
            raise host_failure("Could not read L1 table", error) from error
        try:
            entries = header.refcount_table_clusters << (header.cluster_bits - 3)
            self.tell("reftable_load")
            reftable = load_table(self.file, header.refcount_table_offset, entries)
        except OSError as error:
            raise host_failure("Could not initialize refcount handling", error) from error
        self.refcounts = Refcounts(
            self.file,
            self.geometry,
            reftable,
            header.refcount_table_offset,
            self.metadata,
            self.corrupt,
            refcount_cache,
        )
        self.tables = Tables(
            self.file,
            self.geometry,
            l1,
            header.l1_table_offset,
            self.refcounts,
            self.metadata,
            self.corrupt,
            l2_cache,
        )

    # -- requests and the clusters they may touch ------------------------------------------------

    def enter(self) -> int:
        """A request begins to use host clusters that it looked up (lock held)."""
        epoch = self._epoch
        self._active[epoch] = self._active.get(epoch, 0) + 1
        return epoch

    def leave(self, epoch: int) -> None:
        """The request that ``enter`` gave ``epoch`` to has ended."""
        with self.lock:
            left = self._active[epoch] - 1
            if left:
                self._active[epoch] = left
            else:
                del self._active[epoch]

    def retire(self, clusters: list[NDArray[np.uint64]]) -> None:
        """``clusters`` are no longer referred to, durably (lock held)."""
        if clusters:
            self.retired.append((self._epoch, clusters))
            self._epoch += 1

    def releasable(self) -> list[NDArray[np.uint64]]:
        """Takes the retired clusters that no request uses any more (lock held)."""
        oldest = min(self._active, default=self._epoch)
        result = []
        while self.retired and self.retired[0][0] < oldest:
            result += self.retired.popleft()[1]
        return result

    def drop(self, entries: Entries) -> None:
        """The host clusters of replaced ``entries`` lose a reference, in time (lock held)."""
        self.drop_clusters(host_clusters(entries, self.geometry))

    def drop_clusters(self, clusters: NDArray[np.uint64]) -> None:
        if len(clusters):
            self.dropped.append(clusters)
            self.dropped_count += len(clusters)

    def crowded(self) -> bool:
        """Whether a write-back is due without anybody having asked for a flush."""
        return (
            self.dropped_count << self.geometry.cluster_bits > max(_DROPPED_LIMIT, self.size >> 4)
            or self.dropped_count > _DROPPED_CLUSTERS
            or self.tables.crowded()
        )

    # -- corruption ------------------------------------------------------------------------------

    def check_writable(self) -> None:
        """Raises OSError when nothing may be written."""
        if self.broken:
            raise OSError(EIO, "the image is marked corrupt")
        if self.read_only:
            raise OSError(EROFS, "the image is open read-only")

    def corrupt(
        self, message: str, offset: int | None = None, size: int | None = None, fatal: bool = True
    ) -> NoReturn:
        """The image contradicts itself: say so once, and never write to it again if ``fatal``.

        Raises CorruptionError, whose errno is EIO.
        """
        fatal = fatal and not self.read_only
        report = not self.broken if fatal else not self._corrupt_reported
        if fatal:
            self.broken = True
            self._mark_corrupt()
        if report:
            self._corrupt_reported = True
            if self.on_corrupt is not None:
                self.on_corrupt(offset, size, fatal, message)
        raise CorruptionError(message)

    def _mark_corrupt(self) -> None:
        """Sets the header's corrupt bit; version 2 has none."""
        if self.geometry.version < 3:
            return
        with self.header_lock:
            if self.header.incompatible & q.INCOMPAT_CORRUPT:
                return
            self.header.incompatible |= q.INCOMPAT_CORRUPT  # also where it cannot be written now
        with contextlib.suppress(OSError):  # the error that is being reported says more
            self.write_features()

    def write_features(self, *, put: int = 0, take: int = 0, autoclear: int | None = None) -> None:
        """Puts incompatible feature bits into a version 3 header and takes others out, and sets the
        autoclear bits, durably. The flush lock is held, but for the corrupt bit. Raises OSError,
        and the bits in memory are as they were."""
        with self.header_lock:
            header = self.header
            bits = header.incompatible & ~take | put
            autoclear = header.autoclear if autoclear is None else autoclear
            fields = q.FEATURES.pack(bits, header.compatible, autoclear)
            self.file.write(memoryview(fields), q.FEATURES_AT)
            self.file.flush()
            header.incompatible, header.autoclear = bits, autoclear

    def adopt(self, header: Header) -> None:
        """``header`` is the image's from now on; its incompatible bits are those of before, of
        which it may be a late copy."""
        with self.header_lock:
            header.incompatible = self.header.incompatible
            self.header = header

    def write_size(self) -> None:
        """Writes the header's size and L1 fields, which lie side by side."""
        header = self.header
        fields = q.SIZE_FIELDS.pack(header.size, 0, header.l1_size, header.l1_table_offset)
        self.file.write(memoryview(fields), q.SIZE_AT)

    @property
    def is_dirty(self) -> bool:
        """The header says that refcounts may be wrong."""
        return bool(self.header.incompatible & q.INCOMPAT_DIRTY)

    @property
    def bitmaps_unmarked(self) -> bool:
        """Some bitmaps on the disk are still as they are in memory."""
        return any(e.usable and not e.in_use for e in self.bitmap_directory.entries)

    # -- beginning to write ----------------------------------------------------------------------

    def begin_changes(self) -> None:
        """Before the first change: clear autoclear bits, look whether the metadata is sound, mark
        the bitmaps as in use.

        A feature whose autoclear bit is set holds only while every writer keeps it up. Bitmaps are
        kept up (``keeping``); the bit of any other feature goes, durably, before anything else is
        written.
        """
        with self.flush_lock:
            if self.changing:
                return
            self.check_writable()
            from monitor.engine.drivers.qcow2.keeping import mark_in_use  # these work on images
            from monitor.engine.drivers.qcow2.repair import repair_if_dirty

            with self.lock:
                found = self.metadata.collision()
                if found:
                    name, offset = found
                    message = f"Metadata structures overlap ({name} at {offset:#x})"
                    self.corrupt(message, offset, self.geometry.cluster_size)
            self._settle_roots()
            if not self.unfinished:  # else counts wait in memory, and the dirty bit is our own
                repair_if_dirty(self)
            kept = q.AUTOCLEAR_BITMAPS if self.bitmap_directory.entries else 0
            if self.header.autoclear != kept:
                self.write_features(autoclear=kept)
            mark_in_use(self)
            self.changing = self.unfinished = True

    def _settle_roots(self) -> None:
        """The L1 and the refcount table lie in no holes of the file (flush lock held)."""
        for at, entries in (
            (self.tables.l1_offset, len(self.tables.l1)),
            (self.refcounts.table_offset, len(self.refcounts.table)),
        ):
            fill_holes(self.file, at, at + entries * 8)

    def _regions(self) -> list[Region]:
        """Every structure that guest data must never be written over, by QEMU's names."""
        cluster = self.geometry.cluster_size
        aligned = np.uint64(cluster - 1)
        l2 = self.tables.l1 & q.OFFSET_MASK
        blocks = self.refcounts.table & q.REFTABLE_MASK

        def whole(size: int) -> int:
            return (size + cluster - 1) & -cluster

        found = [
            region("qcow2_header", 0, cluster),
            region("active L1 table", self.tables.l1_offset, whole(len(self.tables.l1) * 8)),
            Region("active L2 table", tally(l2[(l2 != 0) & (l2 & aligned == 0)])[0], cluster),
            region("refcount table", self.refcounts.table_offset, len(self.refcounts.table) * 8),
            Region("refcount block", blocks[(blocks != 0) & (blocks & aligned == 0)], cluster),
            region("snapshot table", self.header.snapshots_offset, whole(self.snapshot_bytes)),
            region(
                "bitmap directory",
                self.bitmap_directory.offset,
                whole(self.bitmap_directory.size),
            ),
        ]
        found += [
            region("bitmap table", entry.table_offset, whole(entry.table_size * 8))
            for entry in self.bitmap_directory.entries
        ]
        found += [
            region("inactive L1 table", s.l1_table_offset, whole(s.l1_size * 8))
            for s in self.snapshots
            if s.l1_size * 8 <= q.MAX_L1_BYTES and s.l1_table_offset < q.MAX_HOST_OFFSET
        ]
        return found

    # -- what lies below -------------------------------------------------------------------------

    def read_backing(self, buffer: memoryview, offset: int) -> None:
        """Fills ``buffer`` from the backing image; zeroes past its end, or without one."""
        backing = self.backing
        inside = 0
        if backing is not None:
            inside = min(len(buffer), max(0, backing.length() - offset))
            if inside:
                backing.read(buffer[:inside] if inside < len(buffer) else buffer, offset)
        if inside < len(buffer):
            zero(buffer[inside:])

    def backing_covers(self, offset: int) -> bool:
        """Whether an unallocated cluster at ``offset`` may read as anything but zeroes."""
        return self.backing is not None and self.backing.length() > offset

    def tell(self, event: str) -> None:
        """Reports an event to a ``blkdebug`` below, where there is one. It may wait."""
        if self.file.event is not None:
            self.file.event(event)

    def read_compressed(self, entry: int) -> bytes:
        """The data of a compressed cluster. Raises OSError(EIO) when it is damaged."""
        self.tell("read_compressed")
        offset, length = self.geometry.compressed_extent(entry)
        data = bytearray(length)
        self.file.read(memoryview(data), offset)
        return decompress(
            self.header.compression_type, memoryview(data), self.geometry.cluster_size
        )
