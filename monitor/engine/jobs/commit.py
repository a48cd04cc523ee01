"""Committing images of the middle of a chain: what they hold goes down into their base.

    overlay        active <- its backing link is rewritten in the end
    commit_top     a filter of the job's
    top … above    read; they leave the chain in the end
    base           written; opened read-write for as long as that takes

What is copied changes nothing of what the overlay shows, as top and what is above the base hide it
there. The overlay's link is rewritten last, after everything is on the disk: a commit that is
killed is begun anew. (What lies above everything, and may be written to, ``mirror`` commits.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from monitor.engine import permissions
from monitor.engine.drivers.base import ExtentKind
from monitor.engine.drivers.between_files import BetweenFiles
from monitor.engine.drivers.job_filters import CommitTopDriver
from monitor.engine.drivers.zeroes import zero
from monitor.engine.errors import RequestError
from monitor.engine.graph import edit
from monitor.engine.graph.allocation import Run, runs_through
from monitor.engine.graph.client import Client
from monitor.engine.graph.edge import Edge
from monitor.engine.graph.modes import make_read_only, reopen, switch
from monitor.engine.graph.node import Node, links_between, skip_filters
from monitor.engine.graph.transaction import Transaction
from monitor.engine.jobs.beginning import beginning
from monitor.engine.jobs.block import BlockJob, JobSettings
from monitor.engine.jobs.carrying import (
    CHUNK,
    LIMITED_CHUNK,
    ZERO_CHUNK,
    Carrier,
    carry_wholly,
    writers_into,
)
from monitor.engine.jobs.copying import Piece
from monitor.engine.jobs.filters import (
    layers_above,
    nodes_between,
    put_on,
    root,
    take_off,
)
from monitor.engine.jobs.gathering import carry, gather
from monitor.engine.jobs.manager import Jobs

_WINDOW: Final = 64 << 20


class TopIsBase(RequestError):
    template = "Invalid files for merge: top and base are the same"


class LinkNotUpdated(RequestError):
    template = "Could not update backing file link"


@dataclass(frozen=True)
class CommitPlan:
    """Images from ``top`` down to above ``base`` are carried into ``base``; ``device`` is the top
    of the whole chain, which the job is on."""

    device: Node
    top: Node
    base: Node
    backing_file: str | None = None
    filter_name: str | None = None


class CommitJob(BlockJob):
    type = "commit"
    plan: CommitPlan

    # -- life --------------------------------------------------------------------------------

    @classmethod
    async def begin(cls, table: Jobs, settings: JobSettings, plan: CommitPlan) -> None:
        """Takes hold of the chain and starts. Raises RequestError or OSError and changes nothing
        then. The caller has the turn."""
        if skip_filters(plan.top) is skip_filters(plan.base):
            raise TopIsBase()
        graph = table.graph
        async with beginning(table, plan.top, plan.base) as begun:
            job = begun.make(cls, settings)
            was_read_only = plan.base.read_only
            if was_read_only:
                await reopen(
                    graph, begun.edits, plan.base, read_only=False
                )  # refused before the filter's name is
            driver, name = CommitTopDriver(), plan.filter_name
            top = put_on(graph, begun.edits, plan.top, driver, name, writable=False)
            job._hold(begun.edits, plan, top, was_read_only)
        job.progress.set_remaining(plan.top.length())  # known before the thread's first step
        for client in (job, job._writer, job._top_reader):
            graph.admit(client)
        job.block(plan.device, *job._between, plan.base)
        job.start()

    def _hold(
        self, transaction: Transaction, plan: CommitPlan, top: Node, was_read_only: bool
    ) -> None:
        """The job's edges."""
        self.plan = plan
        self.filter = top
        self._was_read_only = was_read_only
        self._between = list(nodes_between(plan.top, plan.base))
        self._writer = Client()  # QEMU has unnamed backends on base and top
        self._top_reader = Client()
        self._gone = False
        self._overlays: list[Node] = []
        root(transaction, self, "main node", plan.device, 0, permissions.ALL)
        passing = permissions.WRITE | permissions.WRITE_UNCHANGED
        for node in self._between:
            root(transaction, self, "intermediate node", node, 0, passing)
        taken = permissions.CONSISTENT_READ | permissions.WRITE
        if plan.base.length() < plan.top.length():
            taken |= permissions.RESIZE
        shared = permissions.CONSISTENT_READ | permissions.WRITE_UNCHANGED
        root(transaction, self, "base", plan.base, 0, permissions.ALL)
        self._base = root(transaction, self._writer, "root", plan.base, taken, shared)
        self._base.beyond_end = True
        self._top = root(transaction, self._top_reader, "root", plan.top, 0, permissions.ALL)
        self._links = links_between(top, plan.base)
        edit.freeze(transaction, self._links)
        edit.refresh(transaction, [plan.device, top, *self._between, plan.base])

    # -- the work, in the job's thread -------------------------------------------------------

    def run(self) -> None:
        plan = self.plan
        length = plan.top.length()
        lane = self.lane()
        try:
            if plan.base.length() < length:
                with lane:
                    self._base.truncate(length)
        finally:
            self.drop_lane(lane)
        layers = layers_above(plan.top, plan.base)
        carried = _Carrying(self, layers, self._top, self._base, length)
        most = max(CHUNK, plan.base.cluster_size() or 0)
        with Carrier(
            self,
            carried,
            self._base,
            writers=writers_into(plan.base),
            buffer=most,
            chunk=most,
            limited_chunk=LIMITED_CHUNK,
        ) as carrier:
            carry_wholly(self, carrier, carried)

    # -- the end -----------------------------------------------------------------------------

    def drains_for_end(self) -> Iterable[Node]:
        return [self.filter, self.plan.base]

    async def before_end(self) -> None:
        """Finds the overlays whose links are to be rewritten; those open read-only are reopened."""
        self._overlays = list(_overlays_of(self.filter))
        self._reopened: list[Node] = []
        for overlay in self._overlays:
            if overlay.read_only:
                await switch(self.graph, overlay, read_only=False)
                self._reopened.append(overlay)

    def change_graph(self, transaction: Transaction) -> None:
        plan = self.plan
        self._let_go(transaction)
        changed = take_off(transaction, self.filter, plan.top)
        edit.replace(transaction, plan.top, plan.base)
        edit.refresh(transaction, dict.fromkeys([plan.base, plan.top, *changed]))

    def _let_go(self, transaction: Transaction) -> None:
        edit.thaw(self._links)
        self._links = []
        edit.set_permissions(transaction, self._base, 0, permissions.ALL)

    def prepare(self) -> None:
        """The base's data is on the disk before anybody's link leads to it."""
        plan = self.plan
        plan.base.flush()
        image = skip_filters(plan.base)
        assert image is not None
        self._link = plan.base.filename if plan.backing_file is None else plan.backing_file
        for overlay in self._overlays:
            try:
                overlay.driver.set_backing(self._link, image.driver.name)
            except OSError as error:
                raise LinkNotUpdated() from error

    def commit(self) -> None:
        self._gone = True
        for overlay in self._overlays:
            overlay.auto_backing = self._link
            overlay.driver.attach_backing(overlay.children.get("backing"))
            overlay.wire()

    async def clean(self) -> None:
        plan, graph = self.plan, self.graph
        if not self._gone:
            async with graph.drained(self.filter, plan.top, plan.base):
                with Transaction() as transaction:
                    self._let_go(transaction)
                    for edge in self.roots:
                        edit.set_permissions(transaction, edge, 0, permissions.ALL)
                    changed = take_off(transaction, self.filter, plan.top)
                    edit.refresh(transaction, [plan.base, *changed])
                    graph.commit(transaction)
        await graph.remove_client(self._writer)
        await graph.remove_client(self._top_reader)
        if not self._gone:  # else it keeps others off until it is dismissed, as in QEMU
            self.released()
            await graph.remove_client(self)
        await graph.close_unused([self.filter, *self._between])
        for overlay in getattr(self, "_reopened", ()):
            await make_read_only(graph, overlay)
        if self._was_read_only:
            await make_read_only(graph, plan.base)


class _Carrying:
    """A commit as a plan (``carrying.Plan``): one walk over the top, then what failed again."""

    def __init__(
        self, job: CommitJob, layers: Sequence[Node], top: Edge, base: Edge, length: int
    ) -> None:
        self._job = job
        self._layers = layers
        self._top, self._base = top, base
        self._length = length
        self._offset = 0
        self._ahead: deque[Run] = deque()
        self.grain = LIMITED_CHUNK
        self._files = BetweenFiles()
        self.failed: list[Piece] = []
        """What failed and the policy ignored: to be done again, for ever, as in QEMU."""
        self._again: deque[Piece] = deque()

    def begin_again(self) -> None:
        self._again.extend(self.failed)
        self.failed = []

    def next(self, most: int) -> Piece | None:
        if self._again:
            piece = self._again.popleft()
            return replace(piece)
        if not self._ahead and not self._look():
            return None
        if most > LIMITED_CHUNK and (gathered := gather(self._ahead, most)) is not None:
            return gathered
        run = self._ahead.popleft()
        most = most if run.kind is ExtentKind.DATA else ZERO_CHUNK
        length = min(run.length, most)
        if length < run.length:
            self._ahead.appendleft(Run(run.kind, run.offset + length, run.length - length))
        copy, zero = run.kind is ExtentKind.DATA, run.kind is ExtentKind.ZERO
        return Piece(run.offset, length, copy=copy, zero=zero)

    def work(self, piece: Piece, buffer: memoryview) -> None:
        if piece.zero:
            piece.side = "write"
            most = len(buffer)
            piece.zeroed(zero(self._base, piece.offset, piece.length, may_unmap=True, most=most))
            return
        if piece.parts:
            carry(piece, self._top, self._base, buffer)
            return
        done = self._files.copy(self._top, self._base, piece.offset, piece.length, piece.at)
        view = buffer[: piece.length - done]
        piece.side = "read"
        self._top.read(view, piece.offset + done)
        piece.side = "write"
        self._base.write(view, piece.offset + done)

    def done(self, piece: Piece) -> None:
        self._job.progress.advance(piece.length)

    def ignored(self, piece: Piece, error: OSError) -> None:
        self.failed.append(piece)

    def _look(self) -> bool:
        start = self._offset
        if start >= self._length:
            return False
        size = min(_WINDOW, self._length - start)
        self._offset += size
        try:
            self._ahead.extend(runs_through(self._layers, start, size))
        except OSError:
            self._ahead.append(Run(ExtentKind.DATA, start, size))  # reading will say what is wrong
        return True


def _overlays_of(node: Node) -> Iterable[Node]:
    """The images that have ``node`` as their backing image, through filters."""
    for edge in node.parents:
        parent = edge.parent
        if not isinstance(parent, Node):
            continue
        if parent.is_filter:
            yield from _overlays_of(parent)
        elif edge.role == "backing":
            yield parent
