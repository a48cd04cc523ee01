"""Which of several mistakes of a ``block-stream`` is told, as QEMU does."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.engine.drivers.qcow2 import CreateOptions, create_image
from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import RequestError
from monitor.engine.schema.blockdev import BlockdevOptionsFile, BlockdevOptionsQcow2
from monitor.engine.schema.graph import BlockdevAdd
from monitor.engine.schema.stream import BlockStream
from tests.support.children import MemoryChild
from tests.support.graphs import run


@pytest.mark.parametrize(
    ("other_reads", "text"),
    [
        (True, 'Failed to get "write" lock'),
        (False, "Could not create node: Invalid node-name: '8bad'"),
    ],
)
def test_the_lock_comes_before_the_names(tmp_path: Path, other_reads: bool, text: str) -> None:
    """A read-only image is reopened first, then the filter gets its name, then the job its id."""
    path = tmp_path / "a.qcow2"
    file = MemoryChild()
    create_image(file, CreateOptions(size=1 << 20))
    path.write_bytes(bytes(file.content))
    options = BlockdevOptionsQcow2(
        node_name="n", read_only=True, file=BlockdevOptionsFile(filename=str(path))
    )

    async def main() -> str:
        ours, other = EmbeddedEngine(), EmbeddedEngine()
        for engine in (ours, other)[: 1 + other_reads]:
            await engine.execute(BlockdevAdd(options=options))
        with pytest.raises(RequestError) as told:
            await ours.execute(BlockStream(device="n", job_id="8j", filter_node_name="8bad"))
        for engine in (ours, other):
            await engine.shut_down()
        return told.value.text

    assert run(main()) == text
