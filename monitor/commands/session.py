"""Commands on the session itself: ``source``, ``echo``, ``record``, ``quit``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitor.commands.registry import Session, command

if TYPE_CHECKING:
    from monitor.engine.api import JobSnapshot

ENDED = frozenset({"concluded", "null", "aborting"})
"""Statuses of jobs that nothing can be lost of any more."""


@command(
    "source",
    "file:F",
    help="run the commands of a file",
    params="filename",
    hmp=False,
    details="The whole file is parsed first: with a mistake anywhere in it nothing runs.",
    example="source setup.blkmon",
)
async def source(session: Session, file: str) -> None:
    await session.run_file(file)


@command(
    "echo",
    "text:S?",
    help="print a line",
    params="[text]",
    hmp=False,
    example="echo chain is ready",
)
async def echo(session: Session, text: str | None) -> None:
    session.print(text or "")


@command(
    "record",
    "file:F(stop)",
    help="record the session as a transcript",
    params="filename|stop",
    hmp=False,
    details="What is typed and printed from the next command on is written to the file, which\n"
    "`blkmon --replay` runs again and compares. `record stop` ends that. Meanwhile jobs go on\n"
    "in `wait` and `step` only, so that they have done the same when it is replayed.",
    example="record story.transcript\nrecord stop",
)
async def record(session: Session, file: str) -> None:
    session.record(None if file == "stop" else file)


@command(
    "quit",
    help="quit the emulator",
    aliases=("q",),
    details="Cancels jobs, writes everything back and ends. On a terminal it asks first when jobs\n"
    "run, and says which copies are ready to be used.",
    example="quit",
)
async def quit_(session: Session) -> None:
    if await may_quit(session):
        session.request_quit()


async def may_quit(session: Session) -> bool:
    """Whether the session may end now: the person is asked when jobs would be cancelled."""
    running = [job for job in session.engine.jobs() if job.status not in ENDED]
    if not (running and session.interactive):
        return True
    what = f"job '{running[0].id}'" if len(running) == 1 else f"{len(running)} jobs"
    return await session.ask(f"{_ready(running)}Cancel {what} and quit?")


def _ready(running: list[JobSnapshot]) -> str:
    """What a person may have forgotten: copies that are whole, and that nothing uses yet."""
    ready = [job.id for job in running if job.status == "ready"]
    if not ready:
        return ""
    if len(ready) == 1:
        return f"Job '{ready[0]}' is ready: block_job_complete {ready[0]} would use its copy. "
    return f"{len(ready)} jobs are ready: block_job_complete would use their copies. "
