"""``info graph``: a tree in text."""

from __future__ import annotations

import asyncio
from typing import Any

from monitor.engine.schema.base import Request
from monitor.engine.schema.job import JobInfo, QueryJobs
from monitor.engine.schema.query import (
    QueryBlockGraph,
    QueryNamedBlockNodes,
)
from tests.support.answers import DRIVE, JOB, NODE, block_graph, device
from tests.support.commands import AnsweringEngine, FakeSession, run, typed


def test_roots_children_and_what_is_shared() -> None:
    drawn = block_graph(
        [(NODE, "top"), (JOB, "s0"), (NODE, "base"), (DRIVE, "d0"), (DRIVE, "d1"), (NODE, "free"),
         (NODE, "file0")],
        [(3, 0, "root"), (0, 6, "file"), (0, 2, "backing"), (1, 0, "main node"), (1, 2, "base")],
    )  # fmt: skip
    nodes = [
        device("ov.qcow2", "top"),
        device("a.qcow2", "base", ro=True),
        device("x", "free", drv="raw"),
    ]
    job = JobInfo(id="s0", type="stream", status="running", current_progress=0, total_progress=0)
    text, _ = typed(
        "info graph", {QueryBlockGraph: drawn, QueryNamedBlockNodes: nodes, QueryJobs: [job]}
    )
    assert text == (
        "drive d0\n"
        "└─ root: top qcow2 64 MiB rw  ov.qcow2\n"
        "   ├─ file: file0\n"
        "   └─ backing: base qcow2 64 MiB ro  a.qcow2\n"
        "drive d1 [not inserted]\n"
        "job s0 (stream, running)\n"
        "├─ main node: top (shown above)\n"
        "└─ base: base (shown above)\n"
        "free raw 64 MiB rw  x"
    )


def test_an_empty_graph() -> None:
    answers = {QueryBlockGraph: block_graph([], []), QueryNamedBlockNodes: [], QueryJobs: []}
    assert typed("info graph", answers)[0] == "The graph is empty"


def test_a_chain_longer_than_pythons_stack() -> None:
    count = 3000
    chain = block_graph(
        [(NODE, f"n{i}") for i in range(count)], [(i, i + 1, "backing") for i in range(count - 1)]
    )
    answers = {QueryBlockGraph: chain, QueryNamedBlockNodes: [], QueryJobs: []}
    lines = typed("info graph", answers)[0].splitlines()
    assert len(lines) == count
    assert lines[-1] == "   " * (count - 2) + f"└─ backing: n{count - 1}"


class JobEnds(AnsweringEngine):
    """A job ends while the sizes of the nodes are asked for, which is the one wait there is."""

    ended = False

    async def execute(self, request: Request) -> Any:
        if isinstance(request, QueryNamedBlockNodes):
            await asyncio.sleep(0)
            self.ended = True
            return []
        if isinstance(request, QueryJobs):
            return []
        assert isinstance(request, QueryBlockGraph)
        return block_graph([(NODE, "top")] if self.ended else [(NODE, "top"), (JOB, "s0")], [])


def test_all_of_it_is_of_one_moment() -> None:
    async def work() -> str:
        session = FakeSession(JobEnds())
        await session.type("info graph")
        return session.text

    assert run(work()) == "top"
