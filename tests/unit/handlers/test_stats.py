"""query-blockstats: what is counted where, with a clock that the test moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from monitor.engine.clock import ManualClock
from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import RequestError
from monitor.engine.schema.extra import DriveAdd, IoRequest
from monitor.engine.schema.graph import BlockdevSnapshotSync
from monitor.engine.schema.stats import BlockStats, QueryBlockstats
from tests.support.graphs import run

K = 1024


def io(operation: Any, offset: int = 0, length: int = 0, device: str = "d0") -> IoRequest:
    return IoRequest(device=device, operation=operation, offset=offset, length=length)


def drive(tmp_path: Path, *requests: Any) -> tuple[EmbeddedEngine, BlockStats]:
    """A drive d0 on a raw file of 1 MiB after ``requests``, and what is told half a second
    later."""
    image = tmp_path / "a.img"
    image.write_bytes(bytes(1 << 20))
    clock = ManualClock()
    engine = EmbeddedEngine(clock)

    async def work() -> BlockStats:
        options = f"id=d0,node-name=n0,file={image},format=raw,discard=unmap"
        await engine.execute(DriveAdd(options=options))
        for request in requests:
            await engine.execute(request)
        clock.advance(0.5)
        (told,) = await engine.execute(QueryBlockstats())
        await engine.shut_down()
        assert isinstance(told, BlockStats)
        return told

    return engine, run(work())


def test_what_goes_through_a_drive_is_counted(tmp_path: Path) -> None:
    _, told = drive(
        tmp_path,
        io("write", 0, 8 * K),
        io("zero", 8 * K, 4 * K),
        io("read", 0, 16 * K),
        io("read", 0, 16 * K),
        io("discard", 0, 4 * K),
        io("flush"),
        io("length"),
        io("alloc", 0, 4 * K),
    )
    stats = told.stats
    assert (stats.wr_bytes, stats.wr_operations) == (12 * K, 2)
    assert (stats.rd_bytes, stats.rd_operations) == (32 * K, 2)
    assert (stats.unmap_bytes, stats.unmap_operations) == (4 * K, 1)
    assert stats.flush_operations == 1
    assert stats.wr_highest_offset == 12 * K
    assert stats.idle_time_ns == 500_000_000
    assert stats.account_failed
    assert stats.account_invalid


def test_requests_of_many_pieces_are_one(tmp_path: Path) -> None:
    _, told = drive(tmp_path, io("write", 0, 1 << 20))
    assert (told.stats.wr_bytes, told.stats.wr_operations) == (1 << 20, 1)


def test_a_failed_request_is_counted_as_such(tmp_path: Path) -> None:
    async def work() -> None:
        engine = EmbeddedEngine(ManualClock())
        image = tmp_path / "a.img"
        image.write_bytes(bytes(4096))
        await engine.execute(DriveAdd(options=f"id=d0,file={image},format=raw"))
        with pytest.raises(RequestError):
            await engine.execute(io("read", 1 << 20, 512))
        (told,) = await engine.execute(QueryBlockstats())
        assert told.stats.failed_rd_operations == 1
        assert told.stats.rd_operations == 0
        await engine.shut_down()

    run(work())


def test_an_idle_drive_has_no_idle_time_and_a_node_counts_how_far(tmp_path: Path) -> None:
    _, told = drive(tmp_path, io("write", 0, 8 * K, device="n0"))
    assert told.stats.wr_operations == 0
    assert told.stats.wr_highest_offset == 8 * K
    assert "idle_time_ns" not in _members(told)


def _members(told: BlockStats) -> dict[str, Any]:
    import msgspec

    stats: dict[str, Any] = msgspec.to_builtins(told)["stats"]
    return stats


def test_figures_stay_with_the_drive_when_its_node_changes(tmp_path: Path) -> None:
    snapshot = BlockdevSnapshotSync(
        device="d0", snapshot_file=str(tmp_path / "s.qcow2"), snapshot_node_name="s"
    )
    _, told = drive(tmp_path, io("write", 0, 8 * K), snapshot, io("write", 0, 4 * K))
    assert told.stats.wr_bytes == 12 * K
    assert told.stats.wr_highest_offset == 4 * K
    assert told.node_name == "s"
    assert isinstance(told.backing, BlockStats)
    assert told.backing.node_name == "n0"
    assert told.backing.stats.wr_highest_offset == 8 * K


def test_the_file_counts_discards(tmp_path: Path) -> None:
    _, told = drive(tmp_path, io("discard", 0, 64 * K))
    assert isinstance(told.parent, BlockStats)
    counts = told.parent.driver_specific
    ended = counts.discard_nb_ok + counts.discard_nb_failed  # type: ignore[union-attr]
    assert ended == 1
    assert counts.discard_bytes_ok in (0, 64 * K)  # type: ignore[union-attr]
