"""Chains in memory, and block-stream on them."""

from __future__ import annotations

from typing import Any

import pytest

from monitor.engine import permissions
from monitor.engine.api import JobSnapshot
from monitor.engine.errors import RequestError
from monitor.engine.graph.client import Client
from monitor.engine.graph.drive import Drive
from monitor.engine.graph.node import Node
from monitor.engine.jobs.job import Job
from monitor.engine.schema.stream import BlockStream
from tests.support.graphs import shape
from tests.support.in_memory import MIB, MemoryBench
from tests.support.layers import layer, put


class Bench(MemoryBench):
    """Chains, their streams, and guests on them."""

    def layer(self, name: str, size: int = MIB, below: Node | None = None, **kind: Any) -> Node:
        return layer(self.graph, name, size, below, **kind)

    def chain(self, size: int = MIB) -> tuple[Node, Node, Node]:
        """base <- mid <- top, with something in each."""
        base = self.layer("base", size)
        put(base, 0, b"b" * (size // 2))
        mid = self.layer("mid", size, base)
        put(mid, size // 4, b"m" * (size // 2))
        top = self.layer("top", size, mid)
        put(top, size // 2, b"t" * (size // 8))
        return base, mid, top

    async def stream(self, device: str = "top", job_id: str = "s0", **options: Any) -> Job:
        await self.engine.execute(BlockStream(job_id=job_id, device=device, **options))
        job = self.engine.job_table.find(job_id)
        assert job
        return job

    async def streamed(self, device: str = "top", **options: Any) -> JobSnapshot:
        """Streams and waits for the end."""
        await self.stream(device, **options)
        return await self.engine.job_ended("s0")

    def statuses(self) -> list[str]:
        return [data["status"] for name, data in self.events if name == "JOB_STATUS_CHANGE"]

    def guest(self, node: Node) -> Client:
        drive = Drive("guest")
        taken = permissions.CONSISTENT_READ | permissions.WRITE
        self.graph.add_client(drive, node, taken, permissions.ALL)
        return drive

    async def refused(self, **options: Any) -> str:
        before, told = shape(self.graph), list(self.events)
        with pytest.raises(RequestError) as refusal:
            await self.stream(**options)
        assert shape(self.graph) == before
        assert self.engine.jobs() == [] or self.events == told
        return refusal.value.text
