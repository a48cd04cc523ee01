"""blockdev-create, and the child that takes its lane for each request."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from monitor.engine import permissions
from monitor.engine.clock import ManualClock
from monitor.engine.drivers.memory import MemoryDriver
from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import RequestError
from monitor.engine.graph.client import Client
from monitor.engine.jobs.laned import LanedChild
from monitor.engine.schema.blockdev import (
    BlockdevCreateOptionsFile,
    BlockdevCreateOptionsQcow2,
    BlockdevCreateOptionsRaw,
    BlockdevOptionsFile,
)
from monitor.engine.schema.create import BlockdevCreate
from monitor.engine.schema.job import JobDismiss, QueryBlockJobs, QueryJobs
from tests.support.graphs import add, run

MIB = 1 << 20


async def created(engine: EmbeddedEngine, options: Any) -> str | None:
    """Creates, dismisses, and answers with what went wrong."""
    await engine.execute(BlockdevCreate(job_id="c0", options=options))
    snapshot = await engine.job_ended("c0")
    assert (snapshot.status, snapshot.type) == ("concluded", "create")
    assert (snapshot.current, snapshot.total) == (1, 1)
    assert await engine.execute(QueryBlockJobs()) == []
    assert [job.id for job in await engine.execute(QueryJobs())] == ["c0"]
    await engine.execute(JobDismiss(id="c0"))
    return snapshot.error


def test_a_file_and_an_image_in_it(tmp_path: Path) -> None:
    async def main() -> None:
        engine = EmbeddedEngine(ManualClock())
        path = tmp_path / "a.img"
        assert (
            await created(engine, BlockdevCreateOptionsFile(filename=str(path), size=MIB)) is None
        )
        assert path.stat().st_size == MIB
        file = BlockdevOptionsFile(filename=str(path))
        assert await created(engine, BlockdevCreateOptionsQcow2(file=file, size=MIB)) is None
        assert path.read_bytes().startswith(b"QFI\xfb")
        assert engine.graph.nodes == {}
        assert engine.graph.clients == set()

    run(main())


def test_what_goes_wrong_is_the_jobs_error(tmp_path: Path) -> None:
    async def main() -> None:
        engine = EmbeddedEngine(ManualClock())
        path = str(tmp_path / "nowhere" / "a.img")
        error = await created(engine, BlockdevCreateOptionsFile(filename=path, size=MIB))
        assert error == f"Could not create '{path}': No such file or directory"
        error = await created(engine, BlockdevCreateOptionsQcow2(file="nope", size=MIB))
        assert error == "Cannot find device='nope' nor node-name='nope'"
        file = BlockdevOptionsFile(filename=path)
        error = await created(engine, BlockdevCreateOptionsQcow2(file=file, size=MIB))
        assert error == f"Could not open '{path}': No such file or directory"
        assert engine.graph.nodes == {}

    run(main())


def test_raw_is_nothing_to_create() -> None:
    async def main() -> None:
        engine = EmbeddedEngine(ManualClock())
        with pytest.raises(RequestError, match="Driver does not support blockdev-create"):
            await engine.execute(BlockdevCreate(job_id="c0", options=BlockdevCreateOptionsRaw()))
        assert engine.jobs() == []

    run(main())


def test_a_section_waits_for_one_request_and_not_for_all() -> None:
    async def main() -> None:
        engine = EmbeddedEngine(ManualClock())
        graph = engine.graph
        reached, go_on = threading.Event(), threading.Event()
        writes: list[int] = []

        def hold(operation: str, offset: int, length: int) -> None:
            if operation == "write":
                writes.append(offset)
                reached.set()
                assert go_on.wait(10)

        node = add(graph, "n0", MemoryDriver(MIB, before=hold))
        client = Client()
        root = graph.add_client(client, node, permissions.WRITE, permissions.ALL)

        def work() -> None:
            with LanedChild(root) as child:
                for offset in range(0, 4096, 512):
                    child.write(memoryview(bytes(512)), offset)

        loop = asyncio.get_running_loop()
        worker = loop.run_in_executor(None, work)
        await loop.run_in_executor(None, reached.wait, 10)
        loop.call_soon(go_on.set)
        async with graph.drained(node):
            inside = list(writes)
            await asyncio.sleep(0)
            assert writes == inside
            assert len(inside) < 8
        await worker
        assert len(writes) == 8
        assert client.lanes == []

    run(main())
