"""How a block job begins that takes hold of its nodes by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from monitor.engine.graph.node import Node
from monitor.engine.graph.transaction import Transaction
from monitor.engine.jobs.block import BlockJob, JobSettings
from monitor.engine.jobs.manager import Jobs

J = TypeVar("J", bound=BlockJob)


class Beginning:
    """What the steps of a job's beginning have: ``edits`` of the graph, and the job once made."""

    def __init__(self, table: Jobs, edits: Transaction) -> None:
        self.table = table
        self.edits = edits
        self.job: BlockJob | None = None

    def make(self, kind: type[J], settings: JobSettings) -> J:
        """A new job in the table. Raises RequestError for its id and its speed."""
        self.table.check_id(settings.job_id)
        self.job = job = self.table.add(kind(settings, self.table.graph, self.table.clock))
        job.set_speed(settings.speed)
        return job


@asynccontextmanager
async def beginning(table: Jobs, *nodes: Node) -> AsyncIterator[Beginning]:
    """A section in which a job is made and its edits of the graph: with ``nodes`` drained, all of
    it or nothing. The caller has the turn; it admits, blocks and starts after it."""
    begun = None
    try:
        async with table.graph.drained(*nodes):
            with Transaction() as edits:
                begun = Beginning(table, edits)
                yield begun
                table.graph.commit(edits)
    except BaseException:
        if begun is not None and begun.job is not None:
            await table.discard(begun.job)
        raise
