"""Refusals about jobs; texts of QEMU 7.2."""

from __future__ import annotations

from monitor.engine.errors import RequestError


class JobNotFound(RequestError):
    """As the ``job-*`` commands say it; the ``block-job-*`` commands raise JobNotActive."""

    template = "Job not found"
    job: str


class InvalidJobId(RequestError):
    template = "Invalid job ID '{job}'"
    job: str


class JobIdInUse(RequestError):
    template = "Job ID '{job}' already in use"
    job: str


class JobAlreadyPaused(RequestError):
    template = "Job is already paused"
    job: str


class JobNotPaused(RequestError):
    template = "Can't resume a job that was not paused"
    job: str


class JobPaused(RequestError):
    """A cancel without force is not for paused jobs."""

    template = "The block job for device '{job}' is currently paused"
    job: str


class CannotComplete(RequestError):
    template = "The active block job '{job}' cannot be completed"
    job: str


class SizesDiffer(RequestError):
    template = "Source and target image have different sizes"


class FilterNotCreated(RequestError):
    template = "Could not create node: {reason}"
    reason: str
