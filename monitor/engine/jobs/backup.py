"""Backups: a disk's contents at one moment, copied while it goes on being written.

    drive, export …     before      drive, export …         during
         |                               |
       source                  copy-before-write --- the job
                                 file |    \\ target
                                    source   image

The moment is when the filter is put above the source, drained. From then on the old data of a range
reaches the target before it changes; what nobody touches the job copies itself
(``drivers.blockcopy``). The bitmap that a backup is made by has a successor from the same moment:
writes during the backup belong to the next one.

The end: the target is flushed, then the bitmap takes on its new contents, then the filter goes, and
last the event is sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from monitor.engine import permissions
from monitor.engine.drivers.base import ExtentKind
from monitor.engine.graph import edit
from monitor.engine.graph.allocation import Run, merged, reads_as_zeroes, runs_of, runs_through
from monitor.engine.graph.transaction import Transaction
from monitor.engine.jobs import carrying
from monitor.engine.jobs.block import BlockJob, JobSettings
from monitor.engine.jobs.carrying import (
    ZERO_CHUNK,
    Carrier,
    carry_wholly,
    fill_last_sector,
    writers_into,
)
from monitor.engine.jobs.copying import Piece

if TYPE_CHECKING:
    from monitor.engine.bitmap import DirtyBitmap
    from monitor.engine.clock import Clock
    from monitor.engine.drivers.blockcopy import BlockCopy
    from monitor.engine.drivers.copy_before_write import CopyBeforeWriteDriver
    from monitor.engine.graph.graph import Graph
    from monitor.engine.graph.node import Node
    from monitor.engine.schema.backup import BitmapSyncMode
    from monitor.engine.schema.blockjob import MirrorSyncMode

_WINDOW: Final = 64 << 20
"""Bytes of the disk that the planner looks at in one step."""
_FEW: Final = 8
"""Areas of a window that are looked at one by one, however short."""
_SHORT: Final = 256 << 10
"""Bytes up to which one of many areas is read without a look whether it holds data."""
_LONG: Final = 3600.0


@dataclass(frozen=True)
class BackupPlan:
    """What is copied, and how; names are resolved and checked."""

    source: Node
    target: Node
    filter: Node
    sync: MirrorSyncMode
    bitmap: DirtyBitmap | None = None
    bitmap_mode: BitmapSyncMode = "on-success"
    compress: bool = False
    between_files: bool = True
    workers: int = carrying.MOST_WRITERS
    chunk: int = 0
    """Bytes; 0 for the usual."""


class BackupJob(BlockJob):
    type = "backup"

    def __init__(self, settings: JobSettings, graph: Graph, clock: Clock, plan: BackupPlan) -> None:
        self.plan = plan
        super().__init__(settings, graph, clock)

    @property
    def filter(self) -> CopyBeforeWriteDriver:
        driver: Any = self.plan.filter.driver
        found: CopyBeforeWriteDriver = driver
        return found

    @property
    def copying(self) -> BlockCopy:
        return self.filter.copying

    # -- life --------------------------------------------------------------------------------

    def take_hold(self, edits: Transaction) -> None:
        """The job's edges, and what is left to do. The source and the target are drained."""
        plan, copying = self.plan, self.copying
        for role, node in (("main node", plan.filter), ("target", plan.target)):
            edge = edit.attach(edits, self, role, node)
            edit.set_permissions(edits, edge, 0, permissions.ALL)
        edit.refresh(edits, [plan.filter, plan.target])
        copying.compress = plan.compress
        copying.between_files = plan.between_files
        copying.moved = self.progress.advance
        if plan.sync == "bitmap":
            assert plan.bitmap is not None
            copying.todo.clear()
            copying.todo.merge(plan.bitmap)
        self.progress.set_remaining(copying.todo.count)

    def given_up(self) -> None:
        self.stop_waiting_for(self.plan.target)

    def drains_for_end(self) -> Iterable[Node]:
        return [self.plan.filter, self.plan.target]

    def prepare(self) -> None:
        """All of the target reaches the disk, before anybody is told."""
        self.plan.target.flush()
        self.unmark_target(self.plan.target)

    def commit(self) -> None:
        self._settle_bitmap(failed=False)

    def abort(self) -> None:
        self._settle_bitmap(failed=True)

    def _settle_bitmap(self, *, failed: bool) -> None:
        """The bitmap stands for what the next backup has to copy, as its mode promises."""
        plan, bitmap = self.plan, self.plan.bitmap
        if bitmap is None or bitmap.successor is None:
            return
        always = plan.bitmap_mode == "always"
        if plan.bitmap_mode == "never" or (failed and not always):
            bitmap.reclaim()
            return
        bitmap.abdicate()
        if failed:
            bitmap.merge(self.copying.todo)

    async def clean(self) -> None:
        """The filter goes, and the job lets its nodes go."""
        graph, plan = self.graph, self.plan
        async with graph.drained(plan.filter, plan.target):
            with Transaction() as transaction:
                for edge in list(self.roots):
                    edit.detach(transaction, edge)
                below = plan.filter.children["file"].child
                edit.replace(transaction, plan.filter, below)
                edit.refresh(transaction, [plan.filter, plan.target, below])
                graph.commit(transaction)
        self.unblock()
        await graph.close_unused([plan.filter, plan.target])

    # -- the work, in the job's thread -------------------------------------------------------

    def run(self) -> None:
        if self.plan.sync == "none":
            self.sleep(lambda: _LONG)  # guests copy what they change, until the job is cancelled
        self.mark_target(self.plan.target, self.plan.source)
        if self.plan.sync == "top":
            self._skip_unallocated()
        plan, copying = self.plan, self.copying
        if plan.sync == "full":  # else a cluster may be left to an image below
            fill_last_sector(self, copying.target, copying.size, plan.target.length())
        walk = _Walk(self)
        chunk = max(copying.unit, min(plan.chunk or carrying.CHUNK, carrying.CHUNK))
        chunk &= -copying.unit
        writers = min(plan.workers, writers_into(plan.target))
        with Carrier(
            self, walk, copying.target, writers=writers, buffer=chunk, chunk=chunk
        ) as carrier:
            carry_wholly(self, carrier, walk)
        self.progress.set_remaining(0)

    def _skip_unallocated(self) -> None:
        """Only what the source's own layer holds is copied."""
        copying, offset = self.copying, 0
        lane = self.lane()
        try:
            while offset < copying.size:
                self.pause_point()
                with lane:
                    top = next(self.layers())
                    length = min(_WINDOW, copying.size - offset)
                    for run in merged(runs_of(top, offset, length)):
                        if run.kind is ExtentKind.UNALLOCATED:
                            copying.skip(run.offset, run.length)
                offset += length
        finally:
            self.drop_lane(lane)
        self.progress.set_remaining(copying.todo.count)

    def layers(self) -> Iterator[Node]:
        """The images that the source shows now, top first. In a lane."""
        chain = self.plan.filter.children["file"].child.chain()
        return (node for node in chain if not node.is_filter)


class _Walk:
    """A backup as a plan: what is to do, from the beginning of the disk to its end."""

    def __init__(self, job: BackupJob) -> None:
        self._job = job
        self._copying = job.copying
        self._target = job.plan.target
        self._offset = 0
        self._ahead: deque[Run] = deque()
        self.grain = self._copying.size
        """Pieces are judged as they are: what is ignored is tried again, so nothing is lost."""
        self.failed = False
        """Something was passed over because it failed."""

    def begin_again(self) -> None:
        self._offset = 0
        self._ahead.clear()
        self.failed = False

    # -- looking, in the job's thread --------------------------------------------------------

    def next(self, most: int) -> Piece | None:
        while not self._ahead:  # guests may have copied all of a window
            if self._offset >= self._copying.size:
                return None
            try:
                self._look()
            except OSError:
                if not self._ahead:
                    return self._blindly()
        first = self._ahead.popleft()
        if first.kind is ExtentKind.ZERO:
            return Piece(first.offset, first.length, zero=True)
        return self._gather(first, most)

    def _gather(self, first: Run, most: int) -> Piece:
        """Data that is to do, up to ``most`` bytes of it; gaps that are done do not count."""
        count, run = 0, first
        while True:
            part = min(run.length, most - count)
            count, end = count + part, run.offset + part
            if part < run.length:
                self._ahead.appendleft(Run(run.kind, end, run.length - part))
            if count >= most or not self._ahead or self._ahead[0].kind is ExtentKind.ZERO:
                break
            run = self._ahead.popleft()
        return Piece(first.offset, end - first.offset, copy=True)

    def _look(self) -> None:
        """The runs to do in the next window that has any."""
        todo, size = self._copying.todo, self._copying.size
        start = todo.next_dirty(self._offset)
        if start is None:
            self._offset = size
            return
        end = min(size, start + _WINDOW)
        layers = list(self._job.layers())
        areas = list(todo.areas(start, end))
        short = _SHORT if len(areas) > _FEW else 0
        blank: bool | None = None
        for offset, length in areas:
            if length <= short:  # to look would cost more than it could save
                self._ahead.append(Run(ExtentKind.DATA, offset, length))
                continue
            self._offset = offset  # where this one cannot be looked at
            for run in self._in_units(runs_through(layers, offset, length)):
                if run.kind is ExtentKind.ZERO and blank is None:
                    blank = self._is_blank(start, end - start)
                if run.kind is ExtentKind.ZERO and blank:
                    self._copying.zero(run.offset, run.length, 0, lambda offset, length: True)
                else:
                    self._ahead.append(run)
        self._offset = end

    def _in_units(self, runs: list[Run]) -> Iterator[Run]:
        """Zeroes in whole units, or up to the end of the disk; all else is data."""
        unit, begin, end = self._copying.unit, runs[0].offset, runs[-1].offset + runs[-1].length
        for run in runs:
            if run.kind is ExtentKind.DATA:
                continue
            first = -(-run.offset // unit) * unit
            last = run.offset + run.length
            last = last if last == self._copying.size else last & -unit
            if first >= last:
                continue
            if begin < first:
                yield Run(ExtentKind.DATA, begin, first - begin)
            for offset in range(first, last, ZERO_CHUNK):
                yield Run(ExtentKind.ZERO, offset, min(ZERO_CHUNK, last - offset))
            begin = last
        if begin < end:
            yield Run(ExtentKind.DATA, begin, end - begin)

    def _blindly(self) -> Piece | None:
        """A unit that could not be looked at; reading it will tell. None if a guest has copied the
        last one meanwhile."""
        start = self._copying.todo.next_dirty(self._offset)
        if start is None:
            return None
        length = min(self._copying.unit, self._copying.size - start)
        self._offset = start + length
        return Piece(start, length, copy=True, unseen=True)

    # -- doing, in a copying thread ----------------------------------------------------------

    def work(self, piece: Piece, buffer: memoryview) -> None:
        if piece.zero:
            piece.side = "write"
            most = len(buffer)
            piece.zeroed(self._copying.zero(piece.offset, piece.length, most, self._is_blank))
            return

        piece.moved = self._copying.copy(piece.offset, piece.length, buffer, piece.at)

    def _is_blank(self, offset: int, length: int) -> bool:
        """Whether the target reads as zeroes there, and does so until something is copied."""
        with suppress(OSError):
            return reads_as_zeroes(self._target, offset, length)
        return False

    # -- afterwards --------------------------------------------------------------------------

    def done(self, piece: Piece) -> None:
        """Counted where it was copied, be it by a guest."""

    def ignored(self, piece: Piece, error: OSError) -> None:
        self.failed = True
