"""Streaming: an image takes over what it sees of the images below it, while it is in use.

    copy-on-read  a filter of the job's, for as long as it lasts
    top           the active image, or one of the middle   <- filled where it holds nothing
    middle …      copied from; they leave the chain in the end
    base          (or nothing) becomes the top's backing image

Only what the top lacks and a middle layer holds is copied, by the job and by whoever reads through
the filter. The guest may write all the while: what it has written stays (``graph.filling``).

What is copied changes nothing that anybody sees, and the backing link changes last, after
everything is on the disk. So the chain is valid at every moment, and a killed stream is begun anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from monitor.engine import permissions
from monitor.engine.drivers.base import ExtentKind
from monitor.engine.drivers.copy_on_read import CopyOnReadDriver
from monitor.engine.errors import RequestError
from monitor.engine.graph import edit
from monitor.engine.graph.allocation import Run
from monitor.engine.graph.client import Client
from monitor.engine.graph.copy_on_read import CopyOnRead
from monitor.engine.graph.filling import Filler
from monitor.engine.graph.graph import Graph
from monitor.engine.graph.modes import make_read_only, reopen
from monitor.engine.graph.node import Node, links_between, skip_filters
from monitor.engine.graph.transaction import Transaction
from monitor.engine.jobs import carrying
from monitor.engine.jobs.beginning import beginning
from monitor.engine.jobs.block import BlockJob, JobSettings
from monitor.engine.jobs.carrying import LIMITED_CHUNK, ZERO_CHUNK, Carrier, writers_into
from monitor.engine.jobs.copying import Piece
from monitor.engine.jobs.errors import FilterNotCreated
from monitor.engine.jobs.filters import make_filter, root, take_off
from monitor.engine.jobs.gathering import gather
from monitor.engine.jobs.manager import Jobs

_WINDOW: Final = 64 << 20
_WINDOW_CLUSTERS: Final = 4096
"""How far a stream looks ahead: bytes, and clusters of the target."""
_NARROW: Final = 512 << 10
"""The same where looking failed, so that not much more than what is broken fails."""

_BASIC: Final = permissions.CONSISTENT_READ | permissions.WRITE_UNCHANGED


class FilterNotPlaced(RequestError):
    template = "Could not replace node: {reason}"
    reason: str


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
    filter_name: str | None = None

    @property
    def base(self) -> Node | None:
        """What the target's backing link leads to in the end."""
        return self.above_base.below()

    @property
    def between(self) -> list[Node]:
        """All nodes below the top and above the base, the target too where it is not the top."""
        nodes: list[Node] = []
        node = self.top.below()
        while node is not None and node is not self.base:
            nodes.append(node)
            node = node.below()
        return nodes

    @property
    def layers(self) -> list[Node]:
        """The images below the target and above the base, top first."""
        return [n for n in self.between if not n.is_filter and n is not self.target]

    @property
    def bottom(self) -> Node:
        """The last image that is copied from; the target where there is none."""
        return [self.target, *self.layers][-1]


class StreamJob(BlockJob):
    type = "stream"
    plan: StreamPlan

    # -- life --------------------------------------------------------------------------------

    @classmethod
    async def begin(cls, table: Jobs, settings: JobSettings, plan: StreamPlan) -> None:
        """Takes hold of the chain and starts. Raises RequestError or OSError and changes nothing
        then. The caller has the turn."""
        graph, top = table.graph, plan.top
        async with beginning(table, top) as begun:
            was_read_only = top.read_only
            if was_read_only:
                edit.refuse_frozen(links_between(top, plan.above_base))
                await reopen(graph, begun.edits, top, read_only=False)
            reading = _put_filter(begun.edits, graph, plan)
            job = begun.make(cls, settings)
            job._hold(begun.edits, plan, reading, was_read_only)
        if plan.layers:
            job.progress.set_remaining(plan.target.length())  # known before the thread's first step
        for client in (job, job._reader):
            graph.admit(client)
        job.block(reading, top, *plan.between)
        job.start()

    def _hold(
        self, transaction: Transaction, plan: StreamPlan, reading: Node, was_read_only: bool
    ) -> None:
        """The job's edges."""
        self.plan = plan
        self.filter: Node | None = reading
        self._was_read_only = was_read_only
        self._had_backing = plan.target.backing is not None
        self._reader = Client()  # QEMU has an unnamed backend on the filter
        root(transaction, self, "main node", reading, 0, permissions.ALL)
        shared = _BASIC | permissions.WRITE
        root(transaction, self._reader, "root", reading, permissions.CONSISTENT_READ, shared)
        root(transaction, self, "active node", plan.top, 0, shared)
        for node in plan.between:
            root(transaction, self, "intermediate node", node, 0, _BASIC)
        edit.refresh(transaction, [reading, plan.top, *plan.between])

    def drains_for_end(self) -> Iterable[Node]:
        return [self.plan.top]

    def change_graph(self, transaction: Transaction) -> None:
        """The filter goes. The base becomes the target's backing image, or nothing does."""
        changed = self._take_filter_off(transaction)
        base = self.plan.base
        image = skip_filters(base)
        if image is None:
            self._link: tuple[str, str] | tuple[None, None] = (None, None)
        else:
            name = self.plan.backing_file
            self._link = (image.filename if name is None else name, image.driver.name)
        target = self.plan.target
        edge = target.children.get("backing")
        if edge is not None and edge.child is not base:
            changed.append(edge.child)
            if base is None:
                edit.detach(transaction, edge)
            else:
                edit.point(transaction, edge, base)
        if self._had_backing:
            edit.set_auto_backing(transaction, target, self._link[0] or "")
        edit.refresh(transaction, dict.fromkeys([*changed, target]))

    def _take_filter_off(self, transaction: Transaction) -> list[Node]:
        """Everybody who came by the filter gets the top. ``refresh`` what is returned."""
        assert self.filter is not None
        assert self.filter.copy_on_read is not None
        edit.thaw(self.filter.copy_on_read.links)
        for edge in list(self.roots):
            if edge.child is self.filter:
                edit.detach(transaction, edge)
        return take_off(transaction, self.filter, self.plan.top)

    def prepare(self) -> None:
        """Flush, header, flush: from here on the target does not need the layers between."""
        if self._had_backing:
            self.plan.target.driver.set_backing(*self._link)

    def commit(self) -> None:
        self._gone, self.filter = self.filter, None
        target = self.plan.target
        if self._had_backing:
            target.driver.attach_backing(target.children.get("backing"))

    async def clean(self) -> None:
        """Lets the chain go, but for what keeps others off it while the job is not dismissed."""
        graph, top = self.graph, self.plan.top
        if self.filter is not None:
            async with graph.drained(top):
                with Transaction() as transaction:
                    edit.refresh(transaction, self._take_filter_off(transaction))
                    graph.commit(transaction)
            self._gone, self.filter = self.filter, None
        await graph.remove_client(self._reader)
        await graph.close_unused([self._gone] if self._gone else [])
        if self._was_read_only:
            await make_read_only(graph, top)

    # -- the work, in the job's thread -------------------------------------------------------

    def run(self) -> None:
        """Walks the disk once. A piece that fails is judged by the policy; after an ignored error
        the job fails in the end, and the layers stay."""
        plan = self.plan
        layers, ranges = plan.layers, plan.target.overlap
        if not layers:
            return
        assert ranges is not None  # the filter's doing
        bare = skip_filters(plan.base) is None
        filler = Filler(plan.target, layers, ranges, nothing_below=bare)
        cluster = plan.target.driver.cluster_size() or 1
        filling = _Filling(self, filler, plan.target.length(), max(LIMITED_CHUNK, cluster))
        large = max(carrying.CHUNK, cluster)
        try:
            with Carrier(
                self,
                filling,
                plan.target.driver,
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
        self._window = min(_WINDOW, max(_WINDOW_CLUSTERS * filler.unit, 1 << 20))
        self._ahead: deque[Run] = deque()
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
            run = self._missing_at(offset)
        except OSError:
            piece = Piece(offset, min(rest, self.grain), copy=True, unseen=True)
        else:
            match run.kind:
                case ExtentKind.DATA:
                    piece = self._gathered(most) or Piece(offset, min(run.length, most), copy=True)
                case ExtentKind.ZERO:
                    piece = Piece(offset, min(run.length, ZERO_CHUNK), zero=True)
                case _:
                    piece = Piece(offset, min(run.length, rest))
        self._offset += piece.length
        return piece

    def _missing_at(self, offset: int) -> Run:
        """The run that begins at ``offset``, as ``Filler.look`` has it. Blocks: in a lane."""
        while self._ahead and self._ahead[0].offset + self._ahead[0].length <= offset:
            self._ahead.popleft()
        if not self._ahead or self._ahead[0].offset > offset:
            rest = self._length - offset
            try:
                self._ahead = deque(self._filler.look(offset, min(self._window, rest)))
            except OSError:
                self._ahead = deque(self._filler.look(offset, min(_NARROW, rest)))
        run = self._ahead[0]
        return Run(run.kind, offset, run.offset + run.length - offset)

    def _gathered(self, most: int) -> Piece | None:
        if most <= self.grain or self._ahead[0].offset < self._offset:
            return None
        return gather(self._ahead, most, self._filler.unit)

    def work(self, piece: Piece, buffer: memoryview) -> None:
        if piece.unseen:
            self._filler.fill(piece.offset, piece.length, buffer)
        elif piece.parts:
            self._filler.copy_ranges(piece.parts, buffer)
        elif piece.zero:
            piece.zeroed(self._filler.zero(piece.offset, piece.length, buffer, len(buffer)))
        else:
            self._filler.copy(piece.offset, piece.length, buffer)

    def done(self, piece: Piece) -> None:
        self._job.progress.advance(piece.length)

    def ignored(self, piece: Piece, error: OSError) -> None:
        self.failure = self.failure or error
        self._job.progress.advance(piece.length)


def _put_filter(transaction: Transaction, graph: Graph, plan: StreamPlan) -> Node:
    """The job's filter on the top. Raises RequestError in QEMU's words."""
    try:
        node = make_filter(
            graph, transaction, plan.top, CopyOnReadDriver(), plan.filter_name, writable=True
        )
        links = links_between(node, plan.bottom)
        edit.freeze(transaction, links)
        node.copy_on_read = CopyOnRead(plan.bottom, links)
        edit.refresh(transaction, [node])
    except RequestError as error:
        raise FilterNotCreated(error.text) from error
    try:
        edit.replace(transaction, plan.top, node)
        edit.refresh(transaction, [node])
    except RequestError as error:
        raise FilterNotPlaced(error.text) from error
    return node
