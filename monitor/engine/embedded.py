"""The door onto the live graph of this process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from monitor.engine.api import Engine, Event, ExportServer, JobSnapshot, Name, NameList
from monitor.engine.clock import Clock, HostClock
from monitor.engine.errors import JobNotActive, host_failure
from monitor.engine.graph.drive import Drive
from monitor.engine.graph.graph import Graph
from monitor.engine.graph.node import Node, skip_filters
from monitor.engine.handlers import handler_of
from monitor.engine.schema.base import Request

if TYPE_CHECKING:
    from monitor.engine.exports import Exports
    from monitor.engine.jobs.manager import Jobs
    from monitor.engine.throttle import Throttles

log = logging.getLogger(__name__)


class EmbeddedEngine(Engine):
    """This project's own block layer behind the door. Made and used on the control loop."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock: Clock = clock or HostClock()
        self.graph = Graph(self.emit)
        self._jobs: Jobs | None = None
        self._exports: Exports | None = None
        self._throttles: Throttles | None = None
        self._export_servers: dict[str, Callable[[], ExportServer]] = {}
        self._subscribers: list[Callable[[Event], None]] = []
        self.chardevs: list[str] = []
        """Where QMP is served, in QEMU's words (query-chardev)."""

    async def execute(self, request: Request) -> Any:
        try:
            return await handler_of(type(request))(self, request)
        except OSError as error:
            raise host_failure(request.qmp_name(), error) from error

    # -- events ------------------------------------------------------------------------------

    def subscribe(self, callback: Callable[[Event], None]) -> Callable[[], None]:
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    def emit(self, name: str, data: dict[str, Any]) -> None:
        """Reports an event to everyone who listens, now. That a listener fails, by a bug, is
        nothing to the others, nor to what has happened: a job's life goes on."""
        seconds, micros = divmod(round(self.clock.wall() * 1_000_000), 1_000_000)
        event = Event(name, data, (seconds, micros))
        for callback in list(self._subscribers):
            try:
                callback(event)
            except Exception:
                log.exception("a listener failed at %s", name)

    # -- the catalogue -----------------------------------------------------------------------

    def names(self, kind: str, verb: str = "", of: str = "") -> Iterable[Name]:
        nodes, drives = self.graph.nodes, self.graph.drives
        if kind == "layer":
            every = [node.backing for node in nodes.values() if node.backing is not None]
            layers = self._below(of) if of else every
            return [Name(n.filename, n.meta()) for n in layers if n.filename and not n.is_filter]
        if kind == "node" and verb == "below" and of:
            return [Name(node.name, node.meta()) for node in self._below(of)]
        if kind == "node":
            return NameList(list(nodes), lambda name: nodes[name].meta())
        if kind == "drive":
            return NameList(list(drives), lambda name: drives[name].meta())
        if kind == "device":
            return NameList(
                [*drives, *nodes], lambda name: (drives.get(name) or nodes[name]).meta()
            )
        if kind == "export":
            exports = self._exports.by_id if self._exports is not None else {}
            return [Name(each.id, f"{each.type} {each.node.name}") for each in exports.values()]
        if kind == "object":
            return [Name(each.id, each.type) for each in self.graph.objects.by_id.values()]
        if kind == "snapshot":
            kept = {
                str(info["name"]): node.user_name()
                for node in nodes.values()
                for info in node.driver.snapshots()
            }
            return [Name(name, f"in {node}") for name, node in kept.items()]
        if kind == "job":
            return [
                Name(job.id, f"{job.type} {job.fraction:.0%} {job.status}")
                for job in self.jobs()
                if job.takes(verb)
            ]
        if kind == "bitmap":
            return [
                Name(bitmap.name, bitmap.meta())
                for node in self._named(of)
                for bitmap in node.bitmaps
                if bitmap.name is not None and bitmap.accepts(verb)
            ]
        return []

    def _below(self, name: str) -> list[Node]:
        """What lies below the image that a device or node shows."""
        tops = [top for node in self._named(name) if (top := skip_filters(node)) is not None]
        return [below for top in tops for below in top.chain()][1:]

    def _named(self, name: str) -> list[Node]:
        """The node that a device or node name means now; all nodes for ""."""
        if not name:
            return list(self.graph.nodes.values())
        drive = self.graph.drives.get(name)
        node = drive.node if drive else self.graph.nodes.get(name)
        return [node] if node else []

    def jobs(self) -> list[JobSnapshot]:
        return self._jobs.snapshots() if self._jobs is not None else []

    @property
    def job_table(self) -> Jobs:
        """The jobs themselves, for handlers; made when first asked for, as ``exports`` are."""
        if self._jobs is None:
            from monitor.engine.jobs.manager import Jobs

            self._jobs = Jobs(self.graph, self.clock)
        return self._jobs

    @property
    def exports(self) -> Exports:
        """The exports, for handlers; made when first asked for, since most sessions have none."""
        if self._exports is None:
            from monitor.engine.exports import Exports

            self._exports = Exports(self.graph, self._export_servers)
        return self._exports

    @property
    def throttles(self) -> Throttles:
        """The groups of drives with limits; made when first asked for."""
        if self._throttles is None:
            from monitor.engine.throttle import Throttles

            self._throttles = Throttles(self.clock)
        return self._throttles

    async def drop_exports_of(self, drive: Drive) -> None:
        """Exports of a drive's disk (nbd-server-add) go with it, whoever uses them. The caller has
        the turn."""
        if self._exports is not None:
            await self._exports.remove_of(drive)

    def serve_exports(self, kind: str, make: Callable[[], ExportServer]) -> None:
        """Exports of type ``kind`` will be served by what ``make`` gives, once there is one."""
        self._export_servers[kind] = make

    async def job_ended(self, job_id: str) -> JobSnapshot:
        return await self.job_table.ended(job_id)

    # -- by steps ----------------------------------------------------------------------------

    def go_by_steps(self, by_steps: bool) -> None:
        self.clock.stand(by_steps)
        if by_steps or self._jobs is not None:
            self.job_table.stepping.hold(by_steps)

    @property
    def by_steps(self) -> bool:
        return self._jobs is not None and self._jobs.stepping.held

    async def rest(self) -> None:
        if self._jobs is not None:
            await self._jobs.stepping.rest()

    async def step(self, job_id: str) -> JobSnapshot:
        job = self.job_table.find(job_id)
        if job is None:
            raise JobNotActive(job_id)
        await self.job_table.stepping.step(job)
        return job.snapshot()

    async def go_on(self, job_ids: Sequence[str], timeout: float | None) -> None:
        if self.by_steps:
            jobs = [job for job in self.job_table.visible() if job.id in job_ids]
            await self.job_table.stepping.go_on(jobs, timeout)

    # -- the end -----------------------------------------------------------------------------

    async def shut_down(self) -> None:
        if self._exports is not None:
            async with self.graph.turn:
                await self._exports.close()
        self.graph.let_go()
        if self._throttles is not None:
            self._throttles.let_go()
        if self._jobs is not None:
            await self._jobs.cancel_all()
        await self.graph.close_all()
        self.graph.objects.close()
