"""The driver contract.

A driver turns requests on a node into requests on its children, or into system calls. It knows
bytes and its own format; it knows nothing of names, parents, drives, jobs or users. The graph
(``engine.graph``) owns the nodes and calls the driver; a filter's or format's driver reaches its
children through ``Child`` edges only.

What holds for every driver
---------------------------

**Threads.** ``open``, ``close``, ``create`` and all I/O block, and run in worker threads, never on
the control loop. I/O operations may be called from several threads at once; a driver locks its own
tables. It holds no lock of its own while it calls a child's data operations for guest data, waits
only for its own I/O or for another request that is in flight, and never for the control loop.
No I/O is in flight while ``close``, or the ``commit``/``abort`` of a reopen, runs.

**Bounds.** Offsets and lengths are bytes. The client has checked ``0 <= offset`` and
``offset + length <= length()`` for reads, writes, zeroes and discards that come from outside;
drivers need not check again. A *format* driver may ask its protocol child beyond the end of the
file: a read there gives zeroes, a write grows the file.

**Reading.** ``read(buffer, offset)`` fills the caller's whole buffer (a flat, writable memoryview
of bytes) or raises. There is no short read. It returns nothing and keeps no reference.

**Writing.** ``write(buffer, offset)`` takes all of the buffer or raises; after an error the range
holds old, new or mixed bytes, and nothing else has changed. The data may sit in caches until
``flush``. Overlapping writes that are in flight together end in either order, never in damaged
metadata.

**Flush.** When ``flush`` returns, everything that completed before it was called survives a power
cut: data and the metadata that makes it reachable. A node opened with ``no-flush`` skips the last
``fdatasync`` and nothing else.

**Zeroes.** After ``write_zeroes`` the range reads as zeroes. With ``may_unmap`` the driver may
give storage back; with ``no_fallback`` it raises ``OSError(ENOTSUP)`` rather than write a buffer of
zeroes. ``discard`` is advice: what the range reads as afterwards is up to the driver (qcow2 reads
zeroes), and a driver that cannot discard does nothing.

**Alignment.** Every operation takes any offset and length. A driver that needs aligned requests
(O_DIRECT) says so in ``alignment``, so that callers with a choice choose well, and mends the rest
itself (read, modify, write, with overlapping writers excluded).

**Map.** ``map(offset, length)`` answers for this layer alone, as a list of runs that begin at
``offset``, do not overlap and cover at most ``length`` bytes (at least one byte when length > 0;
the caller asks again for the rest, so that one answer stays bounded). ``UNALLOCATED`` means that
the next layer of the backing chain decides; without one it reads as zeroes. A run of DATA whose
bytes lie plainly in a host file offers that file's descriptor and offset; nobody may rely on it.

**Host files.** Whoever copies straight from or into the files that ``map`` and ``map_for_write``
offer goes past the drivers, in one lane from looking to the last byte::

    with child.hold():                              reserved = child.map_for_write(offset, length)
        for run in child.map(offset, length):       if reserved is None: child.write(...)
            copy out of run.host                    copy into every run of reserved.runs
                                                    reserved.commit()     or .abort()

``hold`` keeps the host ranges that are looked up inside from being given to anything else. They may
be written over or discarded meanwhile, as with any read beside a write: the copy finds old bytes,
new bytes or zeroes, never somebody else's. It blocks nobody.

``map_for_write`` reserves host ranges for the first bytes of the range, as few and as long runs as
the format allows, and hands them out as a ``Reservation``; None where there is no host file to
offer, or not for a range that begins there (then: ``write``). Until ``commit`` the range reads as
it did, whatever has been copied; a crash, or ``abort``, leaves it so and at worst leaks storage.
``commit`` says that all of every run has been written: from then on the range reads as that, and
``flush`` makes it durable like any write. Where a run was in use already it is written over in
place, and ``abort`` leaves mixed bytes there, as a failed write does. Other writers of the range
wait until the reservation has ended, which it must, once, whatever goes wrong; so its holder makes
no other request of that image, and holds one reservation at a time.

**Scattered requests.** ``read_ranges(buffer, ranges)`` and ``write_ranges`` are ``read`` and
``write`` for many ranges of the disk at once, for who copies: ``ranges`` are (offset, length),
ascending and apart from each other, and ``buffer`` holds their data, one behind the other. What a
request promises holds for each; after an error of a write each holds old, new or mixed bytes. When
it writes the driver may lay them side by side, and may have the host begin to carry them to the
disk.

**Expected writes.** ``expect(length)`` says that some ``length`` bytes more are about to be written
where the disk holds nothing yet; 0, that no more are. It is advice, from who copies, and raises
nothing. A format takes up room in its file ahead (``reserve``), and gives back what was left when
it is told 0, or closed. ``reserve(size)`` has the file take up room up to its byte ``size``, and be
so long, where that makes writes faster: with O_DIRECT the host lets one that makes a file longer
run beside no other. The new part reads as zeroes.

**Compressed writes.** ``write_compressed`` takes whole clusters (the last of the disk may be short)
and stores each compressed where that makes it smaller, plainly where not. It promises what
``write`` promises. A driver that cannot says so in ``compresses`` and raises ENOTSUP.

**Errors.** I/O raises ``OSError`` with its errno; opening, creating and resizing raise
``RequestError`` with QEMU's sentence, or ``OSError``. Whatever an image claims, a driver raises one
of these two: any other exception is a bug.

**Untrusted bytes.** Every count, size and offset that comes from a file is checked against the file
and against a stated limit before memory is allocated or a loop begins.

The values that go back and forth are declared in ``drivers.terms``, and can be imported from here.
"""

from __future__ import annotations

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar

from monitor.engine import permissions
from monitor.engine.drivers.terms import (
    MAX_LENGTH,
    BitmapList,
    CheckReport,
    Child,
    DriverKind,
    Extent,
    ExtentKind,
    Fix,
    NewSnapshot,
    OpenContext,
    OpenFlags,
    Operations,
    Ranges,
    RangesRequest,
    Reopen,
    Reservation,
    batches,
    cut,
    one_by_one,
)
from monitor.engine.errors import Refused, RequestError

if TYPE_CHECKING:
    from monitor.engine.bitmap import DirtyBitmap

__all__ = [
    "MAX_LENGTH",
    "BitmapList",
    "CheckReport",
    "CheckUnsupported",
    "Child",
    "Driver",
    "DriverKind",
    "Extent",
    "ExtentKind",
    "Fix",
    "LostBitmaps",
    "NewSnapshot",
    "OpenContext",
    "OpenFlags",
    "Operations",
    "PreallocationUnsupported",
    "Ranges",
    "RangesRequest",
    "Reopen",
    "Reservation",
    "batches",
    "cut",
    "one_by_one",
]


class PreallocationUnsupported(RequestError):
    template = "Unsupported preallocation mode '{mode}'"
    mode: str


class LostBitmaps(RequestError):
    """An image has been closed with all of its contents, but not with its bitmaps."""

    template = "Lost persistent bitmaps during inactivation of node '{node}': {reason}"
    node: str
    reason: str


class CheckUnsupported(RequestError):
    template = "This image format does not support checks"


class Driver(ABC):
    """One open image. See the module's docstring for what each operation promises."""

    name: ClassVar[str]
    kind: ClassVar[DriverKind]
    child_roles: ClassVar[tuple[str, ...]] = ()
    """The roles that the options may name; the first is the one that holds the data."""
    supports_backing: ClassVar[bool] = False
    can_snapshot: ClassVar[bool] = False
    """Whether the image itself can keep snapshots of the disk."""
    on_corrupt: Callable[[int | None, int | None, bool, str], None] | None = None
    """Told (offset, size, fatal, message) when the driver finds its image corrupt. Called from any
    thread, perhaps under the driver's lock: it must return at once and call nothing here."""
    on_suspend: Callable[[str], None] | None = None
    """Told the tag of each request that begins to stand at a breakpoint, from its thread."""
    alignment: int = 1
    compresses: bool = False
    """``write_compressed`` works."""
    reopens: ClassVar[bool] = True
    """``blockdev-reopen`` may change its flags and options."""
    changeable: ClassVar[frozenset[str]] = frozenset()
    """Options of its own that ``prepare_reopen`` changes, by their dotted names."""
    stores_bitmaps: ClassVar[bool] = False
    """The image can keep dirty bitmaps."""
    probed: bool = False
    """Nobody named it: the graph guessed from the image's first bytes."""
    turns_read_only: bool = False
    """Once open: it can only be read, and ``auto_read_only`` allows that."""
    is_protocol: ClassVar[bool] = False
    """A file name may call the driver by a prefix; an image in it is called by its name."""
    remote: ClassVar[bool] = False
    """Each request waits for an answer from somewhere else."""
    copies_on_read: ClassVar[bool] = False
    """The graph has what is read of the node copied into the image below it (a filter's)."""
    never_frozen: ClassVar[bool] = False
    """A job's own filter, which is to go: no link that leads to it may be kept as it is."""
    lingers: ClassVar[bool] = False
    """Its work may outlast the request that it was for; drained sections wait for ``at_rest``."""
    on_rest: Callable[[], None] | None = None
    """Called, from any thread, when a driver that lingers may have come to rest."""
    minds_parents: ClassVar[bool] = False
    """What it takes and shares of its children depends on whether anybody is above it."""
    has_parents = False
    """Kept up to date by the graph, for those who mind."""
    opens_at_once: ClassVar[bool] = False
    """``open`` and ``close`` never wait for a disk, so they need no worker."""

    def child_permissions(
        self, role: str, taken: int, shared: int, writable: bool
    ) -> tuple[int, int]:
        """What this node takes of the child in ``role`` and shares, when its own parents together
        take ``taken`` of it and share ``shared``; ``writable`` is whether this node is open
        read-write. Must not touch anything."""
        if role == "backing":
            return permissions.for_backing(taken, shared)
        if self.kind is DriverKind.FILTER:
            return permissions.through_filter(taken, shared)
        return permissions.for_image(taken, shared, writable=writable)

    def passes_to(self) -> str | None:
        """The role of the child that reads, writes and flushes may go straight to, when this
        driver changes nothing about them; None when it takes part."""
        return None

    def event_sink(self) -> Callable[[str], None] | None:
        """What the parents' ``Child.event`` is bound to, once this driver is open."""
        return None

    def at_rest(self) -> bool:
        """Whether nothing goes on that no request waits for."""
        return True

    def own_bitmaps(self) -> Sequence[tuple[str, DirtyBitmap]]:
        """Bitmaps of its own that queries show: of the child in a role, or of the node itself
        ("")."""
        return ()

    # -- life --------------------------------------------------------------------------------

    @abstractmethod
    def open(self, context: OpenContext) -> None:
        """Opens the image; raises with nothing left open. Reads headers, writes nothing unless
        the image is open read-write and must be marked so."""

    @abstractmethod
    def close(self) -> None:
        """Writes back what is cached (unless read-only) and lets go. Raises OSError when the
        write-back failed, LostBitmaps when only bitmaps could not be stored; everything is released
        all the same. Children are closed by the graph."""

    def let_go(self) -> None:  # noqa: B027  (few hold anything)
        """The end is near: no request of this node may be held up any longer."""

    def stop_waiting(self) -> None:  # noqa: B027  (few wait)
        """Whoever waits for the other side to come back waits no longer, until it has come back:
        who asked for the requests has given them up. Returns at once."""

    def make_empty(self) -> bool:
        """Gives up all that this layer holds, so that the backing image shows; whether it could.
        Raises OSError."""
        return False

    def prepare_reopen(self, flags: OpenFlags, options: Any = None) -> Reopen | None:
        """Prepares a change of flags, and to ``options`` of the driver's struct (None: they stay)
        in so far as they are ``changeable``. None: nothing to do. Raises when it is impossible."""
        return None

    def waits_for(self, taken: int) -> bool:
        """Whether ``check_permissions``, with ``taken`` more taken, would wait for the host now.
        Then ``make_ready`` comes first."""
        return False

    def make_ready(self, taken: int) -> None:  # noqa: B027  (most need nothing)
        """Called in a worker before somebody takes ``taken``: opens what that needs. Raises as
        ``check_permissions`` does."""

    def check_permissions(self, taken: int, shared: int) -> Reopen | None:
        """Asked when the union of what the parents take, or the intersection of what they share,
        changes (only protocol drivers with host locks care). Raises with QEMU's sentence when the
        host refuses; otherwise the change is final on ``commit``."""
        return None

    # -- data --------------------------------------------------------------------------------

    @abstractmethod
    def length(self) -> int:
        """The size of the virtual disk (or of the file) in bytes."""

    @abstractmethod
    def read(self, buffer: memoryview, offset: int) -> None: ...

    @abstractmethod
    def write(self, buffer: memoryview, offset: int) -> None: ...

    @abstractmethod
    def write_zeroes(
        self, offset: int, length: int, may_unmap: bool = False, no_fallback: bool = False
    ) -> None: ...

    def discard(self, offset: int, length: int) -> None:  # noqa: B027  (advice, may be ignored)
        """Default: advice ignored."""

    @abstractmethod
    def flush(self) -> None: ...

    @abstractmethod
    def truncate(self, size: int) -> None:
        """Sets the length to exactly ``size`` bytes; the new part reads as zeroes (also where a
        backing image is longer than the old length). Raises OSError or RequestError."""

    def check(self, fix: Fix) -> CheckReport:
        """Holds the image's metadata against itself, and mends what ``fix`` names. No request is
        under way. Default: there is nothing to check. Raises RequestError, OSError."""
        raise CheckUnsupported

    def grow(self, size: int, preallocation: str) -> None:
        """``truncate`` to a size that is not smaller, with what is added allocated at once: "off",
        "metadata", "falloc" or "full", as in QEMU. Raises OSError or RequestError, and the length
        is as it was then. Default: only "off"."""
        if preallocation != "off":
            raise PreallocationUnsupported(preallocation)
        self.truncate(size)

    @abstractmethod
    def map(self, offset: int, length: int) -> list[Extent]: ...

    def holds(self, offset: int, length: int) -> bool:
        """Whether it can be said at once, without I/O, that all of the range lies in this layer.
        Where it says no, ``map`` knows. Default: no."""
        return False

    def hold(self) -> AbstractContextManager[None]:
        """Default: nothing is ever stored in another range's place, so nothing needs holding."""
        return nullcontext()

    def map_for_write(self, offset: int, length: int) -> Reservation | None:
        """Default: no host file to offer."""
        return None

    def read_ranges(self, buffer: memoryview, ranges: Ranges) -> None:
        """Default: one after the other."""
        one_by_one(self.read, buffer, ranges)

    def write_ranges(self, buffer: memoryview, ranges: Ranges) -> None:
        """Default: one after the other."""
        one_by_one(self.write, buffer, ranges)

    def expect(self, length: int) -> None:  # noqa: B027  (advice, may be ignored)
        """Default: advice ignored."""

    def reserve(self, size: int) -> None:  # noqa: B027
        """Default: the same."""

    def write_compressed(self, buffer: memoryview, offset: int) -> None:
        """Default: refused with ENOTSUP."""
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    # -- internal snapshots; called drained --------------------------------------------------

    def snapshots(self) -> list[dict[str, Any]]:
        """The snapshots kept in the image, in QMP's shape (``SnapshotInfo``), oldest first."""
        return []

    def create_snapshot(self, wanted: NewSnapshot) -> str:
        """Keeps the disk as it is now, durably; the new snapshot's id. Raises OSError."""
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    def apply_snapshot(self, number: int) -> None:
        """Makes the disk what it was in that snapshot of ``snapshots``, its length too. Raises
        RequestError, OSError."""
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    def delete_snapshot(self, number: int) -> None:
        """Raises RequestError, OSError."""
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    # -- bitmaps -----------------------------------------------------------------------------

    bitmaps: BitmapList | None = None
    """The node's dirty bitmaps. The driver of an image that keeps some puts those in when it opens
    it, and stores those that are persistent when it closes it, or when it becomes read-only."""

    @property
    def bitmaps_unmarked(self) -> bool:
        """``mark_bitmaps`` has something to do. No I/O."""
        return False

    def mark_bitmaps(self) -> None:  # noqa: B027  (only of images that keep some)
        """Before a bitmap that the image keeps changes: says on the disk that those there may be
        out of date. (A change of the disk itself does so too.) Raises OSError."""

    def remove_bitmap(self, name: str) -> None:  # noqa: B027
        """The image forgets a bitmap, if it keeps one so called. Raises RequestError, OSError."""

    def check_new_bitmap(self, name: str, granularity: int, others: Sequence[str]) -> None:
        """Whether the image can keep one more bitmap beside ``others`` that it keeps or will keep.
        Raises RequestError with the reason."""
        raise Refused(f"Driver '{self.name}' keeps no bitmaps")

    # -- facts -------------------------------------------------------------------------------

    @property
    def filename(self) -> str:
        """What messages and queries show as the node's file; '' when it has none of its own."""
        return ""

    def filename_over(self, exact: str, shown: str) -> str:
        """A filter's name above a child that is called ``shown``, and ``exact`` where that brings
        it back by itself (else ''); '' for a ``json:`` name of its own."""
        return ""

    @property
    def backing_filename(self) -> str | None:
        """The backing file as the image's header names it; None when it names none."""
        return None

    @property
    def backing_format(self) -> str | None:
        return None

    def set_backing(self, filename: str | None, fmt: str | None) -> None:
        """Rewrites the header's backing link durably: flush, header, flush. Raises OSError."""
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    def mark_unfinished(self, text: str | None) -> None:  # noqa: B027  (formats only)
        """The image keeps ``text`` (None: no more), which tells who is to fill it: a job that has
        not ended well. Durably, after all that was written. Raises OSError."""

    def mark_again(self, text: str) -> None:  # noqa: B027  (formats only)
        """As ``mark_unfinished``, which has failed or taken the mark out, as far as the disk lets
        it: without barriers, where it refuses those. Raises nothing."""

    def unfinished(self) -> str | None:
        """What ``mark_unfinished`` left in the image."""
        return None

    def attach_backing(self, child: Child | None) -> None:  # noqa: B027  (formats only)
        """The graph attached, replaced or (None) removed the backing child. Called drained."""

    def allocated_bytes(self) -> int | None:
        """Host bytes in use by this layer, None when unknown (``actual-size``)."""
        return None

    def cluster_size(self) -> int | None:
        """The unit of allocation in bytes, None when there is none."""
        return None

    def specific_info(self) -> dict[str, Any] | None:
        """``ImageInfoSpecific`` in QMP's shape ({"type": …, "data": …}); None when none."""
        return None

    def specific_stats(self) -> dict[str, int] | None:
        """``BlockStatsSpecific`` in QMP's shape, without the driver's name; None when none."""
        return None

    def image_facts(self) -> dict[str, Any] | None:
        """Optional members of QMP's ``ImageInfo`` that the format knows (``dirty-flag``,
        ``encrypted``, ``compressed``, ``cluster-size``), in QMP's spelling; None when those of
        the data child hold, as of a filter."""
        return None if self.kind is DriverKind.FILTER else {"dirty-flag": False}
