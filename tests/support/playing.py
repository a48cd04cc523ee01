"""A conversation with an engine in this process, while guests write; QEMU's daemon has it after."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from pathlib import Path
from typing import Any

from monitor.engine.api import JobSnapshot
from monitor.engine.errors import RequestError
from tests.support import tools
from tests.support.bench import Bench
from tests.support.guests import MIB, Guests
from tests.support.qmp_cases.words import Requests, do, wait
from tests.support.side_by_side import QSD, converse

SPEEDS = (256 << 10, MIB, 8 * MIB, 64 * MIB)


class Played(Bench):
    """Keeps what is asked of it. Jobs are called ``j``; they begin slowly, and are disturbed."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.requests: Requests = []
        self.guests: Guests
        self._guests_copy = False
        """Whether the job gets on by the hands of guests too."""
        self._chance = random.Random(seed)

    async def ask(self, request: dict[str, Any], **ours: Any) -> Any:
        """``ours``: arguments that are for us alone."""
        self.requests.append(request)
        arguments = {**request["arguments"], **ours}
        return await self.do(request["execute"], **arguments)

    async def begin(self, request: dict[str, Any]) -> int:
        """How many writes there had been when the job had begun."""
        blocking = request["arguments"].get("copy-mode") == "write-blocking"
        self._guests_copy = blocking or request["execute"].endswith("backup")
        await self.ask(request, speed=MIB)
        begun = len(self.guests.written)
        await self.disturbed()
        assert len(self.guests.written) > begun
        return begun

    async def until(self, status: str) -> None:
        """At full speed."""
        self.requests.append(wait("j", status))
        with contextlib.suppress(RequestError):  # it is over
            await self.do("block-job-set-speed", device="j", speed=0)
        if status == "null":
            await self.ended()
            assert "error" not in self.named("BLOCK_JOB_COMPLETED")[-1]
            return
        snapshot = await self.engine.job_ended("j")
        assert snapshot.status == status, snapshot

    async def cancelled(self) -> None:
        """Wherever it is; it is not to finalize itself."""
        await self.ask(do("job-cancel", id="j"))
        self.requests.append(wait("j", "null"))
        await self.ended()

    async def disturbed(self) -> None:
        """Pauses, in which nothing gets on while guests write, and other speeds."""
        for _ in range(self._chance.randrange(1, 4)):
            with contextlib.suppress(RequestError):  # it is over
                await self.do("block-job-pause", device="j")
            before = await self._stands()
            if before is None:
                return
            await self.guests.busy()
            (now,) = self.engine.jobs()
            assert now.current == before.current or self._guests_copy
            await self.do("block-job-set-speed", device="j", speed=self._chance.choice(SPEEDS))
            await self.do("block-job-resume", device="j")
            await self.guests.busy()

    async def _stands(self) -> JobSnapshot | None:
        """Waits until the job stands still; None when its run is over instead."""
        while (jobs := self.engine.jobs()) and jobs[0].status in ("running", "ready"):
            await asyncio.sleep(0)
        return jobs[0] if jobs and jobs[0].status in ("paused", "standby") else None

    def as_qemu(self, folder: Path, theirs: Path) -> None:
        """QEMU's daemon, asked the same in ``theirs``, leaves the same chains."""
        session = converse(QSD, theirs, self.requests)
        refused = [reply for _, reply in session.exchanges if "error" in reply]
        assert not refused, refused
        for path in sorted(theirs.iterdir()):
            if path.is_file() and path.name not in ("pid", "model"):
                assert chain(folder / path.name) == chain(path), path.name


def chain(image: Path) -> list[dict[str, Any]]:
    """All that qemu-img tells of an image and what is below it, but for sizes on the host."""
    said = tools.run("qemu-img", "info", "-U", "--backing-chain", "--output=json", image)
    found: list[dict[str, Any]] = json.loads(said.replace(str(image.parent), "."))
    for layer in found:
        layer.pop("actual-size")
    return found
