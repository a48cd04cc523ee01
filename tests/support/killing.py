"""Processes that are to be killed: what they say, what that promises, and what they leave.

With BLKMON_KILLS=N in the environment each of these tests kills N times (docs/jobs.md).
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from tests.support.bench import Bench
from tests.support.served import Served


def kills(usually: int) -> int:
    """How often a test kills."""
    return int(os.environ.get("BLKMON_KILLS", usually))


class Killed:
    """What a child had promised when it was killed."""

    def __init__(self, disk: bytes) -> None:
        self.disk = bytearray(disk)
        self.open_write: tuple[int, int] | None = None
        self.percent = 0
        self.completed = False
        self.ready = False
        self.said: list[str] = []
        """All of it, for whoever asks what went wrong."""
        self._byte = 0

    def hear(self, line: str) -> None:
        self.said.append(line.strip())
        match line.split():
            case ["begin", offset, length, byte]:
                self.open_write = int(offset), int(length)
                self._byte = int(byte)
            case ["done"]:
                assert self.open_write
                start, size = self.open_write
                self.disk[start : start + size] = bytes([self._byte]) * size
                self.open_write = None
            case ["at", percent]:
                self.percent = int(percent)
            case ["completed"]:
                self.completed = True
            case ["ready"]:
                self.ready = True
            case _:
                raise AssertionError(f"the child said: {line}")


class Victim(Served):
    """A QMP session of ours that is killed at the end of the block, if not before."""

    def do(self, command: str, **arguments: Any) -> Any:
        """Arguments with underscores for dashes. What is returned."""
        names = {name.replace("_", "-"): value for name, value in arguments.items()}
        reply = super().do(command, **names)
        assert not (isinstance(reply, dict) and "error" in reply), reply
        return reply

    def until(self, event: str) -> None:
        """Until it tells of ``event`` (an error of a job is none of what is waited for)."""
        assert "error" not in self.wait(event)["data"]

    def until_done(self, amount: int) -> bool:
        """Until its one job has done ``amount`` bytes; False when it is over before."""
        while jobs := self.do("query-jobs"):
            if sum(job["current-progress"] for job in jobs) >= amount:
                return True
        return False

    def __enter__(self) -> Victim:
        return self

    def __exit__(self, *reason: object) -> None:
        self.kill()


async def told_of(image: Path) -> list[str]:
    """What is told when a qcow2 image is opened."""
    bench = Bench()
    await bench.open(image, "qcow2")
    await bench.engine.shut_down()
    return [data["text"] for data in bench.named("X_BLKMON_NOTE")]


def notes_on(image: Path) -> list[str]:
    """The same, where no loop runs."""
    return asyncio.run(told_of(image))


def is_qcow2(image: Path) -> bool:
    """Whether there is an image at all: its header comes last when it is made."""
    return image.exists() and image.read_bytes()[:4] == b"QFI\xfb"
