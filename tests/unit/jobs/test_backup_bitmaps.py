"""Backups by a bitmap: what they copy, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from monitor.engine.drivers.blockcopy import UNIT
from monitor.engine.schema.bitmap import BlockDirtyBitmapAdd
from monitor.engine.schema.job import (
    BlockJobCancel,
    JobFinalize,
)
from tests.support.backups import SIZE, Bench, contents, memory
from tests.support.graphs import run
from tests.support.in_memory import BadPlace
from tests.support.layers import layer, overlay, put

Ending = Callable[[Bench], Any]


async def succeed(bench: Bench) -> None:
    await bench.engine.execute(JobFinalize(id="b0"))


async def cancel(bench: Bench) -> None:
    await bench.engine.execute(BlockJobCancel(device="b0"))


@pytest.mark.parametrize("ending", ["success", "cancel", "error"])
@pytest.mark.parametrize("mode", ["on-success", "never", "always"])
def test_what_becomes_of_the_bitmap(mode: str, ending: str) -> None:
    """Units 1 and 8 are dirty before, 3 and 20 are written during the backup. Unit 8 cannot be
    copied where it ends in an error."""

    async def main() -> None:
        bench = Bench()
        await bench.engine.execute(BlockDirtyBitmapAdd(node="source", name="m", granularity=UNIT))
        bench.write(UNIT, b"1" * 512)
        bench.write(8 * UNIT, b"8" * 512)
        before = contents(bench.source)
        broken = BadPlace("write", 8 * UNIT)
        if ending == "error":
            memory(bench.target).before = broken
        await bench.begin(
            sync="bitmap", bitmap="m", bitmap_mode=mode, auto_finalize=False, auto_dismiss=False
        )
        assert bench.bitmap().busy
        await bench.write_in_thread(3 * UNIT, b"3" * 512)
        await bench.write_in_thread(20 * UNIT, b"4" * 512)
        snapshot = await bench.engine.job_ended("b0")
        if ending == "success":
            assert snapshot.status == "pending"
            await succeed(bench)
        elif ending == "cancel":
            await cancel(bench)
        snapshot = await bench.engine.job_ended("b0")
        assert snapshot.status == "concluded"
        assert (snapshot.error is None) == (ending == "success")
        during, older = {3, 20}, {1, 8}
        kept = older if mode == "never" or (mode == "on-success" and ending != "success") else set()
        left = {8} if mode == "always" and ending == "error" else set()
        dirty = {
            at // UNIT
            for start, length in bench.dirty()
            for at in range(start, start + length, UNIT)
        }
        assert dirty == during | kept | left
        assert not bench.bitmap().busy
        assert bench.bitmap().recording
        if ending == "success":
            target = contents(bench.target)
            for unit in range(SIZE // UNIT):
                part = slice(unit * UNIT, (unit + 1) * UNIT)
                assert target[part] == (before[part] if unit in older else bytes(UNIT)), unit

    run(main())


def test_a_full_backup_begins_a_chain() -> None:
    """sync=full with a bitmap: it holds what was written since the beginning."""

    async def main() -> None:
        bench = Bench()
        await bench.engine.execute(BlockDirtyBitmapAdd(node="source", name="m", granularity=UNIT))
        bench.write(UNIT, b"1" * 512)
        await bench.begin(bitmap="m", bitmap_mode="on-success", auto_finalize=False)
        await bench.write_in_thread(5 * UNIT, b"5" * 512)
        await bench.over()
        await succeed(bench)
        assert bench.dirty() == [(5 * UNIT, UNIT)]

    run(main())


@pytest.mark.parametrize("granularity", [UNIT // 2, UNIT, 2 * UNIT])
@pytest.mark.parametrize("cluster", [4096, 2 * UNIT, 4 * UNIT])
def test_bitmaps_and_targets_of_any_grain(granularity: int, cluster: int) -> None:
    async def main() -> None:
        bench = Bench()
        target = layer(bench.graph, "to", SIZE, cluster=cluster)
        put(target, 0, contents(bench.source))
        await bench.engine.execute(
            BlockDirtyBitmapAdd(node="source", name="m", granularity=granularity)
        )
        for place in (0, 3 * UNIT - 512, 17 * UNIT + 100, SIZE - 512):
            bench.write(place, b"d" * 512)
        snapshot = await bench.backed_up(sync="incremental", bitmap="m", target="to")
        assert overlay(target).contents() == contents(bench.source)
        assert snapshot.total < SIZE
        assert bench.dirty() == []

    run(main())
