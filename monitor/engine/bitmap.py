"""Dirty bitmaps: which parts of a disk were written to since somebody began to look.

A bit stands for ``granularity`` bytes. Guests' requests only log where they wrote (``note``) and go
on; the log is folded into the bits when somebody looks, or when it has grown. A request logs after
it has completed, failed or not: whoever resets an area, then reads it, and meets a write that is
under way, either reads what it wrote or finds the area dirty again.

The bits are a roaring bitmap, so that a clean, a full and a sparse disk cost next to nothing; what
looks at many bits does it a window at a time, as a vector.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from monitor.engine.bits import (
    WINDOW,
    add_shifted,
    bits_of,
    empty_bits,
    indexes_in,
    last_bit,
    next_bit,
)
from monitor.engine.errors import RequestError
from monitor.engine.units import human_size

if TYPE_CHECKING:
    from monitor.engine.bits import Bits, Indexes

LOG_SOON: Final = 1024
"""Noted writes after which one of them folds the log, if nobody else is at the bits."""

LOG_FULL: Final = 16 * LOG_SOON
"""Noted writes after which they wait for whoever is at the bits."""

MIN_GRANULARITY: Final = 512

MAX_NAME: Final = 1023
"""Bytes of a name, as in qcow2."""


class BitmapBusy(RequestError):
    template = "Bitmap '{name}' is currently in use by another operation and cannot be used"
    name: str


class BitmapReadOnly(RequestError):
    template = "Bitmap '{name}' is readonly and cannot be modified"
    name: str


class BitmapInconsistent(RequestError):
    template = "Bitmap '{name}' is inconsistent and cannot be used"
    name: str


class BitmapsDiffer(RequestError):
    template = "Bitmaps are of different sizes (destination size is {target}, source size is {source}) and can't be merged"  # noqa: E501
    target: int
    source: int


@dataclass(frozen=True)
class Saved:
    """The contents of a bitmap as they were, for ``restore``."""

    bits: Bits
    size: int


class DirtyBitmap:
    """One bitmap of a node; ``size`` and ``granularity`` in bytes, ``name`` None for a job's own.

    ``set``, ``reset``, ``note`` and the questions may be asked from any thread; the flags and
    successors belong to the control loop.
    """

    def __init__(self, size: int, granularity: int, name: str | None = None) -> None:
        assert granularity >= MIN_GRANULARITY
        assert not granularity & (granularity - 1)
        self.name = name
        self.size = size
        self.granularity = granularity
        self.enabled = True
        """Guests' writes are recorded (in the successor while there is one)."""
        self.persistent = False
        """Its image keeps it."""
        self.readonly = False
        """Its image is open read-only, so it cannot be changed."""
        self.inconsistent = False
        """It was not stored when its image was last written: fit for removal only."""
        self.busy = False
        """A job or an export uses it."""
        self.successor: DirtyBitmap | None = None
        self._shift = granularity.bit_length() - 1
        self._bits = empty_bits(self.bit_count)
        self._shared = False
        """The bits are somebody's Saved too: to be copied before they change in place."""
        self._log: deque[tuple[int, int]] = deque()
        self._lock = threading.Lock()

    @property
    def bit_count(self) -> int:
        return -(-self.size >> self._shift)

    def __repr__(self) -> str:
        return f"<DirtyBitmap {self.name!r} {self.size}/{self.granularity}>"

    # -- what it may be used for --------------------------------------------------------------

    @property
    def recording(self) -> bool:
        """Whether a write is recorded now, here or in the successor."""
        return (self.successor or self).enabled

    def check(self, *, busy: bool = False, readonly: bool = False, broken: bool = False) -> None:
        """Raises BitmapBusy, BitmapReadOnly or BitmapInconsistent, unless the case is allowed."""
        if self.busy and not busy:
            raise BitmapBusy(self.name or "")
        if self.readonly and not readonly:
            raise BitmapReadOnly(self.name or "")
        if self.inconsistent and not broken:
            raise BitmapInconsistent(self.name or "")

    def accepts(self, verb: str) -> bool:
        """Whether what a request calls ``verb`` may be done with it now: remove, clear, enable,
        disable, merge (into it), source (of a merge or a job); anything else is a question."""
        if verb == "remove":
            return not (self.busy or self.readonly)
        if verb in ("clear", "merge"):
            return not (self.busy or self.readonly or self.inconsistent)
        if verb in ("enable", "disable", "source"):
            wanted = {"enable": not self.enabled, "disable": self.enabled}.get(verb, True)
            return wanted and not (self.busy or self.inconsistent)
        return True

    def state(self) -> str:
        """What it does now, in a word."""
        if self.inconsistent:
            return "inconsistent"
        if self.busy:
            return "busy"
        return "recording" if self.recording else "disabled"

    def meta(self) -> str:
        """A few words for completion."""
        kept = " persistent" if self.persistent else ""
        return f"{human_size(self.granularity)} {self.state()}{kept}"

    # -- changes ------------------------------------------------------------------------------

    def note(self, offset: int, length: int) -> None:
        """A guest's write, zeroes or discard of ``length`` bytes has ended; any thread. Cheapest
        where all of it is dirty already: whoever resets that later reads what was written."""
        recorder = self.successor or self
        if recorder.enabled:
            shift = self._shift
            bit = offset >> shift
            if bit not in recorder._bits or (offset + length - 1) >> shift != bit:
                self.set(offset, length)

    def noting(self, write: Callable[[memoryview, int], None]) -> Callable[[memoryview, int], None]:
        """``write`` with a ``note`` when it has ended, failed or not: in one step, since it is what
        guests do most."""
        shift = self._shift

        def noted(buffer: memoryview, offset: int) -> None:
            try:
                write(buffer, offset)
            finally:
                recorder = self.successor or self
                if recorder.enabled:
                    bit = offset >> shift
                    length = len(buffer)
                    if bit not in recorder._bits or (offset + length - 1) >> shift != bit:
                        self.set(offset, length)

        return noted

    def set(self, offset: int, length: int) -> None:
        """Everything that touches the range is dirty, whether recording or not; with a successor,
        there. Any thread."""
        log = self._log
        log.append((offset, length))
        if len(log) >= LOG_SOON and self._lock.acquire(len(log) >= LOG_FULL):
            try:
                self._fold()
            finally:
                self._lock.release()

    def reset(self, offset: int, length: int) -> None:
        """What lies wholly in the range is clean; the end of the disk ends its last bit."""
        first = -(-offset >> self._shift)
        with self._lock:
            self._fold()
            end = (offset + length) >> self._shift
            if offset + length >= self.size:
                end = self.bit_count
            if first < end:
                self._own().remove_range(first, end)

    def clear(self) -> None:
        """Everything is clean."""
        with self._lock:
            self._fold()
            self._replace(empty_bits(self.bit_count))

    def resize(self, size: int) -> None:
        """The disk is ``size`` bytes now; what is new is clean."""
        with self._lock:
            self._fold()
            for bitmap in filter(None, (self, self.successor)):
                bitmap._resize(size)

    def merge(self, source: DirtyBitmap) -> None:
        """Makes dirty here what is dirty in ``source`` (perhaps this one). Raises BitmapsDiffer."""
        if source.size != self.size:
            raise BitmapsDiffer(self.size, source.size)
        if source is self:
            return
        if source._shift != self._shift:
            self.include(source._scaled(self._shift))
            return
        first, second = sorted((self, source), key=id)
        with first._lock, second._lock:
            self._fold()
            source._fold()
            self._replace(self._bits | source._bits)

    def include(self, bits: Bits) -> None:
        """Makes dirty what is in ``bits``; what lies beyond the end of the disk is left out."""
        with self._lock:
            self._fold()
            own, end = self._own(), self.bit_count
            own |= bits
            if (last := last_bit(own)) >= end:
                own.remove_range(end, last + 1)

    def _scaled(self, shift: int) -> Bits:
        """The bits for a granularity of 2**shift bytes."""
        end = -(-self.size >> shift)
        bits = empty_bits(end)
        for indexes in self._windows(0, self.bit_count):
            add_shifted(bits, indexes, shift - self._shift, end)
        return bits

    # -- undo ---------------------------------------------------------------------------------

    def save(self) -> Saved:
        """What it holds now; no copy is made unless it is then changed in place."""
        with self._lock:
            self._fold()
            self._shared = True
            return Saved(self._bits, self.size)

    def restore(self, saved: Saved) -> None:
        """The contents are again what they were, bit for bit."""
        with self._lock:
            self._log.clear()
            self._bits, self.size = saved.bits, saved.size
            self._shared = True

    # -- questions ----------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """Dirty bytes; a bit at the end of the disk counts whole, as in QEMU."""
        with self._lock:
            self._fold()
            return len(self._bits) << self._shift

    def next_dirty(self, start: int, end: int | None = None) -> int | None:
        """The first dirty byte from ``start`` on and before ``end`` (the end of the disk)."""
        with self._lock:
            self._fold()
            bit = next_bit(self._bits, start >> self._shift)
        if bit is None:
            return None
        found = max(start, bit << self._shift)
        return found if found < min(self.size, self.size if end is None else end) else None

    def areas(self, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
        """The dirty runs (offset, length) between ``start`` and ``end``, clipped to them and
        merged. What changes meanwhile, further on, is seen or not; the lock is never held long."""
        end = self.size if end is None else min(end, self.size)
        if start >= end:
            return
        for first, last in self._runs(start >> self._shift, -(-end >> self._shift)):
            begin = max(start, first << self._shift)
            yield begin, min(end, last << self._shift) - begin

    def indexes(self, first: int, end: int) -> Indexes:
        """The numbers of the dirty bits from ``first`` on and before ``end``, which is at most a
        window further."""
        with self._lock:
            self._fold()
            return indexes_in(self._bits, first, end)

    def is_full(self, offset: int, length: int) -> bool:
        """Whether every bit that the range touches is dirty."""
        end = min(self.bit_count, -(-(offset + length) >> self._shift))
        with self._lock:
            self._fold()
            return self._bits.contains_range(offset >> self._shift, end)

    # -- while a job uses it ------------------------------------------------------------------

    def create_successor(self) -> DirtyBitmap:
        """From now on it stays as it is and is busy; what is written goes to the successor, which
        records if this one did. On the control loop, as the two ways back."""
        assert not self.busy
        assert self.successor is None
        successor = DirtyBitmap(self.size, self.granularity)
        successor.enabled = self.enabled
        with self._lock:
            self._fold()
            # One log and one lock, so that no write that is being noted can miss a change of roles.
            successor._log, successor._lock = self._log, self._lock
            self.successor = successor
        self.enabled = False
        self.busy = True
        return successor

    def abdicate(self) -> None:
        """The job is done with what was dirty: the successor's contents take its place."""
        self._end_succession(keep=False)

    def reclaim(self) -> None:
        """The job failed: what was dirty still is, with what was written since."""
        self._end_succession(keep=True)

    def _end_succession(self, *, keep: bool) -> None:
        successor = self.successor
        assert successor is not None
        self.enabled = successor.enabled
        with self._lock:
            self._fold()
            self._replace(self._bits | successor._bits if keep else successor._bits)
            self.successor = None
        self.busy = False

    # -- inside -------------------------------------------------------------------------------

    def _fold(self) -> None:
        """Carries the log over to the bits, the successor's if there is one. With the lock."""
        log, shift, recorder = self._log, self._shift, self.successor or self
        while log:
            offset, length = log.popleft()
            if length > 0:
                end = offset + length
                if end > recorder.size:  # a file that grows as it is written
                    self._resize(end)
                    recorder._resize(end)
                recorder._add(offset >> shift, ((end - 1) >> shift) + 1)

    def _add(self, first: int, end: int) -> None:
        bits = self._own()
        if end - first == 1:
            bits.add(first)
        else:
            bits.add_range(first, min(end, self.bit_count))

    def _own(self) -> Bits:
        """The bits, for changing them in place. With the lock."""
        if self._shared:
            self._replace(self._bits.copy())
        return self._bits

    def _replace(self, bits: Bits) -> None:
        self._bits = bits
        self._shared = False

    def _resize(self, size: int) -> None:
        before, self.size = self.bit_count, size
        after = self.bit_count
        if after < before:
            self._own().remove_range(after, before)
        bits, old = empty_bits(after), self._bits
        if type(bits) is not type(old):
            for at in range(0, last_bit(old) + 1, WINDOW):
                bits |= bits_of(type(bits), indexes_in(old, at, at + WINDOW))
            self._replace(bits)

    def _windows(self, first: int, end: int) -> Iterator[Indexes]:
        """The dirty bits between two, a window at a time; clean windows are skipped."""
        while first < end:
            with self._lock:
                self._fold()
                found = next_bit(self._bits, first)
                if found is None or found >= end:
                    return
                stop = min(end, (found | (WINDOW - 1)) + 1)
                indexes = indexes_in(self._bits, found, stop)
            yield indexes
            first = stop

    def _runs(self, first: int, end: int) -> Iterator[tuple[int, int]]:
        """The dirty runs of bits between two, merged across windows."""
        from monitor.engine.arrays import np

        begin = last = first
        for indexes in self._windows(first, end):
            breaks = np.flatnonzero(np.diff(indexes) != 1)
            starts = indexes[np.concatenate(([0], breaks + 1))].tolist()
            ends = indexes[np.append(breaks, -1)].tolist()
            for start, at in zip(starts, ends, strict=True):
                if start != last:
                    if last > begin:
                        yield begin, last
                    begin = start
                last = at + 1
        if last > begin:
            yield begin, last


def default_granularity(cluster_size: int | None) -> int:
    """Bytes a bit covers when nobody says: the image's cluster, within 4 and 64 KiB."""
    return max(4096, min(65536, cluster_size)) if cluster_size else 65536
