"""Jobs by steps: they go on only when they are let, one at a time, so that a session which is
typed again runs alike again, whatever else the host has to do.

A held job stands at each pause point, with nothing under way, until it is let pass. Time stands as
well and passes when everybody sleeps: then it is the time at which the first one wakes.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from monitor.engine.jobs.job import Job
    from monitor.engine.jobs.manager import Jobs

_GRAIN: Final = 1e-6
"""Seconds that are as good as none: sums of times are rounded."""
_STUCK: Final = 10.0
"""Seconds of the host's after which a job that does not get anywhere counts as at rest: a request
of its own may be held up by something that only the next command ends (blkdebug's breakpoints)."""
_PATIENCE: Final = 10_000
"""Pause points that jobs may pass without getting anywhere, before that is taken for the end."""


class Stepping:
    """Lets the jobs of a table go on. All of it is of the control loop."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._clock = jobs.clock
        self.held = False

    def hold(self, held: bool) -> None:
        """All jobs go by steps from now on, those to come as well; or freely again."""
        self.held = held
        for job in self._jobs.visible():
            job.hold(held)

    async def rest(self) -> None:
        """Waits until nothing moves any more without being let. At once when jobs are free."""
        while self.held:
            endings = self._jobs.endings()
            moving = [job for job in self._jobs.visible() if not job.at_rest]
            if endings:
                await asyncio.wait(endings)
            elif not moving or not await _moves(moving[0]):
                return

    async def step(self, job: Job) -> None:
        """Waits for one piece of the job's progress, or for its next status. A held job is let go
        so far; one that stands by, or that nothing wakes, stays as it is."""
        await self.rest()
        before = _state(job)
        for _ in range(_PATIENCE):
            if job.stands_by or _state(job) != before:
                return
            if not self.held:
                await job.changed()
            elif job.wakes_at < math.inf:
                self._clock.advance(max(0.0, job.wakes_at - self._clock.monotonic()))
                await self._let_go(job)
            else:
                return

    async def go_on(self, waited_for: Sequence[Job], timeout: float | None) -> None:
        """Lets all jobs go on in turn, the oldest first, until each of those ``waited_for`` is gone
        or stands by, until ``timeout`` seconds have passed on the clock, or nothing moves."""
        deadline = math.inf if timeout is None else self._clock.monotonic() + timeout
        idle = 0
        await self.rest()
        while idle < _PATIENCE and not _all_stand_by(waited_for):
            ready = [job for job in self._jobs.visible() if self._can_go(job)]
            if not ready and not self._sleep(deadline):
                return
            for job in ready:
                before = _state(job)
                if self._can_go(job):  # another job's end may have ended it
                    await self._let_go(job)
                idle = 0 if _state(job) != before else idle + 1
                if _all_stand_by(waited_for):
                    return

    def _can_go(self, job: Job) -> bool:
        return job.wakes_at <= self._clock.monotonic() + _GRAIN

    def _sleep(self, deadline: float) -> bool:
        """Everybody sleeps: until the first one wakes. False when that is too late, or never."""
        wakes_at = min((job.wakes_at for job in self._jobs.visible()), default=math.inf)
        until = min(wakes_at, deadline)
        if until < math.inf:
            self._clock.advance(max(0.0, until - self._clock.monotonic()))
        return wakes_at < deadline

    async def _let_go(self, job: Job) -> None:
        job.let_go()
        await self.rest()


async def _moves(job: Job) -> bool:
    """Waits until something about the job changes; False when nothing does."""
    try:
        async with asyncio.timeout(_STUCK):
            await job.changed()
    except TimeoutError:
        return False
    return True


def _state(job: Job) -> tuple[str, int]:
    return job.status, job.progress.current


def _all_stand_by(jobs: Sequence[Job]) -> bool:
    return all(job.stands_by for job in jobs)
