"""What children that are to be killed say, and what that promises.

With BLKMON_KILLS=N in the environment each of these tests kills N times (docs/jobs.md).
"""

from __future__ import annotations

import os


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
        self._byte = 0

    def hear(self, line: str) -> None:
        match line.split():
            case ["begin", offset, length, byte]:
                self.open_write = int(offset), int(length)
                self._byte = int(byte)
            case ["done"]:
                assert self.open_write
                at, length = self.open_write
                self.disk[at : at + length] = bytes([self._byte]) * length
                self.open_write = None
            case ["at", percent]:
                self.percent = int(percent)
            case ["completed"]:
                self.completed = True
            case ["ready"]:
                self.ready = True
            case _:
                raise AssertionError(f"the child said: {line}")
