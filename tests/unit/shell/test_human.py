"""``human-monitor-command``: QEMU's words and nothing beside them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from monitor.engine.schema.base import Request
from monitor.engine.schema.job import BlockJobCancel
from monitor.shell.human import HumanLines
from tests.support.fake_engine import FakeEngine, job


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("block_job_cancel strem0", "Error: Block job 'strem0' not found"),
        ("help block_strea", "unknown command: 'block_strea'"),
        (
            "info blok",
            "unknown command: 'info blok'",
        ),
    ],
)
def test_nobody_is_asked_what_they_meant(line: str, text: str) -> None:
    async def main() -> str:
        engine = FakeEngine()
        engine.start(job("stream0"))
        return await HumanLines(engine, lambda: None)(line)

    assert asyncio.run(main()) == f"{text}\r\n"


class WarningEngine(FakeEngine):
    """Pausing warns; cancelling waits until something has been paused."""

    def __init__(self) -> None:
        super().__init__()
        self.cancelling, self.paused = asyncio.Event(), asyncio.Event()

    async def execute(self, request: Request) -> Any:
        if isinstance(request, BlockJobCancel):
            self.cancelling.set()
            await self.paused.wait()
        else:
            self.emit("X_BLKMON_NOTE", text="warning: mind the gap")
            self.paused.set()


def test_a_warning_is_told_to_whose_line_it_is() -> None:
    async def main() -> list[str]:
        engine = WarningEngine()
        engine.start(job("s0"))
        first = asyncio.create_task(HumanLines(engine, lambda: None)("block_job_cancel s0"))
        await asyncio.wait_for(engine.cancelling.wait(), 10)
        second = asyncio.create_task(HumanLines(engine, lambda: None)("block_job_pause s0"))
        return await asyncio.wait_for(asyncio.gather(first, second), 10)

    assert asyncio.run(main()) == ["", "warning: mind the gap\r\n"]
