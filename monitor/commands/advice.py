"""What to type instead, where an error is about a job: the hint below a refusal.

It goes by the error's text, as ``language.hints`` does, and by what the engine's jobs do now. For
people only: nothing here reaches QMP.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from monitor.commands.outcomes import outcomes_of
from monitor.engine.api import Engine, JobSnapshot
from monitor.engine.errors import MonitorError


def advice(error: MonitorError, engine: Engine) -> str | None:
    """The hint for a refusal of a job's verb, or of what a job keeps busy; None for others."""
    for pattern, hint in _HINTS:
        match = pattern.search(error.text)
        if match is not None:
            return hint(match, engine, getattr(error, "job", None))
    return None


_Hint = Callable[["re.Match[str]", Engine, str | None], str | None]


def _refused_verb(match: re.Match[str], engine: Engine, _: str | None) -> str | None:
    job, status, verb = match.groups()
    if status == "concluded":
        return f"it has ended: job-dismiss id={job} forgets it"
    snapshot = next((each for each in engine.jobs() if each.id == job), None)
    if snapshot is not None and snapshot.takes("resume"):  # neither wait nor a mere cancel would do
        resume = f"block_job_resume {job}" if snapshot.block else f"job-resume id={job}"
        return f"{resume} lets it go on"
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
    return f"it is not pending: wait {job} waits for that" if verb == "finalize" else None


def _too_early(job: JobSnapshot | None) -> str | None:
    """A mirror and the commit of an active layer become ready, other jobs never do."""
    if job is None:
        return None
    if job.type in ("mirror", "commit"):
        return f"it is not ready yet: wait {job.id} waits for that"
    return f"a {job.type} job ends by itself: wait {job.id} waits for that"


def _busy(match: re.Match[str], engine: Engine, _: str | None) -> str | None:
    jobs = [job.id for job in engine.jobs() if job.type == match["type"]]
    if len(jobs) != 1:
        return "info jobs shows them" if jobs else None
    return f"that is job '{jobs[0]}': wait {jobs[0]}, or block_job_cancel {jobs[0]}"


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


_HINTS: tuple[tuple[re.Pattern[str], _Hint], ...] = (
    (
        re.compile(r"Job '([^']+)' in state '([^']+)' cannot accept command verb '([^']+)'"),
        _refused_verb,
    ),
    (re.compile(r"in use by block job: (?P<type>\S+)$"), _busy),
    (re.compile(r"^(?:Block job '(?P<job>[^']+)'|Job) not found$"), _not_found),
    (re.compile(r"^Job is already paused$"), _is_paused),
    (
        re.compile(r"^The block job for device '(?P<job>[^']+)' is currently paused$"),
        lambda match, *_: f"block_job_cancel -f {match['job']} cancels it all the same",
    ),
    (
        re.compile(r"\nCould not open backing image\.$"),
        lambda *_: (
            "the name of a backing file counts from the new image's folder; -f makes an "
            "image without one"
        ),
    ),
)
