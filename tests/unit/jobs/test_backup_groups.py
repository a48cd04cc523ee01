"""Backups in transactions."""

from __future__ import annotations

import pytest

from monitor.engine.drivers.blockcopy import UNIT
from monitor.engine.drivers.memory import MemoryDriver
from monitor.engine.errors import RequestError
from monitor.engine.schema.bitmap import BlockDirtyBitmapAdd
from monitor.engine.schema.transaction import (
    BlockdevBackupAction,
    Transaction,
    TransactionProperties,
)
from tests.support.backups import SIZE, Bench, contents, memory
from tests.support.graphs import add, run, shape
from tests.support.in_memory import BadPlace


@pytest.mark.parametrize("completion", ["individual", "grouped"])
def test_one_of_two_fails(completion: str) -> None:
    """Grouped, the other is cancelled and both bitmaps stay; alone, it ends well."""

    async def main() -> None:
        bench = Bench()
        other = add(bench.graph, "other", MemoryDriver(data=b"o" * SIZE))
        to = add(bench.graph, "to", MemoryDriver(SIZE))
        for node in ("source", "other"):
            await bench.engine.execute(BlockDirtyBitmapAdd(node=node, name="m", granularity=UNIT))
            bench.graph.nodes[node].bitmaps.get("m").set(0, SIZE)  # type: ignore[union-attr]
        memory(to).before = BadPlace("write", 0)
        options = {"sync": "incremental", "bitmap": "m", "auto_dismiss": False}
        await bench.engine.execute(
            Transaction(
                actions=[
                    BlockdevBackupAction(data=bench.request(**options)),
                    BlockdevBackupAction(
                        data=bench.request(job_id="b1", device="other", target="to", **options)
                    ),
                ],
                properties=TransactionProperties(completion_mode=completion),
            )
        )
        first = await bench.engine.job_ended("b0")
        second = await bench.engine.job_ended("b1")
        assert second.error == "Input/output error"
        assert other.bitmaps.get("m").count >= SIZE  # type: ignore[union-attr]
        if completion == "grouped":
            assert first.error == "Operation canceled"
            assert bench.bitmap().count >= SIZE
            ends = ("BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED", "JOB_STATUS_CHANGE")
            told = [
                (name, data.get("device", data.get("id")))
                for name, data in bench.events
                if name in ends and data.get("status", "aborting") == "aborting"
            ]
            assert told == [  # the last that was added first, one after the other, as in QEMU
                ("JOB_STATUS_CHANGE", "b1"),
                ("BLOCK_JOB_COMPLETED", "b1"),
                ("JOB_STATUS_CHANGE", "b0"),
                ("BLOCK_JOB_CANCELLED", "b0"),
            ]
        else:
            assert first.error is None
            assert bench.bitmap().count == 0
            assert contents(bench.target) == contents(bench.source)

    run(main())


def test_a_transaction_that_fails_leaves_no_backup() -> None:
    async def main() -> None:
        bench = Bench()
        await bench.engine.execute(BlockDirtyBitmapAdd(node="source", name="m", granularity=UNIT))
        bench.write(0, b"1" * 512)
        before = shape(bench.graph)
        good = bench.request(sync="incremental", bitmap="m")
        with pytest.raises(RequestError):
            await bench.engine.execute(
                Transaction(
                    actions=[
                        BlockdevBackupAction(data=good),
                        BlockdevBackupAction(data=bench.request(job_id="b1", target="nowhere")),
                    ]
                )
            )
        assert shape(bench.graph) == before
        assert not bench.engine.jobs()
        assert not bench.bitmap().busy
        assert bench.dirty() == [(0, UNIT)]

    run(main())
