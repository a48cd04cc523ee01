"""Questions about the graph."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.engine.drivers.file.driver import FileDriver
from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.schema.blockdev import BlockdevOptionsFile, BlockdevOptionsRaw
from monitor.engine.schema.graph import BlockdevAdd
from monitor.engine.schema.job import QueryJobs
from monitor.engine.schema.query import QueryBlockGraph, QueryNamedBlockNodes
from tests.support.graphs import run


def test_a_file_is_asked_once_whatever_stands_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[FileDriver] = []
    real = FileDriver.allocated_bytes

    def counted(driver: FileDriver) -> int:
        asked.append(driver)
        return real(driver)

    async def main() -> None:
        path = tmp_path / "image"
        path.write_bytes(b"x" * 8192)
        engine = EmbeddedEngine()
        file = BlockdevOptionsFile(node_name="file", filename=str(path))
        await engine.execute(BlockdevAdd(options=file))
        for name, below in (("one", "file"), ("two", "one")):
            raw = BlockdevOptionsRaw(node_name=name, file=below)
            await engine.execute(BlockdevAdd(options=raw))
        monkeypatch.setattr(FileDriver, "allocated_bytes", counted)
        for size in (8192, 16384):
            path.write_bytes(b"x" * size)
            answer = await engine.execute(QueryNamedBlockNodes())
            sizes = {node.node_name: node.image.actual_size for node in answer}
            assert sizes == dict.fromkeys(("file", "one", "two"), size)
        assert len(asked) == 2
        await engine.shut_down()

    run(main())


@pytest.mark.parametrize("request_type", [QueryBlockGraph, QueryJobs])
def test_what_is_answered_in_one_step_of_the_loop(
    request_type: type[QueryBlockGraph | QueryJobs],
) -> None:
    """``info graph`` asks both after the nodes, and shows one moment."""

    async def main() -> None:
        engine = EmbeddedEngine()
        with pytest.raises(StopIteration):
            engine.execute(request_type()).send(None)
        await engine.shut_down()

    run(main())
