"""Creating an image in the background."""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitor.engine import permissions
from monitor.engine.clock import Clock
from monitor.engine.graph.client import Client
from monitor.engine.graph.graph import Graph
from monitor.engine.graph.opening import Opening
from monitor.engine.images import make_file, qcow2_options
from monitor.engine.jobs.job import Job
from monitor.engine.jobs.laned import LanedChild
from monitor.engine.schema.blockdev import (
    BlockdevCreateOptionsFile,
    BlockdevCreateOptionsQcow2,
)

if TYPE_CHECKING:
    from monitor.engine.drivers.qcow2.create import CreateOptions


class CreateJob(Job):
    """``blockdev-create``. One step of progress; what goes wrong is the job's error."""

    type = "create"

    def __init__(
        self,
        job_id: str,
        graph: Graph,
        clock: Clock,
        options: BlockdevCreateOptionsFile | BlockdevCreateOptionsQcow2,
    ) -> None:
        super().__init__(job_id, clock, graph.emit, auto_dismiss=False)
        self._graph = graph
        self._options = options

    def run(self) -> None:
        self.progress.set_remaining(1)
        try:
            if isinstance(self._options, BlockdevCreateOptionsFile):
                make_file(self._options)
            else:
                settled = qcow2_options(self._options)
                self.ask_loop(self._format(self._options, settled))
        finally:
            self.progress.advance(1)

    async def _format(self, wanted: BlockdevCreateOptionsQcow2, settled: CreateOptions) -> None:
        """Opens the file, if it is not a node yet, and formats it. The turn is not kept while the
        formatting goes on: it may take long, and the file's permissions protect it."""
        graph, client = self._graph, Client()
        opening = Opening(graph)
        try:
            async with graph.turn:
                if isinstance(wanted.file, str):
                    node = graph.find(wanted.file)
                else:
                    node = await opening.open(wanted.file)
                await graph.make_ready(node, permissions.WRITE | permissions.RESIZE)
                root = graph.add_client(
                    client, node, permissions.WRITE | permissions.RESIZE, permissions.ALL
                )
                root.beyond_end = True
            await graph.in_worker(_create_qcow2, LanedChild(root), settled)
        finally:
            async with graph.turn, opening:
                await graph.remove_client(client)


def _create_qcow2(file: LanedChild, settled: CreateOptions) -> None:
    from monitor.engine.drivers.qcow2.create import create_image

    with file:
        create_image(file, settled)
