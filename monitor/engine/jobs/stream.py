"""Streaming: an image takes over what it sees of the images below it, while it is in use.

    active or intermediate    top        <- filled where it holds nothing
    intermediate nodes        middle …   <- copied from; leave the chain in the end
    base (or nothing)         base       <- becomes the top's backing image

Only what the top lacks and a middle layer holds is copied. The guest may write all the while: a
piece is filled in one step with looking whether it is still missing, alone on its range
(``Node.overlap``), so that what the guest has written stays.

What is copied changes nothing that anybody sees, and the backing link changes last, after
everything is on the disk. So the chain is valid at every moment, and a killed stream is begun anew.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from monitor.engine import permissions
from monitor.engine.drivers.base import ExtentKind
from monitor.engine.drivers.ranges import RangeLocks
from monitor.engine.errors import RequestError
from monitor.engine.graph import edit
from monitor.engine.graph.edge import Edge
from monitor.engine.graph.node import Node
from monitor.engine.graph.transaction import Transaction
from monitor.engine.jobs import carrying
from monitor.engine.jobs.block import BlockJob, JobSettings
from monitor.engine.jobs.carrying import ZERO_CHUNK, Carrier, writers_into
from monitor.engine.jobs.copying import Piece
from monitor.engine.jobs.filling import Filler
from monitor.engine.jobs.filters import skip_filters
from monitor.engine.jobs.manager import Jobs

CHUNK: Final = 512 << 10
"""QEMU's chunk in bytes: what is copied in one piece while there is a speed limit or after an
error, so that offsets, errors and pauses fall where QEMU's do."""

_BASIC: Final = permissions.CONSISTENT_READ | permissions.WRITE_UNCHANGED


@dataclass(frozen=True)
class StreamPlan:
    """What to stream: resolved names, checked against each other.

    ``top`` is what the user named; ``target`` the image below its filters, which is filled.
    ``above_base`` is the last node that leaves the chain or, when nothing lies between, ``target``.
    """

    top: Node
    target: Node
    above_base: Node
    backing_file: str | None = None

    @property
    def base(self) -> Node | None:
        """What the target's backing link leads to in the end."""
        return self.above_base.below()

    @property
    def between(self) -> list[Node]:
        """All nodes below the target and above the base, top first."""
        nodes: list[Node] = []
        node = self.target.below()
        while node is not None and node is not self.base:
            nodes.append(node)
            node = node.below()
        return nodes

    @property
    def links(self) -> list[Edge]:
        """The edges that hold the target and the nodes between together."""
        nodes = [self.target, *self.between]
        return [
            edge
            for upper, lower in itertools.pairwise(nodes)
            for edge in upper.children.values()
            if edge.child is lower
        ]


class StreamJob(BlockJob):
    type = "stream"
    plan: StreamPlan

    # -- life --------------------------------------------------------------------------------

    @classmethod
    async def begin(
        cls, table: Jobs, job_id: str, plan: StreamPlan, *, speed: int, **settings: Any
    ) -> None:
        """Takes hold of the chain and starts. Raises RequestError or OSError and changes nothing
        then. ``settings`` go to the job's constructor. The caller has the turn."""
        graph, target = table.graph, plan.target
        job = None
        try:
            async with graph.drained(target):
                with Transaction() as transaction:
                    edit.freeze(transaction, plan.links)
                    was_read_only = target.read_only
                    if was_read_only:
                        await graph.reopen_read_only(transaction, target, False)
                        edit.refresh(transaction, [target])
                    table.check_id(job_id)
                    job = table.add(cls(JobSettings(job_id, **settings), graph, table.clock))
                    job.set_speed(speed)
                    job._hold(transaction, plan, was_read_only)
                    graph.commit(transaction)
        except BaseException:
            if job is not None:
                await table.discard(job)
            raise
        if any(not node.is_filter for node in plan.between):
            job.progress.set_remaining(target.length())  # known before the thread's first step
        graph.clients.add(job)
        job.block(target, *plan.between)
        job.start()

    def _hold(self, transaction: Transaction, plan: StreamPlan, was_read_only: bool) -> None:
        """The job's edges, and its say in what changes the target."""
        self.plan = plan
        self._was_read_only = was_read_only
        self._had_backing = plan.target.backing is not None
        self._links = plan.links
        self._ranges = RangeLocks()
        edit.set_overlap(transaction, plan.target, self._ranges)
        main = edit.attach(transaction, self, "main node", plan.target)
        edit.set_permissions(transaction, main, _BASIC, _BASIC | permissions.WRITE)
        for node in plan.between:
            edge = edit.attach(transaction, self, "intermediate node", node)
            edit.set_permissions(transaction, edge, 0, _BASIC)
        edit.refresh(transaction, [plan.target, *plan.between])

    def drains_for_end(self) -> Iterable[Node]:
        return [self.plan.target]

    def change_graph(self, transaction: Transaction) -> None:
        """The base becomes the target's backing image, or nothing does."""
        edit.thaw(self._links)
        base = self.plan.base
        image = skip_filters(base)
        if image is None:
            self._link: tuple[str, str] | tuple[None, None] = (None, None)
        else:
            name = self.plan.backing_file
            self._link = (image.filename if name is None else name, image.driver.name)
        edge = self.plan.target.children.get("backing")
        if edge is None or edge.child is base:
            return
        old = edge.child
        if base is None:
            edit.detach(transaction, edge)
        else:
            edit.point(transaction, edge, base)
        edit.refresh(transaction, [self.plan.target, old])

    def prepare(self) -> None:
        """Flush, header, flush: from here on the target does not need the layers between."""
        if self._had_backing:
            self.plan.target.driver.set_backing(*self._link)

    def commit(self) -> None:
        target = self.plan.target
        if self._had_backing:
            target.auto_backing = self._link[0] or ""
            target.driver.attach_backing(target.children.get("backing"))

    def abort(self) -> None:
        edit.thaw(self._links)

    async def clean(self) -> None:
        """Lets the target go, but for what keeps others off it while the job is not dismissed."""
        graph, target = self.graph, self.plan.target
        async with graph.drained(target):
            with Transaction() as transaction:
                edit.set_overlap(transaction, target, None)
                for edge in self.roots:
                    edit.set_permissions(transaction, edge, 0, edge.shared)
                edit.refresh(transaction, [target])
                graph.commit(transaction)
            if self._was_read_only:
                await self._reopen_read_only()

    async def _reopen_read_only(self) -> None:
        """As QEMU has it, a target that cannot go back to read-only stays read-write."""
        with Transaction() as transaction:
            try:
                await self.graph.reopen_read_only(transaction, self.plan.target, True)
                edit.refresh(transaction, [self.plan.target])
            except (RequestError, OSError):
                return
            self.graph.commit(transaction)

    # -- the work, in the job's thread -------------------------------------------------------

    def run(self) -> None:
        """Walks the disk once. A piece that fails is judged by the policy; after an ignored error
        the job fails in the end, and the layers stay."""
        plan = self.plan
        layers = [node for node in plan.between if not node.is_filter]
        if not layers:
            return
        filler = Filler(
            plan.target, layers, self._ranges, nothing_below=skip_filters(plan.base) is None
        )
        cluster = plan.target.driver.cluster_size() or 1
        filling = _Filling(self, filler, plan.target.length(), max(CHUNK, cluster))
        large = max(carrying.CHUNK, cluster)
        try:
            with Carrier(
                self,
                filling,
                writers=writers_into(plan.target),
                buffer=large + 2 * cluster,  # pieces may begin and end within clusters
                chunk=large,
                limited_chunk=filling.grain,
            ) as carrier:
                carrier.run()
        except OSError as error:
            raise filling.failure or error from None
        if filling.failure is not None:
            raise filling.failure


class _Filling:
    """A stream as a plan: one walk over the target."""

    def __init__(self, job: StreamJob, filler: Filler, length: int, grain: int) -> None:
        self._job = job
        self._filler = filler
        self._length = length
        self._offset = 0
        self.grain = grain
        self.failure: OSError | None = None
        """The first error that was ignored."""

    def next(self, most: int) -> Piece | None:
        offset, rest = self._offset, self._length - self._offset
        if not rest:
            return None
        try:
            run = self._filler.missing_at(offset)
        except OSError:
            piece = Piece(offset, min(rest, self.grain), copy=True, unseen=True)
        else:
            match run.kind:
                case ExtentKind.DATA:
                    piece = Piece(offset, min(run.length, most), copy=True)
                case ExtentKind.ZERO:
                    piece = Piece(offset, min(run.length, ZERO_CHUNK), zero=True)
                case _:
                    piece = Piece(offset, min(run.length, rest))
        self._offset += piece.length
        return piece

    def work(self, piece: Piece, buffer: memoryview) -> None:
        if piece.unseen:
            self._filler.fill(piece.offset, piece.length, buffer)
        elif piece.zero:
            self._filler.zero(piece.offset, piece.length, buffer)
        else:
            self._filler.copy(piece.offset, piece.length, buffer)

    def done(self, piece: Piece) -> None:
        self._job.progress.advance(piece.length)

    def ignored(self, piece: Piece, error: OSError) -> None:
        self.failure = self.failure or error
        self._job.progress.advance(piece.length)
