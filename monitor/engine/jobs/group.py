"""Jobs that end together: all finalize, or all abort. A single job is a group of one.

    a run ends well      waiting, until every run of the group has ended; then all are pending, and
                         finalize at once, or when the user says so if one of them wants that
    a run fails          all others are cancelled; when every run has ended, all abort
    a prepare fails      all abort

Preparing, committing and aborting change the graph, so they take the graph's turn; a cancel that
comes before they have it still counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from monitor.engine.graph.transaction import Transaction
from monitor.engine.jobs.job import Job
from monitor.engine.jobs.state import Status

if TYPE_CHECKING:
    from monitor.engine.jobs.manager import Jobs


class JobGroup:
    """The jobs of one transaction, or one job alone."""

    def __init__(self, manager: Jobs) -> None:
        self.manager = manager
        self.jobs: list[Job] = []
        """The last that was added first, as QEMU goes through them: events show it."""
        self.aborting = False
        self.finalizing = False
        """The point of no return: the last changes are being made."""
        self.committed = False
        """They are made, whatever comes after."""

    def add(self, job: Job) -> None:
        job.group = self
        self.jobs.insert(0, job)

    @property
    def waits_for_finalize(self) -> bool:
        """Whether nothing goes on before the user finalizes."""
        return (
            not self.aborting
            and not self.finalizing
            and all(job.status is Status.PENDING for job in self.jobs)
            and not all(job.auto_finalize for job in self.jobs)
        )

    def ends(self, job: Job) -> bool:
        """Whether the job's end is under way: verbs wait for it."""
        return self.finalizing and job in self.jobs

    # -- words from the jobs, on the loop ----------------------------------------------------

    def run_ended(self, job: Job) -> None:
        """A job's run is over, well or not; or the job was cancelled before it began."""
        if self.aborting:
            self._abort_when_all_ended()  # in its turn it says that it aborts
        elif job.note_failure():
            self.fail(job)
        else:
            self._succeed(job)

    def fail(self, job: Job) -> None:
        """A job has failed or was cancelled after its run: none may be finalized."""
        if not self.aborting:
            self.aborting = True
            for other in self.jobs:
                if other is not job:
                    other.request_cancel(force=True)
        self._abort_when_all_ended()

    async def finalize(self) -> None:
        """Prepares and commits all jobs, or aborts all. Returns when they are concluded; who gives
        up waiting stops nothing."""
        await asyncio.shield(self.manager.spawn(self._finalize()))

    async def withdraw(self, job: Job) -> None:
        """A job that has not begun is cancelled and goes at once: its transaction has failed, which
        holds the turn."""
        self.aborting = True
        job.request_cancel(force=True)
        await self._conclude(job)

    # -- the end -----------------------------------------------------------------------------

    def _succeed(self, job: Job) -> None:
        job.move(Status.WAITING)
        if any(other.status is not Status.WAITING for other in self.jobs):
            return
        for other in self.jobs:
            other.move(Status.PENDING)
            if not other.auto_finalize:
                other.report_pending()
        if all(other.auto_finalize for other in self.jobs):
            self.manager.spawn(self._finalize())
        else:
            for other in self.jobs:
                other.begin_pending()

    async def _finalize(self) -> None:
        async with self.manager.graph.turn:
            if self.aborting or self.finalizing:
                return
            self.finalizing = True
            for job in self.jobs:
                await _take(job, job.end_pending)
            await _take(self.jobs[0], self._make_last_changes)
            if not self.committed:
                self._fail_all()
            for job in list(self.jobs):
                await self._conclude(job)

    async def _make_last_changes(self) -> None:
        """All of them or, where a job fails, none."""
        if not await self._open_for_end():
            return
        graph = self.manager.graph
        nodes = [node for job in self.jobs for node in job.drains_for_end()]
        async with graph.drained(*nodes):
            with Transaction() as transaction:
                if await self._prepare(transaction):
                    self.committed = True
                    await _take(self.jobs[0], lambda: graph.commit(transaction))
                    for job in self.jobs:
                        await _take(job, job.commit)

    async def _open_for_end(self) -> bool:
        for job in self.jobs:
            try:
                await job.before_end()
            except Exception as error:
                job.failure = job.judged(error)
                return False
        return True

    async def _prepare(self, transaction: Transaction) -> bool:
        for job in self.jobs:
            try:
                job.change_graph(transaction)
            except Exception as error:
                job.failure = job.judged(error)
            else:
                await job.prepare_in_thread()
            if job.failure is not None:
                for prepared in self.jobs[: self.jobs.index(job) + 1]:
                    await _take(prepared, partial(prepared.in_thread, prepared.take_back))
                return False
        return True

    def _fail_all(self) -> None:
        self.aborting = True
        for job in self.jobs:
            if job.failure is None:
                job.request_cancel(force=True)

    def _abort_when_all_ended(self) -> None:
        if all(job.run_is_over for job in self.jobs):
            self.manager.spawn(self._abort())

    async def _abort(self) -> None:
        async with self.manager.graph.turn:
            if self.finalizing:
                return
            self.finalizing = True
            for job in list(self.jobs):
                await _take(job, job.end_pending)
                await self._conclude(job)

    async def _conclude(self, job: Job) -> None:
        if job.note_failure() and not self.committed:
            await _take(job, job.abort)
        await _take(job, job.clean)
        goes_now = job.auto_dismiss or not job.started
        if goes_now:
            await _take(job, lambda: self.manager.release(job))
        job.note_failure()  # that of the last steps
        self.jobs.remove(job)
        if job.started:
            job.report_end()
        job.move(Status.CONCLUDED)
        if goes_now:
            self.manager.forget(job)


async def _take(job: Job, step: Callable[[], Awaitable[None] | None]) -> None:
    """One of the last steps, none of which may fail. One that does, by a bug, is the job's failure,
    and keeps no other from being made."""
    try:
        result = step()
        if result is not None:
            await result
    except Exception as error:
        failure = job.judged(error)
        job.failure = job.failure or failure
