"""Mirroring: a copy of a disk that keeps up with it, to take its place in the end.

    users of the disk      drive, exports …
    mirror_top             a filter of the job's
    source                 … <- its chain; writes are noted in the job's bitmap
    target                 written by the job, and by nobody else

When everything has been copied once and is on the target's disk, the job is ready. It goes on until
it is told to complete (the target takes the source's place) or cancelled without force (the target
stays a copy of that moment). An active commit is the same with the base as target: what is above
the base has been copied into it, so that it shows what the source shows, and takes its place.

The last changes are made with the disk drained: what is dirty still is copied, and flushed, before
the graph changes and before anybody is told.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterable
from typing import ClassVar, Final

from monitor.engine import permissions
from monitor.engine.bitmap import DirtyBitmap
from monitor.engine.drivers.job_filters import MirrorTopDriver
from monitor.engine.graph import edit
from monitor.engine.graph.blockers import Blocker
from monitor.engine.graph.client import Client
from monitor.engine.graph.edge import Edge
from monitor.engine.graph.graph import Graph
from monitor.engine.graph.modes import make_read_only, reopen
from monitor.engine.graph.node import Node, links_between, skip_filters
from monitor.engine.graph.opening import Opening
from monitor.engine.graph.transaction import Transaction
from monitor.engine.jobs import carrying
from monitor.engine.jobs.beginning import beginning
from monitor.engine.jobs.block import BlockJob, JobSettings
from monitor.engine.jobs.errors import CannotComplete
from monitor.engine.jobs.filters import (
    nodes_between,
    put_on,
    root,
    take_off,
)
from monitor.engine.jobs.manager import Jobs
from monitor.engine.jobs.mirror_plan import (
    BadBufferSize,
    FilterOnChain,
    IntoItself,
    MirrorPlan,
    ReplacedNodeGone,
    shows_the_same,
)
from monitor.engine.jobs.mirroring import Mirroring, fits
from monitor.engine.schema.job import JobType

_READ: Final = permissions.CONSISTENT_READ
_SHARED: Final = permissions.CONSISTENT_READ | permissions.WRITE | permissions.WRITE_UNCHANGED


class MirrorJob(BlockJob):
    type: ClassVar[JobType] = "mirror"
    can_complete: ClassVar[bool] = True
    plan: MirrorPlan

    # -- life --------------------------------------------------------------------------------

    @classmethod
    async def begin(cls, table: Jobs, settings: JobSettings, plan: MirrorPlan) -> None:
        """Takes hold of source and target and starts. Raises RequestError or OSError and changes
        nothing then. The caller has the turn."""
        if plan.buffer < 0:
            raise BadBufferSize()
        if skip_filters(plan.source) is skip_filters(plan.target):
            raise IntoItself()
        graph = table.graph
        if not plan.target.read_only:
            await graph.make_ready(plan.target, permissions.WRITE)
        async with beginning(table, plan.source, plan.target) as begun:
            if plan.commits and plan.target.read_only:
                await reopen(
                    graph, begun.edits, plan.target, read_only=False
                )  # refused before all else is
            filter_node = _filter(graph, begun.edits, plan)
            job = begun.make(cls, settings)
            job._hold(begun.edits, plan, filter_node)
        if plan.copies_all and fits(plan):  # known before the thread's first step
            job.progress.set_remaining(plan.source.length())
        for client in (job, job._writer):
            graph.admit(client)
        job.block(filter_node, plan.source, plan.target, *job._between)
        job.start()

    def _hold(self, transaction: Transaction, plan: MirrorPlan, filter_node: Node) -> None:
        """The job's edges and bitmap."""
        self.plan = plan
        self.filter = filter_node
        driver = filter_node.driver
        assert isinstance(driver, MirrorTopDriver)
        self._between = list(nodes_between(plan.source, plan.target))[1:] if plan.commits else []
        self._links: list[Edge] = []
        self._writer = Client()  # who writes to the target: QEMU has an unnamed backend there
        self._reader = root(transaction, self, "main node", filter_node, _READ, _SHARED)
        if not plan.commits and skip_filters(plan.target) in set(plan.source.chain()):
            raise FilterOnChain()
        taken, shared = permissions.WRITE, permissions.WRITE_UNCHANGED
        if plan.commits:
            shared = _SHARED
            if plan.target.length() < plan.source.length():
                taken |= permissions.RESIZE
        self._target = root(transaction, self._writer, "root", plan.target, taken, shared)
        self._target.beyond_end = True  # a file may end within its last sector
        root(transaction, self, "source", plan.source, 0, _SHARED)
        root(transaction, self, "target", plan.target, 0, permissions.ALL)
        for node in self._between:
            shared = permissions.WRITE | permissions.WRITE_UNCHANGED
            if skip_filters(node) is skip_filters(plan.target):  # which shows the base itself
                shared |= permissions.CONSISTENT_READ
            root(transaction, self, "intermediate node", node, 0, shared)
        self._bitmap = DirtyBitmap(plan.source.length(), plan.unit)
        edit.attach_bitmap(transaction, plan.source, self._bitmap)
        self._work = Mirroring(self, plan, self._bitmap, self._reader, self._target)
        if plan.write_blocking:
            below = filter_node.children["backing"]
            beside = edit.attach(transaction, filter_node, "target", plan.target)
            driver.active = self._work.hand_on(below, beside)
        if plan.commits:
            self._links = links_between(filter_node, plan.target)
            edit.freeze(transaction, self._links)
        edit.refresh(transaction, [filter_node, plan.source, plan.target, *self._between])
        self._to_replace: Node | None = None
        self._replace_blocker: Blocker | None = None
        self._completes = False
        self._gone = False

    # -- verbs -------------------------------------------------------------------------------

    def complete(self) -> None:
        if not self.ready:
            raise CannotComplete(self.name)
        if self.plan.replaces is not None and self._to_replace is None:
            node = self.graph.nodes.get(self.plan.replaces)
            if node is None:
                raise ReplacedNodeGone(self.plan.replaces)
            self._to_replace = node
            node.pins += 1
            self._replace_blocker = Blocker("block device is in use by block-job-complete")
            node.blockers.append(self._replace_blocker)
        self._completes = True

    def soft_cancel(self) -> bool:
        return self.ready

    def given_up(self) -> None:
        self.stop_waiting_for(self.plan.target)

    def wake(self) -> None:
        """From any thread: there may be something to do."""
        self._pausing.kick()

    @property
    def ends(self) -> bool:
        """Whether somebody wants the job to end when the target is in step."""
        return self._completes or self.cancel_requested

    @property
    def busy(self) -> bool:
        return super().busy and not self._work.in_step

    # -- the work, in the job's thread -------------------------------------------------------

    def run(self) -> None:
        if not self.plan.commits:
            self.mark_target(self.plan.target, self.plan.source)
        self._work.run()

    def while_pending(self, over: threading.Event) -> None:
        self._work.keep_up(over)

    # -- the end -----------------------------------------------------------------------------

    def drains_for_end(self) -> Iterable[Node]:
        nodes = [self.filter, self.plan.source, self.plan.target]
        return nodes + ([self._to_replace] if self._to_replace else [])

    async def before_end(self) -> None:
        """Copies what is left while guests go on, and opens the backing image that the target's
        header names."""
        await self.in_thread(self._work.catch_up)
        target = skip_filters(self.plan.target)
        if self.plan.backing != "open" or target is None or target.backing is not None:
            return
        async with Opening(self.graph) as opening:
            await opening.follow_backing(target)

    def change_graph(self, transaction: Transaction) -> None:
        plan, target = self.plan, self.plan.target
        self._replaced = self._to_replace or plan.source
        if not shows_the_same(plan.source, self._replaced):  # the graph has changed meanwhile
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        self._let_go(transaction)
        changed: list[Node] = [target]
        if plan.backing == "source":
            changed += self._link_backing(transaction)
        changed += take_off(transaction, self.filter, plan.source)
        if self._completes:
            edit.replace(transaction, self._replaced, target)
            changed += [self._replaced]
        edit.refresh(transaction, dict.fromkeys(changed))

    def _let_go(self, transaction: Transaction) -> None:
        """The job wants nothing of the nodes any more, but that they stay."""
        edit.thaw(self._links)
        self._links = []
        for edge in [*self.roots, self._target]:
            edit.set_permissions(transaction, edge, 0, permissions.ALL)
        edit.detach_bitmap(transaction, self.plan.source, self._bitmap)

    def _link_backing(self, transaction: Transaction) -> list[Node]:
        plan, image = self.plan, skip_filters(self.plan.target)
        assert image is not None
        wanted = plan.source if plan.only_new_writes else plan.base
        if not image.driver.supports_backing or image.backing is wanted:
            return []
        edge = image.children.get("backing")
        if edge is not None and wanted is None:
            edit.detach(transaction, edge)
        elif edge is not None and wanted is not None:
            edit.point(transaction, edge, wanted)
        elif wanted is not None:
            edit.attach(transaction, image, "backing", wanted)
        return [image] + ([wanted] if wanted is not None else [])

    def prepare(self) -> None:
        """Drained, so that nothing is dirtied any more: copies the rest, and flushes."""
        source, target = self.plan.source, self.plan.target
        buffer = memoryview(bytearray(carrying.CHUNK))
        for offset, end in self._left_over(source.length()):
            for at in range(offset, end, len(buffer)):
                view = buffer[: min(len(buffer), end - at)]
                source.read(view, at)
                target.write(view, at)
                self.progress.advance_beyond(len(view))
        target.flush()
        if not self.plan.commits:
            self.unmark_target(target)

    def _left_over(self, length: int) -> Iterable[tuple[int, int]]:
        """Begin and end of what is dirty, in whole clusters of the target: of a backing image that
        it has in the end its driver knows nothing yet, and would hide it behind zeroes."""
        unit, done = self.plan.target.cluster_size() or 1, 0
        for offset, size in self._bitmap.areas(0, length):
            start = max(done, offset - offset % unit)
            done = min(length, -(-(offset + size) // unit) * unit)
            if start < done:
                yield start, done

    def commit(self) -> None:
        self._gone = True
        image = skip_filters(self.plan.target)
        if image is not None and self.plan.backing == "source":
            image.driver.attach_backing(image.children.get("backing"))

    async def clean(self) -> None:
        """Takes the job out of the graph, wherever it has come to."""
        plan, graph = self.plan, self.graph
        async with graph.drained(self.filter, plan.source, plan.target):
            if not self._gone:
                with Transaction() as transaction:
                    self._let_go(transaction)
                    changed = take_off(transaction, self.filter, plan.source)
                    edit.refresh(transaction, [plan.target, *changed])
                    graph.commit(transaction)
        if self._gone and self._completes and self._replaced.read_only:
            await make_read_only(graph, plan.target)
        if self._replace_blocker is not None and self._to_replace is not None:
            self._to_replace.blockers.remove(self._replace_blocker)
            self._to_replace.pins -= 1
        self.released()
        left = [self.filter, plan.source, plan.target, *self._between]
        await graph.remove_client(self._writer)
        await graph.remove_client(self)
        await graph.close_unused(left + ([self._to_replace] if self._to_replace else []))


class ActiveCommitJob(MirrorJob):
    """The same as a commit, to those who look: the target is an image below the source."""

    type = "commit"


def _filter(graph: Graph, transaction: Transaction, plan: MirrorPlan) -> Node:
    driver = MirrorTopDriver(commits=plan.commits, write_blocking=plan.write_blocking)
    name = plan.filter_name
    return put_on(graph, transaction, plan.source, driver, name, writable=True)
