"""Transactions of requests: order of steps, undoing, drained sections, jobs that end together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import RequestError
from monitor.engine.schema.decode import decode
from monitor.engine.schema.extra import CreateImage
from monitor.engine.schema.graph import BlockdevAdd
from monitor.engine.schema.transaction import Transaction
from tests.support.graphs import run, shape

SIZE = 1 << 20


def transaction(*actions: tuple[str, dict[str, Any]], **properties: Any) -> Transaction:
    arguments: dict[str, Any] = {"actions": [{"type": t, "data": d} for t, d in actions]}
    if properties:
        arguments["properties"] = properties
    request: Transaction = decode(Transaction, arguments)
    return request


async def with_nodes(folder: Path, *names: str) -> EmbeddedEngine:
    """An engine with a qcow2 node of each name."""
    engine = EmbeddedEngine()
    for name in names:
        path = str(folder / f"{name}.qcow2")
        await engine.execute(CreateImage(filename=path, format="qcow2", size=SIZE))
        options = {"driver": "qcow2", "node-name": name, "file": {"driver": "file"}}
        options["file"]["filename"] = path  # type: ignore[index]
        await engine.execute(decode(BlockdevAdd, options))
    return engine


def overlay(folder: Path, node: str, name: str) -> tuple[str, dict[str, Any]]:
    data = {"node-name": node, "snapshot-node-name": name}
    return "blockdev-snapshot-sync", data | {"snapshot-file": str(folder / f"{name}.qcow2")}


def test_two_stacked_snapshots_are_undone(tmp_path: Path) -> None:
    async def main() -> None:
        engine = await with_nodes(tmp_path, "n0")
        before = shape(engine.graph)
        stacked = overlay(tmp_path, "n0", "ov1"), overlay(tmp_path, "ov1", "ov2")
        with pytest.raises(RequestError, match="aborted using Abort action") as failure:
            await engine.execute(transaction(*stacked, ("abort", {})))
        assert failure.value.failed_action == 2
        assert shape(engine.graph) == before
        assert sorted(node.name for node in engine.graph.nodes.values())[-1] == "n0"
        assert not engine.graph.nodes["n0"].read_only
        assert (tmp_path / "ov2.qcow2").exists()  # as QEMU leaves it
        await engine.shut_down()

    run(main())


def test_two_stacked_snapshots_are_kept(tmp_path: Path) -> None:
    async def main() -> None:
        engine = await with_nodes(tmp_path, "n0", "ov2")
        nodes = engine.graph.nodes
        stacked = "blockdev-snapshot", {"node": "n0", "overlay": "ov2"}
        await engine.execute(transaction(stacked))
        assert nodes["ov2"].backing is nodes["n0"]
        assert nodes["n0"].read_only
        await engine.shut_down()

    run(main())


def test_completion_mode_is_for_jobs(tmp_path: Path) -> None:
    async def main() -> None:
        engine = await with_nodes(tmp_path, "n0")
        grouped = transaction(overlay(tmp_path, "n0", "ov"), **{"completion-mode": "grouped"})
        with pytest.raises(RequestError) as failure:
            await engine.execute(grouped)
        assert failure.value.text == (
            "Action 'blockdev-snapshot-sync' does not support Transaction property "
            "completion-mode = grouped"
        )
        assert not (tmp_path / "ov.qcow2").exists()
        await engine.shut_down()

    run(main())
