"""Verbs on jobs, and questions about them.

``block-job-*`` find block jobs only, and answer DeviceNotActive when there is none; ``job-*``
find all.
"""

from __future__ import annotations

from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import JobNotActive
from monitor.engine.handlers import handles
from monitor.engine.jobs.block import BlockJob
from monitor.engine.jobs.errors import JobNotFound, JobPaused
from monitor.engine.jobs.job import Job
from monitor.engine.jobs.state import Verb
from monitor.engine.schema.base import optional
from monitor.engine.schema.job import (
    BlockJobCancel,
    BlockJobComplete,
    BlockJobDismiss,
    BlockJobFinalize,
    BlockJobInfo,
    BlockJobPause,
    BlockJobResume,
    BlockJobSetSpeed,
    JobCancel,
    JobComplete,
    JobDismiss,
    JobFinalize,
    JobInfo,
    JobPause,
    JobResume,
    QueryBlockJobs,
    QueryJobs,
)


async def _job(engine: EmbeddedEngine, job_id: str) -> Job:
    job = await engine.job_table.find_at_rest(job_id)
    if job is None:
        raise JobNotFound(job_id)
    return job


async def _block_job(engine: EmbeddedEngine, job_id: str) -> BlockJob:
    job = await engine.job_table.find_at_rest(job_id)
    if not isinstance(job, BlockJob):
        raise JobNotActive(job_id)
    return job


async def _finalize(job: Job) -> None:
    job.check(Verb.FINALIZE)
    await job.group.finalize()


# Questions; the newest job comes first, as in QEMU


@handles(QueryJobs)
async def query_jobs(engine: EmbeddedEngine, request: QueryJobs) -> list[JobInfo]:
    return [_job_info(job) for job in reversed(engine.job_table.visible())]


def _job_info(job: Job) -> JobInfo:
    return JobInfo(
        id=job.name,
        type=job.type,
        status=job.status.value,
        current_progress=job.progress.current,
        total_progress=job.progress.total,
        error=optional(job.error_text),
    )


@handles(QueryBlockJobs)
async def query_block_jobs(engine: EmbeddedEngine, request: QueryBlockJobs) -> list[BlockJobInfo]:
    jobs = reversed(engine.job_table.visible())
    return [_block_job_info(job) for job in jobs if isinstance(job, BlockJob)]


def _block_job_info(job: BlockJob) -> BlockJobInfo:
    return BlockJobInfo(
        type=job.type,
        device=job.name,
        len=job.progress.total,
        offset=job.progress.current,
        busy=job.busy,
        paused=job.halted,
        speed=job.speed,
        io_status=job.io_status,
        ready=job.ready,
        status=job.status.value,
        auto_finalize=job.auto_finalize,
        auto_dismiss=job.auto_dismiss,
        error=optional(job.error_text),
    )


# Verbs on block jobs


@handles(BlockJobSetSpeed)
async def block_job_set_speed(engine: EmbeddedEngine, request: BlockJobSetSpeed) -> None:
    (await _block_job(engine, request.device)).set_speed(request.speed)


@handles(BlockJobCancel)
async def block_job_cancel(engine: EmbeddedEngine, request: BlockJobCancel) -> None:
    job = await _block_job(engine, request.device)
    force = request.force is True
    if job.user_paused and not force:
        raise JobPaused(request.device)
    job.user_cancel(force=force)


@handles(BlockJobPause)
async def block_job_pause(engine: EmbeddedEngine, request: BlockJobPause) -> None:
    (await _block_job(engine, request.device)).user_pause()


@handles(BlockJobResume)
async def block_job_resume(engine: EmbeddedEngine, request: BlockJobResume) -> None:
    (await _block_job(engine, request.device)).user_resume()


@handles(BlockJobComplete)
async def block_job_complete(engine: EmbeddedEngine, request: BlockJobComplete) -> None:
    (await _block_job(engine, request.device)).user_complete()


@handles(BlockJobFinalize)
async def block_job_finalize(engine: EmbeddedEngine, request: BlockJobFinalize) -> None:
    await _finalize(await _block_job(engine, request.id))


@handles(BlockJobDismiss)
async def block_job_dismiss(engine: EmbeddedEngine, request: BlockJobDismiss) -> None:
    await engine.job_table.dismiss(await _block_job(engine, request.id))


# Verbs on all jobs


@handles(JobPause)
async def job_pause(engine: EmbeddedEngine, request: JobPause) -> None:
    (await _job(engine, request.id)).user_pause()


@handles(JobResume)
async def job_resume(engine: EmbeddedEngine, request: JobResume) -> None:
    (await _job(engine, request.id)).user_resume()


@handles(JobCancel)
async def job_cancel(engine: EmbeddedEngine, request: JobCancel) -> None:
    (await _job(engine, request.id)).user_cancel(force=True)


@handles(JobComplete)
async def job_complete(engine: EmbeddedEngine, request: JobComplete) -> None:
    (await _job(engine, request.id)).user_complete()


@handles(JobFinalize)
async def job_finalize(engine: EmbeddedEngine, request: JobFinalize) -> None:
    await _finalize(await _job(engine, request.id))


@handles(JobDismiss)
async def job_dismiss(engine: EmbeddedEngine, request: JobDismiss) -> None:
    await engine.job_table.dismiss(await _job(engine, request.id))
