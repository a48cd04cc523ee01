"""The terms of the driver contract (``drivers.base``): what drivers get, and what they answer."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol

import msgspec

if TYPE_CHECKING:
    from monitor.engine.bitmap import DirtyBitmap
    from monitor.engine.objects.base import Objects

MAX_LENGTH: Final = (1 << 63) - (1 << 30)
"""The longest disk of QEMU's block layer, bytes: 2^63 - 1 rounded down to its largest alignment."""


class DriverKind(enum.Enum):
    PROTOCOL = "protocol"  # bytes of the host, or none at all: no child that holds the data
    FORMAT = "format"  # an image format on a `file` child
    FILTER = "filter"  # one data child, same length, same bytes


class ExtentKind(enum.IntEnum):
    DATA = 0
    ZERO = 1
    UNALLOCATED = 2


class Extent(NamedTuple):
    """A run of one kind.

    ``host`` is the descriptor of a host file in which the run lies plainly at ``host_offset``,
    or -1 where there is none to offer; it is valid only within the lane that asked.
    ``compressed`` data lies in the image but not plainly.
    """

    kind: ExtentKind
    length: int
    host: int = -1
    host_offset: int = 0
    compressed: bool = False


Ranges = Sequence[tuple[int, int]]
"""(offset, length) in bytes of each."""
RangesRequest = Callable[[memoryview, Ranges], None]


def one_by_one(
    request: Callable[[memoryview, int], None], buffer: memoryview, ranges: Ranges
) -> None:
    """``read_ranges`` by a ``read`` for each, or ``write_ranges`` by a ``write``."""
    at = 0
    for offset, length in ranges:
        request(buffer[at : at + length], offset)
        at += length


def cut(ranges: Ranges, most: int) -> Iterator[tuple[int, int]]:
    """``ranges`` in order, none longer than ``most``."""
    for start, length in ranges:
        end = start + length
        for offset in range(start, end, most):
            yield offset, min(most, end - offset)


def batches(ranges: Ranges, most: int) -> Iterator[Ranges]:
    """``ranges`` in order, cut into parts that come to at most ``most`` bytes together."""
    batch: list[tuple[int, int]] = []
    room = most
    for offset, length in cut(ranges, most):
        if length > room:
            yield batch
            batch, room = [], most
        batch.append((offset, length))
        room -= length
    if batch:
        yield batch


class Reservation:
    """Host ranges to be written past the driver: see ``map_for_write`` in the contract.

    ``runs`` are DATA with a ``host``, in the order of the range and without a gap in it.
    """

    __slots__ = ("_abort", "_commit", "runs")

    def __init__(
        self, runs: list[Extent], commit: Callable[[], None], abort: Callable[[], None]
    ) -> None:
        self.runs = runs
        self._commit = commit
        self._abort = abort

    @property
    def length(self) -> int:
        """Bytes of the range that the runs cover."""
        return sum(run.length for run in self.runs)

    def commit(self) -> None:
        """Every run has been written. It ends also when this raises OSError, as a write does."""
        self._commit()

    def abort(self) -> None:
        """Gives the reservation up, whatever was written."""
        self._abort()

    def followed_by(self, ended: Callable[[], None]) -> Reservation:
        """The same, and ``ended`` is called after it has ended in either way (for stages)."""

        def commit() -> None:
            try:
                self._commit()
            finally:
                ended()

        def abort() -> None:
            try:
                self._abort()
            finally:
                ended()

        return Reservation(self.runs, commit, abort)


class OpenFlags(msgspec.Struct, frozen=True):
    """How a node is open; inherited by children as the graph decides."""

    read_only: bool = False
    auto_read_only: bool = False
    direct: bool = False
    no_flush: bool = False
    unmap: bool = False  # `discard=unmap`: pass discards on
    force_share: bool = False


class NewSnapshot(msgspec.Struct, frozen=True):
    """An internal snapshot to be made, now: seconds of the wall clock, and nanoseconds."""

    name: str
    date_sec: int
    date_nsec: int


class Operations:
    """The operations of a node as it is wired, and of what leads to one."""

    __slots__ = ()

    read: Callable[[memoryview, int], None]
    write: Callable[[memoryview, int], None]
    write_zeroes: Callable[[int, int, bool, bool], None]
    discard: Callable[[int, int], None]
    flush: Callable[[], None]
    map: Callable[[int, int], list[Extent]]
    hold: Callable[[], AbstractContextManager[None]]
    map_for_write: Callable[[int, int], Reservation | None]
    read_ranges: RangesRequest
    write_ranges: RangesRequest
    write_compressed: Callable[[memoryview, int], None]
    event: Callable[[str], None] | None


class Child(Protocol):
    """An edge to a child node, as its parent's driver sees it.

    The operations are those of ``Driver`` and are rebound when the graph is rewired, so a driver
    looks them up at each call (``self.file.read(...)``) and never stores them.
    """

    read: Callable[[memoryview, int], None]
    write: Callable[[memoryview, int], None]
    write_zeroes: Callable[[int, int, bool, bool], None]
    discard: Callable[[int, int], None]
    flush: Callable[[], None]
    map: Callable[[int, int], list[Extent]]
    hold: Callable[[], AbstractContextManager[None]]
    map_for_write: Callable[[int, int], Reservation | None]
    read_ranges: RangesRequest
    write_ranges: RangesRequest
    write_compressed: Callable[[memoryview, int], None]
    event: Callable[[str], None] | None
    """Who wants to hear what its parent is about to do to it (a ``blkdebug`` below); mostly None.
    The names are those of ``engine.schema.blkdebug``. It may wait, when somebody set a breakpoint.
    """

    def length(self) -> int:
        """Bytes. May move when the child is resized or, for a file, grown by writes."""
        ...

    def truncate(self, size: int) -> None: ...

    def grow(self, size: int, preallocation: str) -> None: ...

    def expect(self, length: int) -> None: ...

    def reserve(self, size: int) -> None: ...

    def cluster_size(self) -> int | None:
        """The unit of allocation in bytes, its own or its file's; None when there is none."""
        ...

    @property
    def alignment(self) -> int: ...

    @property
    def compresses(self) -> bool:
        """``write_compressed`` works."""
        ...

    @property
    def node_name(self) -> str:
        """The child's name, for messages."""
        ...

    @property
    def filename(self) -> str: ...


class OpenContext(msgspec.Struct):
    """What a driver is given to open with.

    ``options`` is the driver's struct of ``engine.schema.blockdev`` (already type-checked);
    ``children`` holds the edges that the options name, by role (``file``, ``backing`` is attached
    later by the graph); ``locate`` turns a file name of the options into one that can be opened
    now (relative names are relative to the directory the monitor was started in).
    """

    options: Any
    flags: OpenFlags
    node_name: str
    children: Mapping[str, Child]
    bitmap: DirtyBitmap | None = None
    """The dirty bitmap that the options name."""
    objects: Objects | None = None
    """Where the options' secrets and credentials are found."""


class Reopen(Protocol):
    """A prepared change of flags: nothing is visible before ``commit``; neither may fail."""

    def commit(self) -> None: ...

    def abort(self) -> None: ...


class BitmapList(Protocol):
    """The dirty bitmaps of a node, as its driver sees them."""

    def named(self) -> list[DirtyBitmap]: ...

    def add(self, bitmap: DirtyBitmap) -> None: ...


Fix = Literal["none", "leaks", "all"]


class CheckReport(msgspec.Struct, kw_only=True):
    """What a check found: QMP's ``ImageCheck``, and a line for each problem in QEMU's words (the
    first thousand of a kind). ``leaks_fixed`` and ``corruptions_fixed`` are no longer among
    ``leaks`` and ``corruptions``."""

    image_end_offset: int
    total_clusters: int
    allocated_clusters: int
    fragmented_clusters: int
    compressed_clusters: int
    leaks: int = 0
    corruptions: int = 0
    leaks_fixed: int = 0
    corruptions_fixed: int = 0
    check_errors: int = 0
    problems: list[str] = []
