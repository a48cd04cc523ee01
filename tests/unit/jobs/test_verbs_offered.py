"""A verb is offered for a job exactly when it would be taken: each verb, in both languages and as a
person types it, in each state that a job stays in."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import RequestError
from monitor.language.completion import Candidate, suggest
from monitor.language.parser import parse_line
from tests.support.commands import FakeSession

NODES = [
    f"blockdev-add driver=null-co node-name={name} size=4194304"
    for name in ("n0", "t0", "n1", "t1")
]
MIRROR = "blockdev-mirror job-id=j device=n0 target=t0 sync=full auto-finalize=false"
BACKUP = "blockdev-backup job-id=j device=n0 target=t0 sync=full auto-dismiss=false"
GROUP = (
    "transaction --grouped(\nblockdev-backup job-id=j device=n0 target=t0 sync=full\n"
    "blockdev-backup job-id=k device=n1 target=t1 sync=full speed=1\n)"
)
CREATE = (
    "blockdev-create job-id=j options.driver=file options.size=1M options.filename={folder}/a.img"
)

# state -> the lines that lead there, and the status that each comes to
STATES = {
    "running": [(f"{MIRROR} speed=1", "running")],
    "paused": [(f"{MIRROR} speed=1", "running"), ("job-pause id=j", "paused")],
    "ready": [(MIRROR, "ready")],
    "standby": [(MIRROR, "ready"), ("job-pause id=j", "standby")],
    "waiting": [(GROUP, "waiting")],
    "pending": [(f"{BACKUP} auto-finalize=false", "pending")],
    "concluded": [(BACKUP, "concluded")],
    "concluded, and no block job": [(CREATE, "concluded")],
}

VERBS = {
    "block_job_cancel -f ": "",
    "block_job_complete ": "",
    "block_job_pause ": "",
    "block_job_resume ": "",
    "block_job_set_speed ": " 1M",
    "block-job-cancel force=true device=": "",
    "block-job-complete device=": "",
    "block-job-pause device=": "",
    "block-job-resume device=": "",
    "block-job-set-speed device=": " speed=1M",
    "block-job-finalize id=": "",
    "block-job-dismiss id=": "",
    "job-cancel id=": "",
    "job-complete id=": "",
    "job-pause id=": "",
    "job-resume id=": "",
    "job-finalize id=": "",
    "job-dismiss id=": "",
}
"""What stands before the job, and after it."""


async def carry_out(engine: EmbeddedEngine, line: str) -> None:
    invocation = parse_line(line)
    assert invocation is not None
    if invocation.request is not None:
        await engine.execute(invocation.request)
    else:
        assert invocation.command is not None
        session: Any = FakeSession(engine)  # type: ignore[arg-type]
        await invocation.command.handler(session, **invocation.arguments)


class Reached:
    """Waits until job j has come to a status."""

    def __init__(self, engine: EmbeddedEngine) -> None:
        self._engine = engine
        self._moved = asyncio.Event()
        engine.subscribe(lambda event: self._moved.set())

    async def status(self, wanted: str) -> None:
        while [job.status for job in self._engine.jobs() if job.id == "j"] != [wanted]:
            self._moved.clear()
            await self._moved.wait()


@pytest.mark.parametrize("state", STATES)
def test_offered_where_it_is_taken(state: str, tmp_path: object) -> None:
    async def once(before: str, after: str) -> tuple[bool, bool]:
        engine = EmbeddedEngine()
        reached = Reached(engine)
        try:
            for line in NODES:
                await carry_out(engine, line)
            for line, status in STATES[state]:
                await carry_out(engine, line.format(folder=tmp_path) if line == CREATE else line)
                await reached.status(status)
            found = [each for each in suggest(before, engine) if isinstance(each, Candidate)]
            offered = "j" in [each.text.rpartition("=")[2] for each in found]
            try:
                await carry_out(engine, f"{before}j{after}")
            except RequestError:
                return offered, False
            return offered, True
        finally:
            await engine.shut_down()

    async def main() -> None:
        async with asyncio.timeout(60):
            differing = {
                before: answers
                for before, after in VERBS.items()
                if len(set(answers := await once(before, after))) > 1
            }
        assert differing == {}, "(offered, taken)"

    asyncio.run(main())
