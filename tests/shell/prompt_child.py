"""The prompt on an engine without disks, for tests to look at: run as a program on a terminal.

``fake ACTION JOB…`` moves the fake engine's jobs.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any, cast

from monitor.commands.registry import Session, command
from monitor.options import Options
from monitor.shell.repl import run_prompt
from tests.support.fake_engine import MIB, FakeEngine, job


@command("fake", "action:s,words:s*", help="move the fake engine", hmp=False)
async def fake(session: Session, action: str, words: list[str]) -> None:
    engine = cast(FakeEngine, session.engine)
    name = words[0] if words else "s0"
    match action:
        case "start":
            for word in words:
                engine.start(job(word))
        case "advance":
            engine.advance(name, -(int(words[1]) * -64 * MIB // 100), 10.0 * MIB)
        case "ready":
            engine.move(name, "ready", verbs=frozenset({"cancel", "complete"}))
        case "end":
            engine.end(name)
        case "fail":
            engine.end(name, error="No space left on device")
        case "storm":
            cast(Any, engine).storm = asyncio.create_task(_storm(engine, int(words[0])))
        case "hang":
            await asyncio.Event().wait()
        case "later":
            asyncio.get_running_loop().call_later(float(words[1]), engine.end, name)
        case "print":
            print("from print", file=sys.stderr)
        case "stuck":
            # A disk that does not answer when everything is closed.
            engine.disk = asyncio.Event()
        case "spoil":
            # From now on drawing fails, as a mistake in the toolbar would make it fail.
            cast(Any, session)._screen.jobs.rows = lambda *_: 1 // 0
            engine.start(job(name))
        case "bug":
            raise ZeroDivisionError("a bug")


async def _storm(engine: FakeEngine, count: int) -> None:
    """A thousand events a second."""
    loop = asyncio.get_running_loop()
    begin = loop.time()
    for number in range(count):
        await asyncio.sleep(max(0.0, begin + number / 1000 - loop.time()))
        engine.emit("X_BLKMON_NODE_DROPPED", node_name=f"n{number}")


async def _main() -> int:
    engine = FakeEngine()
    status = await run_prompt(engine, Options())
    if os.isatty(1):  # the window is still there
        print("shut down" if engine.was_shut_down else "NOT SHUT DOWN")
    return status


if __name__ == "__main__":
    sys.exit(asyncio.run(_main()))
