"""All jobs of an engine."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from monitor.engine.api import JobSnapshot
from monitor.engine.clock import Clock
from monitor.engine.errors import JobNotActive
from monitor.engine.graph.graph import Graph
from monitor.engine.jobs.errors import InvalidJobId, JobIdInUse
from monitor.engine.jobs.group import JobGroup
from monitor.engine.jobs.job import Job
from monitor.engine.jobs.state import Status, Verb
from monitor.engine.jobs.stepping import Stepping
from monitor.engine.names import well_formed

J = TypeVar("J", bound=Job)


class Jobs:
    """The jobs by id, oldest first, and the tasks that end them. Of the control loop."""

    def __init__(self, graph: Graph, clock: Clock) -> None:
        self.graph = graph
        self.clock = clock
        self._jobs: list[Job] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.stepping = Stepping(self)

    # -- asking ------------------------------------------------------------------------------

    def find(self, job_id: str) -> Job | None:
        """The job of that id; internal jobs have none."""
        return next((job for job in self._jobs if job.id == job_id), None)

    def visible(self) -> list[Job]:
        """All but internal jobs, oldest first."""
        return [job for job in self._jobs if not job.internal]

    def snapshots(self) -> list[JobSnapshot]:
        return [job.snapshot() for job in self.visible()]

    def endings(self) -> list[asyncio.Task[None]]:
        """What is under way to end groups of jobs."""
        return [task for task in self._tasks if not task.done()]

    async def ended(self, job_id: str) -> JobSnapshot:
        """Waits until the job is concluded or gone, or does nothing more without a verb. Raises
        JobNotActive when there is none."""
        job = self.find(job_id)
        if job is None:
            raise JobNotActive(job_id)
        await job.settled()
        return job.snapshot()

    async def find_at_rest(self, job_id: str) -> Job | None:
        """The job of that id, for a verb: one whose last changes are being made is waited for, as
        if they were made at once."""
        while (job := self.find(job_id)) is not None and job.group.ends(job):
            await job.settled()
        return job

    # -- beginning and ending ----------------------------------------------------------------

    def check_id(self, job_id: str | None) -> None:
        """Raises when no new job may have this id; internal jobs, which have none, always may."""
        if job_id is None:
            return
        if not well_formed(job_id):
            raise InvalidJobId(job_id)
        if self.find(job_id) is not None:
            raise JobIdInUse(job_id)

    def add(self, job: J, group: JobGroup | None = None) -> J:
        """Takes in a new job (its id is checked by now), alone or into a group. The caller starts
        it, at once or when its transaction commits."""
        (group or JobGroup(self)).add(job)
        self._jobs.append(job)
        if self.stepping.held and not job.internal:
            job.hold(True)
        return job

    async def release(self, job: Job) -> None:
        """Takes the job's edges away and closes the layers that nothing else uses. The caller has
        the turn."""
        job.stop_thread()
        await self.graph.remove_client(job)
        job.released()

    def forget(self, job: Job) -> None:
        self._jobs.remove(job)
        job.move(Status.NULL)

    async def dismiss(self, job: Job) -> None:
        """``job-dismiss``."""
        async with self.graph.turn:
            job.check(Verb.DISMISS)
            await self.release(job)
            self.forget(job)

    async def discard(self, job: Job) -> None:
        """What becomes of a job that could not begin. The caller has the turn."""
        await self.release(job)
        self.forget(job)

    async def cancel_all(self) -> None:
        """Cancels every job by force, the newest first as in QEMU, and waits until all are gone."""
        self.stepping.hold(False)
        while self._jobs:
            job = self._jobs[-1]
            if job.status is Status.CONCLUDED:
                await self.dismiss(job)
                continue
            if not job.force_cancelled and not job.group.ends(job):
                job.cancel(force=True)
            await job.settled()

    def spawn(self, ending: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs the end of a group of jobs, and remembers it until it is over."""
        task = asyncio.get_running_loop().create_task(ending)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
