"""Backups whose requests fail, under each policy; and those that cannot begin."""

from __future__ import annotations

import asyncio
import errno
import logging

import pytest

from monitor.engine.api import Event
from monitor.engine.drivers.base import Ranges
from monitor.engine.drivers.blockcopy import UNIT
from monitor.engine.drivers.memory import MemoryDriver
from monitor.engine.errors import RequestError
from monitor.engine.schema.backup import BackupPerf
from monitor.engine.schema.bitmap import BlockDirtyBitmapAdd
from monitor.engine.schema.job import (
    BlockJobResume,
    QueryBlockJobs,
)
from tests.support.backups import SIZE, Bench, contents, memory
from tests.support.graphs import add, run, shape
from tests.support.in_memory import BadPlace


@pytest.mark.parametrize(("where", "operation"), [("source", "read"), ("target", "write")])
def test_report_fails_the_job(where: str, operation: str) -> None:
    async def main() -> None:
        bench = Bench()
        memory(bench.graph.nodes[where]).before = BadPlace(operation, 7 * UNIT)
        snapshot = await bench.backed_up(auto_dismiss=False)
        assert snapshot.error == "Input/output error"
        assert bench.named("BLOCK_JOB_ERROR") == [
            {"device": "b0", "operation": operation, "action": "report"}
        ]
        assert bench.drive.node is bench.source

    run(main())


@pytest.mark.parametrize(("where", "operation"), [("source", "read"), ("target", "write")])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_stop_waits_for_the_user(where: str, operation: str, code: int) -> None:
    async def main() -> None:
        bench = Bench()
        before = contents(bench.source)
        broken = BadPlace(operation, 7 * UNIT, code)
        memory(bench.graph.nodes[where]).before = broken
        policy = "enospc" if code == errno.ENOSPC else "stop"
        side = "on_source_error" if where == "source" else "on_target_error"
        snapshot = await bench.backed_up(**{side: policy})
        assert snapshot.status == "paused"
        (info,) = await bench.engine.execute(QueryBlockJobs())
        assert info.io_status == ("nospace" if code == errno.ENOSPC else "failed")
        assert bench.named("BLOCK_JOB_ERROR")[0]["action"] == "stop"
        broken.mended = True
        await bench.engine.execute(BlockJobResume(device="b0"))
        snapshot = await bench.engine.job_ended("b0")
        assert snapshot.error is None
        assert contents(bench.target) == before

    run(main())


def test_a_listener_that_fails_is_nothing_to_the_job(caplog: pytest.LogCaptureFixture) -> None:
    """Its life stood still where a line about it could not be shown."""

    async def main() -> None:
        bench = Bench()
        told: list[str] = []

        def fail(event: Event) -> None:
            raise IndexError

        bench.engine.subscribe(fail)
        bench.engine.subscribe(lambda event: told.append(event.name))
        assert (await bench.backed_up()).error is None
        assert "BLOCK_JOB_COMPLETED" in told

    with caplog.at_level(logging.ERROR):
        run(main())
    assert "IndexError" in caplog.text


def test_a_full_disk_stops_a_job_once() -> None:
    """Several pieces were under way: one resume answers for all of them."""

    async def main() -> None:
        bench = Bench()
        before = contents(bench.source)
        full = True

        def refuse(operation: str, offset: int, length: int) -> None:
            if full and operation == "write":
                raise OSError(errno.ENOSPC, "No space left on device")

        memory(bench.target).before = refuse
        assert (await bench.backed_up(on_target_error="stop")).status == "paused"
        full = False
        await bench.engine.execute(BlockJobResume(device="b0"))
        assert (await bench.engine.job_ended("b0")).error is None
        assert len(bench.named("BLOCK_JOB_ERROR")) == 1
        assert contents(bench.target) == before

    run(main())


def test_ignored_errors_are_tried_again() -> None:
    async def main() -> None:
        bench = Bench()
        before = contents(bench.source)
        broken = BadPlace("write", 7 * UNIT)
        memory(bench.target).before = broken
        await bench.begin(on_target_error="ignore")
        while broken.failed < 3:
            bench.engine.clock.advance(1.0)
            await asyncio.sleep(0)
        broken.mended = True
        ending = asyncio.ensure_future(bench.engine.job_ended("b0"))
        while not ending.done():
            bench.engine.clock.advance(1.0)
            await asyncio.sleep(0)
        assert ending.result().error is None
        assert contents(bench.target) == before
        assert {data["action"] for data in bench.named("BLOCK_JOB_ERROR")} == {"ignore"}

    run(main())


def test_a_guest_hears_of_a_target_that_fails() -> None:
    """Its write is not made: the old data would be lost."""

    async def main() -> None:
        bench = Bench()
        before = contents(bench.source)
        await bench.begin(sync="none")
        memory(bench.target).before = BadPlace("write", 0)
        with pytest.raises(OSError, match="injected"):
            await bench.write_in_thread(0, b"n" * 512)
        assert contents(bench.source) == before
        await bench.engine.shut_down()

    run(main())


def test_a_flush_that_fails_fails_the_job() -> None:
    async def main() -> None:
        bench = Bench()
        memory(bench.target).before = BadPlace("flush", 0)
        snapshot = await bench.backed_up(auto_dismiss=False)
        assert snapshot.error == "Input/output error"

    run(main())


def test_nothing_stays_of_a_backup_that_cannot_begin() -> None:
    async def main() -> None:
        bench = Bench()
        before = shape(bench.graph)
        for options in (
            {"job_id": "0b"},
            {"speed": -1},
            {"x_perf": BackupPerf(max_chunk=512)},
            {"filter_node_name": "source"},
        ):
            with pytest.raises(RequestError):
                await bench.begin(**options)
            assert shape(bench.graph) == before
            assert not bench.engine.jobs()
            assert not list(bench.source.bitmaps)
            assert not bench.target.blockers

    run(main())


async def scattered(bench: Bench) -> list[int]:
    """A bitmap ``m`` with a few units far apart; their numbers."""
    await bench.engine.execute(BlockDirtyBitmapAdd(node="source", name="m", granularity=UNIT))
    units = [2, 5, 8, 11, 30]
    for unit in units:
        bench.write(unit * UNIT, b"d" * 512)
    return units


@pytest.mark.parametrize(("where", "operation"), [("source", "read"), ("target", "write")])
def test_one_bad_place_among_scattered_ones(where: str, operation: str) -> None:
    """They are copied together, and yet only what is bad, and what follows it, is left to do."""

    async def main() -> None:
        bench = Bench()
        units = await scattered(bench)
        before = contents(bench.source)
        broken = BadPlace(operation, 8 * UNIT)
        memory(bench.graph.nodes[where]).before = broken
        side = "on_source_error" if where == "source" else "on_target_error"
        snapshot = await bench.backed_up(
            sync="bitmap", bitmap="m", bitmap_mode="never", **{side: "stop"}
        )
        assert snapshot.status == "paused"
        assert snapshot.current == 2 * UNIT
        (error,) = bench.named("BLOCK_JOB_ERROR")
        assert (error["operation"], error["action"]) == (operation, "stop")
        broken.mended = True
        await bench.engine.execute(BlockJobResume(device="b0"))
        snapshot = await bench.engine.job_ended("b0")
        assert snapshot.error is None
        expected = bytearray(len(before))
        for unit in units:
            expected[unit * UNIT : (unit + 1) * UNIT] = before[unit * UNIT : (unit + 1) * UNIT]
        assert contents(bench.target) == expected

    run(main())


class FailsTogether(MemoryDriver):
    """Writes ranges one by one, but not at once."""

    failed = 0

    def write_ranges(self, buffer: memoryview, ranges: Ranges) -> None:
        self.failed += 1
        raise OSError(errno.EIO, "injected")


def test_an_error_is_told_even_where_trying_again_would_do() -> None:
    async def main() -> None:
        bench = Bench()
        await scattered(bench)
        target = FailsTogether(SIZE)
        add(bench.graph, "together", target)
        snapshot = await bench.backed_up(
            target="together", sync="bitmap", bitmap="m", bitmap_mode="always", auto_dismiss=False
        )
        assert snapshot.error == "Input/output error"
        assert target.failed == 1
        assert not bench.dirty()  # all of it has been written

    run(main())
