"""An engine with a drive, and requests to it in short."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from monitor.engine import permissions
from monitor.engine.api import JobSnapshot
from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.graph.drive import Drive
from monitor.engine.graph.node import Node
from monitor.engine.schema.base import request_types
from monitor.engine.schema.decode import decode
from tests.support.guests import MIB


class Bench:
    """An engine with a drive d0 on a disk, and its events."""

    def __init__(self) -> None:
        self.engine = EmbeddedEngine()
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.engine.subscribe(lambda event: self.events.append((event.name, dict(event.data))))

    async def do(self, command: str, **arguments: Any) -> Any:
        values = {name.replace("_", "-"): value for name, value in arguments.items()}
        return await self.engine.execute(decode(request_types()[command], values))

    async def open(self, disk: Path, fmt: str, **options: Any) -> None:
        options = {"file": {"driver": "file", "filename": str(disk)}, **options}
        await self.do("blockdev-add", node_name="disk", driver=fmt, **options)
        self.use("disk")

    def use(self, node: str) -> None:
        """The drive is on this node."""
        graph = self.engine.graph
        self.drive = graph.drives["d0"] = Drive("d0")
        taken = permissions.CONSISTENT_READ | permissions.WRITE
        graph.add_client(self.drive, graph.nodes[node], taken, permissions.ALL)

    async def ready(self, job: str = "j") -> JobSnapshot:
        """With pauses and changes of speed on the way."""
        for command, options in (
            ("block-job-pause", {}),
            ("block-job-set-speed", {"speed": 64 * MIB}),
            ("block-job-resume", {}),
            ("block-job-set-speed", {"speed": 0}),
        ):
            await self.do(command, device=job, **options)
        return await self.engine.job_ended(job)

    async def ended(self, job: str = "j") -> None:
        """Waits until the job, which is to dismiss itself, is gone."""
        while any(snapshot.id == job for snapshot in self.engine.jobs()):
            await self.engine.job_ended(job)
            await asyncio.sleep(0)

    def named(self, name: str) -> list[dict[str, Any]]:
        """What the events of this name told."""
        return [data for event, data in self.events if event == name]

    def nodes(self) -> list[Node]:
        return list(self.engine.graph.nodes.values())
