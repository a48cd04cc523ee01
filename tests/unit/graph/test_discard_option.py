"""``discard=`` of each node decides for what comes through it, filters too."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.schema.blockdev import AnyBlockdevOptions
from monitor.engine.schema.decode import decode
from monitor.engine.schema.graph import BlockdevAdd
from tests.support.graphs import run

SIZE = 65536


@pytest.mark.parametrize(
    "driver",
    [
        {"driver": "copy-on-read", "file": "below"},
        {"driver": "blkdebug", "image": "below"},
        {"driver": "raw", "file": "below"},
    ],
    ids=lambda options: options["driver"],
)
@pytest.mark.parametrize(
    ("discard", "passes"),
    [({}, False), ({"discard": "ignore"}, False), ({"discard": "unmap"}, True)],
)
def test_a_discard_passes_where_it_is_to_unmap(
    tmp_path: Path, driver: dict[str, str], discard: dict[str, str], passes: bool
) -> None:
    path = tmp_path / "image"
    path.write_bytes(b"x" * SIZE)
    file = {"driver": "file", "filename": str(path), "discard": "unmap", "node-name": "below"}

    async def main() -> None:
        engine = EmbeddedEngine()
        for options in (file, {"node-name": "top", **driver, **discard}):
            await engine.execute(BlockdevAdd(options=decode(AnyBlockdevOptions, options)))
        await engine.graph.in_worker(engine.graph.nodes["top"].discard, 0, SIZE)
        await engine.shut_down()

    run(main())
    assert path.read_bytes() == (bytes(SIZE) if passes else b"x" * SIZE)
