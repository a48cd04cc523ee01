"""A disk in memory that a guest writes to, and blockdev-backup of it."""

from __future__ import annotations

import random
from typing import Any, Final

from monitor.engine import permissions
from monitor.engine.api import JobSnapshot
from monitor.engine.drivers.blockcopy import UNIT
from monitor.engine.drivers.memory import MemoryDriver
from monitor.engine.graph.drive import Drive
from monitor.engine.graph.node import Node
from monitor.engine.schema.backup import BlockdevBackup
from tests.support.graphs import add
from tests.support.in_memory import MemoryBench

SIZE: Final = 40 * UNIT + 512
"""Not a whole number of units."""


class Bench(MemoryBench):
    """A source that a guest writes to, and a target."""

    def __init__(self, size: int = SIZE) -> None:
        super().__init__()
        chance = random.Random(1)
        self.source = add(self.graph, "source", MemoryDriver(data=chance.randbytes(size)))
        self.target = add(self.graph, "target", MemoryDriver(size))
        self.drive = Drive("guest")
        taken = permissions.CONSISTENT_READ | permissions.WRITE
        self.graph.add_client(self.drive, self.source, taken, permissions.ALL)
        self.graph.drives["guest"] = self.drive
        self.lane = self.drive.lane()

    def request(self, **options: Any) -> BlockdevBackup:
        given = {"job_id": "b0", "device": "source", "target": "target", "sync": "full", **options}
        return BlockdevBackup(**given)

    async def begin(self, **options: Any) -> None:
        await self.engine.execute(self.request(**options))

    async def backed_up(self, **options: Any) -> JobSnapshot:
        await self.begin(**options)
        return await self.engine.job_ended(options.get("job_id", "b0"))

    async def over(self) -> None:
        """The job may be gone by now."""
        if (job := self.engine.job_table.find("b0")) is not None:
            await job.settled()

    def write(self, offset: int, data: bytes) -> None:
        with self.lane:
            self.drive.roots[0].write(memoryview(data), offset)

    async def write_in_thread(self, offset: int, data: bytes) -> None:
        await self.graph.in_lane_worker(self.write, offset, data)

    def bitmap(self, name: str = "m") -> Any:
        return self.source.bitmaps.get(name)

    def dirty(self, name: str = "m") -> list[tuple[int, int]]:
        return list(self.bitmap(name).areas())


def memory(node: Node) -> MemoryDriver:
    assert isinstance(node.driver, MemoryDriver)
    return node.driver


def contents(node: Node) -> bytes:
    return memory(node).contents()
