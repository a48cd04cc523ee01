"""Jobs whose work is in the hands of the test."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from monitor.engine.clock import ManualClock
from monitor.engine.graph.graph import Graph
from monitor.engine.graph.node import Node
from monitor.engine.graph.transaction import Transaction
from monitor.engine.jobs.block import BlockJob, JobSettings
from monitor.engine.jobs.manager import Jobs
from monitor.engine.jobs.state import Status
from tests.support.graphs import Events


class Toy(BlockJob):
    """Does ``steps`` in turn, a pause point before each, and notes what is called when."""

    type = "stream"

    def __init__(self, bench: Bench, job_id: str | None, *steps: Callable[[], None], **how: bool):
        self.steps = steps
        self.calls: list[str] = []
        self.failing: dict[str, Exception] = {}
        self.nodes: list[Node] = []
        super().__init__(JobSettings(job_id, **how), bench.graph, bench.clock)

    def run(self) -> None:
        for step in self.steps:
            self.pause_point()
            step()
        self._call("run")

    def change_graph(self, transaction: Transaction) -> None:
        self._call("change_graph")

    def prepare(self) -> None:
        self._call("prepare")

    def commit(self) -> None:
        self._call("commit")

    def abort(self) -> None:
        self._call("abort")

    async def clean(self) -> None:
        self._call("clean")

    def drains_for_end(self) -> list[Node]:
        return self.nodes

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.failing:
            raise self.failing[name]


class Bench:
    """A graph, its jobs and what was reported."""

    def __init__(self) -> None:
        self.events = Events()
        self.clock = ManualClock()
        self.graph = Graph(self.events)
        self.jobs = Jobs(self.graph, self.clock)

    def toy(self, job_id: str | None, *steps: Callable[[], None], **how: bool) -> Toy:
        return self.jobs.add(Toy(self, job_id, *steps, **how))

    def told(self, job: Toy) -> list[str]:
        """The job's events in short: statuses, and names of others."""
        short = []
        for name, data in self.events:
            if data.get("id", data.get("device")) == job.id:
                short.append(data["status"] if name == "JOB_STATUS_CHANGE" else name)
        return short

    async def until(self, job: Toy, status: Status) -> None:
        while job.status is not status:
            await job.changed()


class Gate:
    """A step that tells that it was reached and goes on when it is told to."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()

    def __call__(self) -> None:
        self.reached.set()
        assert self.open.wait(10)

    async def wait(self) -> None:
        assert await asyncio.to_thread(self.reached.wait, 10)


WELL = [
    "created", "running", "waiting", "pending", "BLOCK_JOB_COMPLETED", "concluded", "null",
]  # fmt: skip
CANCELLED = ["aborting", "BLOCK_JOB_CANCELLED", "concluded", "null"]


class ToyMirror(Toy):
    """Is ready at once and ends when it is completed, or cancelled without force."""

    type = "mirror"
    can_complete = True
    completed = False

    def run(self) -> None:
        self.become_ready()
        self.sleep(lambda: 0 if self.completed or self.cancel_requested else 1e9)

    def complete(self) -> None:
        self.completed = True

    def soft_cancel(self) -> bool:
        return self.ready
