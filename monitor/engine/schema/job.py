"""Requests on jobs and what they answer."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, UnsetType

from monitor.engine.schema.base import Names, QInt, Request, Result

JobType = Literal[
    "commit",
    "stream",
    "mirror",
    "backup",
    "create",
    "amend",
    "snapshot-load",
    "snapshot-save",
    "snapshot-delete",
]
JobStatus = Literal[
    "undefined",
    "created",
    "running",
    "paused",
    "ready",
    "standby",
    "waiting",
    "pending",
    "aborting",
    "concluded",
    "null",
]
IoStatus = Literal["ok", "failed", "nospace"]

PausableJob = Annotated[str, Names("job", "pause"), "the job"]
ResumableJob = Annotated[str, Names("job", "resume"), "the job"]
CancellableJob = Annotated[str, Names("job", "cancel"), "the job"]
CompletableJob = Annotated[str, Names("job", "complete"), "the job"]
FinalizableJob = Annotated[str, Names("job", "finalize"), "the job"]
DismissableJob = Annotated[str, Names("job", "dismiss"), "the job"]
PausableBlockJob = Annotated[str, Names("job", "block-pause"), "the job"]
ResumableBlockJob = Annotated[str, Names("job", "block-resume"), "the job"]
CancellableBlockJob = Annotated[str, Names("job", "block-cancel"), "the job"]
CompletableBlockJob = Annotated[str, Names("job", "block-complete"), "the job"]
FinalizableBlockJob = Annotated[str, Names("job", "block-finalize"), "the job"]
DismissableBlockJob = Annotated[str, Names("job", "block-dismiss"), "the job"]
SpeedJob = Annotated[str, Names("job", "block-set-speed"), "the job"]


class JobInfo(Result, kw_only=True):
    """``query-jobs``; progress is in the job's own unit."""

    id: str
    type: JobType
    status: JobStatus
    current_progress: int
    total_progress: int
    error: str | UnsetType = UNSET


class BlockJobInfo(Result, kw_only=True):
    """``query-block-jobs``; lengths are bytes, speed bytes a second."""

    type: str
    device: str
    len: int
    offset: int
    busy: bool
    paused: bool
    speed: int
    io_status: IoStatus
    ready: bool
    status: JobStatus
    auto_finalize: bool
    auto_dismiss: bool
    error: str | UnsetType = UNSET


class QueryJobs(Request, kw_only=True, tag="query-jobs"):
    """All background jobs."""

    returns = list[JobInfo]


class QueryBlockJobs(Request, kw_only=True, tag="query-block-jobs"):
    """Background jobs that work on a drive or node."""

    returns = list[BlockJobInfo]


class BlockJobSetSpeed(Request, kw_only=True, tag="block-job-set-speed"):
    """Limit a job's speed."""

    device: SpeedJob
    speed: Annotated[QInt, "bytes a second, 0 for no limit"]

    example = "block-job-set-speed device=s0 speed=1048576"


class BlockJobCancel(Request, kw_only=True, tag="block-job-cancel"):
    """Stop a job; one that is ready ends well, and is not put to use, unless it is forced."""

    device: CancellableBlockJob
    force: Annotated[bool, "even while it is paused"] | UnsetType = UNSET

    example = "block-job-cancel device=s0"


class BlockJobPause(Request, kw_only=True, tag="block-job-pause"):
    """Pause a job."""

    device: PausableBlockJob


class BlockJobResume(Request, kw_only=True, tag="block-job-resume"):
    """Let a paused job go on."""

    device: ResumableBlockJob


class BlockJobComplete(Request, kw_only=True, tag="block-job-complete"):
    """Finish a job that is ready."""

    device: CompletableBlockJob


class BlockJobFinalize(Request, kw_only=True, tag="block-job-finalize"):
    """Let a pending job make its last changes."""

    id: FinalizableBlockJob


class BlockJobDismiss(Request, kw_only=True, tag="block-job-dismiss"):
    """Forget a concluded job."""

    id: DismissableBlockJob


class JobPause(Request, kw_only=True, tag="job-pause"):
    """Pause a job."""

    id: PausableJob


class JobResume(Request, kw_only=True, tag="job-resume"):
    """Let a paused job go on."""

    id: ResumableJob


class JobCancel(Request, kw_only=True, tag="job-cancel"):
    """Cancel a job, at once and for good."""

    id: CancellableJob


class JobComplete(Request, kw_only=True, tag="job-complete"):
    """Finish a job that is ready."""

    id: CompletableJob


class JobFinalize(Request, kw_only=True, tag="job-finalize"):
    """Let a pending job make its last changes."""

    id: FinalizableJob


class JobDismiss(Request, kw_only=True, tag="job-dismiss"):
    """Forget a concluded job."""

    id: DismissableJob
