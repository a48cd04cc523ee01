"""What to type instead, where an error is about a job: the hint below a refusal.

It goes by the error's text, as ``language.hints`` does, and by what the engine's jobs do now. For
people only: nothing here reaches QMP.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from monitor.commands.outcomes import outcomes_of, resuming
from monitor.engine.api import Engine, JobSnapshot
from monitor.engine.errors import MonitorError


def advice(error: MonitorError, engine: Engine) -> str | None:
    """The hint for a refusal of a job's verb, or of what a job keeps busy; None for others."""
    for pattern, hint in _HINTS:
        match = pattern.search(error.text)
        if match is not None:
            said = hint(match, engine, getattr(error, "job", None))
            above = getattr(error, "above", None)
            return f"node '{above}' lies above it" if said is None and above else said
    return None


_Hint = Callable[["re.Match[str]", Engine, str | None], str | None]


def _refused_verb(match: re.Match[str], engine: Engine, _: str | None) -> str | None:
    job, status, verb = match.groups()
    if status == "concluded":
        return f"it has ended: job-dismiss id={job} forgets it"
    snapshot = next((each for each in engine.jobs() if each.id == job), None)
    if snapshot is not None and snapshot.takes("resume"):  # neither wait nor a mere cancel would do
        return f"{resuming(job, snapshot.block)} lets it go on"
    if snapshot is not None and snapshot.endless and status == "running":
        return f"it goes on until it is cancelled: block_job_cancel {job}"
    if status == "pending" and verb != "dismiss":
        return f"job-finalize id={job} lets it finish"
    if verb == "dismiss":
        is_block = snapshot is None or snapshot.block
        cancel = f"block_job_cancel {job}" if is_block else f"job-cancel id={job}"
        return f"it has not ended: wait {job} waits for that, {cancel} stops it"
    if status == "waiting":
        return "it waits for the other jobs of its group: see info jobs"
    if verb == "complete":
        return _too_early(snapshot)
    if verb == "finalize":  # most jobs do that by themselves
        return f"it is not pending: wait {job} waits until it is, or has ended"
    return None


def _too_early(job: JobSnapshot | None) -> str | None:
    """A mirror and the commit of an active layer become ready, other jobs never do."""
    if job is None:
        return None
    if job.type == "mirror":
        return f"it is not ready yet: wait {job.id} waits for that"
    if job.type == "commit":
        return f"it is not ready: wait {job.id} waits until it is, or has ended"
    return f"a {job.type} job ends by itself: wait {job.id} waits for that"


def _busy(match: re.Match[str], engine: Engine, job: str | None) -> str | None:
    """By the job that the error names, or else the only one of the type that it tells."""
    kind = match.groupdict().get("type")
    jobs = [each for each in engine.jobs() if each.id == job or (not job and each.type == kind)]
    if len(jobs) != 1:
        return "info jobs shows them" if jobs else None
    return f"that is job '{jobs[0].id}'{_way_out(jobs[0])}"


def _way_out(job: JobSnapshot) -> str:
    """What ends a job as it stands: ``wait`` fails at once for one that stands still, and returns
    at once for one that waits for a verb; and block_job_cancel is refused there."""
    if job.takes("resume"):
        resume = resuming(job.id, job.block)
        return f", which stands still: {resume} lets it go on, block_job_cancel -f {job.id} ends it"
    if job.status == "pending":
        return f", which is pending: job-finalize id={job.id} lets it finish"
    if job.takes("complete"):
        return f", which is ready: block_job_complete {job.id}, or block_job_cancel {job.id}"
    if job.endless:
        return f", which goes on until it is cancelled: block_job_cancel {job.id}"
    return f": wait {job.id}, or block_job_cancel {job.id}"


def _not_found(match: re.Match[str], engine: Engine, job: str | None) -> str | None:
    name = match["job"] or job
    outcome = outcomes_of(engine).of(name) if name else None
    if any(each.id == name for each in engine.jobs()):
        return "it is no block job: it takes job-cancel and the other job- requests"
    if outcome is None:
        return None
    how = {"completed": "completed", "cancelled": "was cancelled"}
    return f"it has ended: it {how.get(outcome.result) or f'failed: {outcome.error}'}"


def _is_paused(match: re.Match[str], engine: Engine, job: str | None) -> str | None:
    return f"block_job_resume {job} lets it go on" if job else None


def _at_work(_: re.Match[str], engine: Engine, __: str | None) -> str | None:
    return "info jobs shows what may be at work on it" if engine.jobs() else None


def _uncommitted(match: re.Match[str], engine: Engine, _: str | None) -> str | None:
    """A job's filter has no backing image either, as far as ``commit`` can see."""
    if engine.jobs():
        return _at_work(match, engine, None)
    return "it has no backing image to commit into" if "supported" in match[1] else None


_HINTS: tuple[tuple[re.Pattern[str], _Hint], ...] = (
    (
        re.compile(r"Job '([^']+)' in state '([^']+)' cannot accept command verb '([^']+)'"),
        _refused_verb,
    ),
    (re.compile(r"in use by block job: (?P<type>\S+)$"), _busy),
    (
        re.compile(r"^Need a root block node$|^Device '[^']+' is in use$|^Node \S+ is in use$"),
        _busy,
    ),
    (re.compile(r"^Bitmap '[^']+' is currently in use by another operation"), _at_work),
    (re.compile(r"^(?:Block job '(?P<job>[^']+)'|Job) not found$"), _not_found),
    (re.compile(r"^Job is already paused$"), _is_paused),
    (
        re.compile(r"^Invalid job ID ''$"),
        lambda *_: "no drive shows the node, whose name the job would have: job-id= gives it one",
    ),
    (
        re.compile(r"^The block job for device '(?P<job>[^']+)' is currently paused$"),
        lambda match, *_: f"block_job_cancel -f {match['job']} cancels it all the same",
    ),
    (
        re.compile(
            r"\A'commit' error for '[^']+': (Operation not supported|Device or resource busy)\Z"
        ),
        _uncommitted,
    ),
    (
        re.compile(r"\nCould not open backing image\.$"),
        lambda *_: (
            "the name of a backing file counts from the new image's folder; -f makes an "
            "image without one"
        ),
    ),
)
