"""What transactions leave on the disk beside qemu-storage-daemon, and messages that it cannot give.

Replies, events and the graph are held against it in tests/support/qmp_cases/transactions.py.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from monitor.engine.drivers.qcow2.driver import Qcow2Driver
from monitor.engine.errors import RequestError
from monitor.engine.graph.blockers import Blocker
from monitor.engine.schema.decode import decode
from monitor.engine.schema.snapshot import (
    BlockdevSnapshotDeleteInternalSync,
    BlockdevSnapshotInternalSync,
    DeleteDisks,
    LoadDisks,
    SaveDisks,
)
from monitor.engine.schema.transaction import Transaction
from tests.support import tools
from tests.support.drives import with_drives
from tests.support.qcow2 import qemu_check
from tests.support.qmp_cases.transactions import ABORT, KEPT, N0, N1, overlay, transaction
from tests.support.qmp_cases.words import IMAGES, USER
from tests.support.side_by_side import compare


def test_files_of_a_failed_transaction(tmp_path: Path) -> None:
    """The overlays that were created stay, as QEMU leaves them; the images are as they were."""
    failing = [
        N0,
        N1,
        USER,
        transaction(KEPT, overlay("n0", "s0"), ABORT),
        transaction(overlay("n1", "s1"), overlay("n0", "s1")),
        transaction(overlay("n0", "s2", format="raw")),
        transaction(overlay("no", "s3")),
        transaction(KEPT, overlay("n0", "s4"), completion_mode="grouped"),
    ]
    compare(tmp_path, IMAGES, failing)
    sides = {side: sorted((tmp_path / side).iterdir()) for side in ("theirs", "ours")}
    names = [[path.name for path in files] for files in sides.values()]
    assert names[0] == names[1]
    assert "s0.qcow2" in names[1]
    for theirs, ours in zip(*sides.values(), strict=True):
        if theirs.suffix == ".qcow2":
            facts = [tools.run("qemu-img", "map", "--output=json", f) for f in (theirs, ours)]
            assert facts[0] == facts[1]
            assert qemu_check(ours) == {"leaks": 0, "corruptions": 0}
            assert "kept" not in tools.run("qemu-img", "snapshot", "-l", ours)


def test_a_node_at_work_is_busy(tmp_path: Path) -> None:
    """Jobs of today have a filter on their nodes, which are no root nodes then: 'Need a root block
    node' comes first. Whatever blocks a node without one is told."""

    async def main() -> None:
        engine = await with_drives(tmp_path, "a")
        node = engine.graph.drives["a"].inserted()
        await engine.execute(BlockdevSnapshotInternalSync(device="a", name="s"))
        node.blockers.append(Blocker("block device is in use by block job: stream"))
        for request in (
            BlockdevSnapshotInternalSync(device="a", name="t"),
            BlockdevSnapshotDeleteInternalSync(device="a", name="s"),
            SaveDisks(name="u"),
            LoadDisks(name="s"),
            DeleteDisks(name="s"),
        ):
            with pytest.raises(RequestError) as failure:
                await engine.execute(request)
            assert failure.value.text == (
                "Node 'a' is busy: block device is in use by block job: stream"
            )
        node.blockers.clear()
        await engine.execute(BlockdevSnapshotInternalSync(device="a", name="t"))
        await engine.shut_down()

    asyncio.run(main())


def test_an_undoing_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(driver: Qcow2Driver, number: int) -> None:
        raise OSError(28, "No space left on device")

    async def main() -> None:
        engine = await with_drives(tmp_path, "a")
        notes: list[str] = []
        engine.subscribe(lambda event: notes.append(event.data.get("text", "")))
        monkeypatch.setattr(Qcow2Driver, "delete_snapshot", failing)
        snapshot: dict[str, Any] = {"type": "blockdev-snapshot-internal-sync"}
        snapshot["data"] = {"device": "a", "name": "s"}
        request = decode(Transaction, {"actions": [snapshot, ABORT]})
        with pytest.raises(RequestError, match="Transaction aborted using Abort action"):
            await engine.execute(request)
        assert notes == [
            "Failed to delete snapshot with id '1' and name 's' on device 'a' in abort: "
            "No space left on device"
        ]
        await engine.shut_down()

    asyncio.run(main())
