"""Nodes that come and go while others ask: nobody meets one that is half open or half closed."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from monitor.engine.drivers.base import OpenContext
from monitor.engine.drivers.file.driver import FileDriver
from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import RequestError
from monitor.engine.schema.blockdev import BlockdevOptionsFile
from monitor.engine.schema.extra import IoRequest
from monitor.engine.schema.graph import BlockdevAdd, BlockdevDel
from monitor.engine.schema.query import QueryBlockGraph, QueryNamedBlockNodes
from tests.support.files import locked_bytes
from tests.support.graphs import run

READ = IoRequest(device="n0", operation="read", offset=0, length=512)


class Held:
    """An operation of the file driver that waits until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, operation: str) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        real = getattr(FileDriver, operation)

        def held(driver: FileDriver, *arguments: OpenContext) -> object:
            self.begun.set()
            assert self.go_on.wait(20)
            return real(driver, *arguments)

        monkeypatch.setattr(FileDriver, operation, held)

    async def reached(self) -> None:
        assert await asyncio.to_thread(self.begun.wait, 20)


@pytest.fixture
def add(tmp_path: Path) -> BlockdevAdd:
    (tmp_path / "image").write_bytes(bytes(1 << 20))
    return BlockdevAdd(
        options=BlockdevOptionsFile(node_name="n0", filename=str(tmp_path / "image"))
    )


def test_a_node_that_is_being_opened(add: BlockdevAdd, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        engine = EmbeddedEngine()
        opening = Held(monkeypatch, "open")
        added = asyncio.create_task(engine.execute(add))
        await opening.reached()
        assert await engine.execute(QueryNamedBlockNodes()) == []
        assert (await engine.execute(QueryBlockGraph())).nodes == []
        assert [name.text for name in engine.names("device")] == []
        with pytest.raises(RequestError, match="Cannot find device"):
            await engine.execute(READ)
        opening.go_on.set()
        await added
        assert [node.node_name for node in await engine.execute(QueryNamedBlockNodes())] == ["n0"]
        await engine.shut_down()

    run(main())


def test_a_node_that_goes_while_its_size_is_looked_up(
    add: BlockdevAdd, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        engine = EmbeddedEngine()
        await engine.execute(add)
        looking = Held(monkeypatch, "allocated_bytes")
        asked = asyncio.create_task(engine.execute(QueryNamedBlockNodes()))
        await looking.reached()
        await engine.execute(BlockdevDel(node_name="n0"))
        looking.go_on.set()
        assert await asked == []
        await engine.shut_down()

    run(main())


def test_an_opening_that_is_given_up_leaves_nothing_open(
    add: BlockdevAdd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        engine = EmbeddedEngine()
        opening = Held(monkeypatch, "open")
        closed: list[FileDriver] = []
        close = FileDriver.close

        def noted(driver: FileDriver) -> None:
            closed.append(driver)
            close(driver)

        monkeypatch.setattr(FileDriver, "close", noted)
        added = asyncio.create_task(engine.execute(add))
        await opening.reached()
        added.cancel()
        opening.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await added
        assert len(closed) == 1
        assert locked_bytes(tmp_path / "image") == set()
        await engine.execute(add)  # its name is free again
        await engine.shut_down()

    run(main())
