"""``human-monitor-command``: QEMU's words and nothing beside them."""

from __future__ import annotations

import asyncio

import pytest

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
