"""Backups in memory: what targets hold while guests write, errors, what becomes of bitmaps."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from monitor.engine import permissions
from monitor.engine.api import JobSnapshot
from monitor.engine.clock import ManualClock
from monitor.engine.drivers.blockcopy import UNIT
from monitor.engine.drivers.memory import MemoryDriver
from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import RequestError
from monitor.engine.graph.client import Client
from monitor.engine.graph.drive import Drive
from monitor.engine.graph.node import Node
from monitor.engine.jobs.state import VerbRefused
from monitor.engine.schema.backup import BackupPerf, BlockdevBackup
from monitor.engine.schema.bitmap import BlockDirtyBitmapAdd
from monitor.engine.schema.blockdev import BlockdevOptionsCopyBeforeWrite
from monitor.engine.schema.graph import BlockdevAdd
from monitor.engine.schema.job import (
    BlockJobCancel,
    BlockJobResume,
    BlockJobSetSpeed,
    JobCancel,
    JobFinalize,
    QueryBlockJobs,
)
from monitor.engine.schema.transaction import (
    BlockdevBackupAction,
    Transaction,
    TransactionProperties,
)
from tests.support.graphs import add, run, shape
from tests.support.layers import layer, overlay, put

SIZE: Final = 40 * UNIT + 512
"""Not a whole number of units."""


class Bench:
    """An engine on a clock that stands, with a source that a guest writes to, and targets."""

    def __init__(self, size: int = SIZE) -> None:
        self.engine = EmbeddedEngine(ManualClock())
        self.graph = self.engine.graph
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.engine.subscribe(lambda event: self.events.append((event.name, dict(event.data))))
        chance = random.Random(1)
        self.source = add(self.graph, "source", MemoryDriver(data=chance.randbytes(size)))
        self.target = add(self.graph, "target", MemoryDriver(size))
        self.drive = Drive("guest")
        taken = permissions.CONSISTENT_READ | permissions.WRITE
        self.graph.add_client(self.drive, self.source, taken, permissions.ALL)
        self.graph.drives["guest"] = self.drive
        self.lane = self.drive.lane()

    def request(self, **options: Any) -> BlockdevBackup:
        given = {"job_id": "b0", "device": "source", "target": "target", "sync": "full", **options}
        return BlockdevBackup(**given)

    async def begin(self, **options: Any) -> None:
        await self.engine.execute(self.request(**options))

    async def backed_up(self, **options: Any) -> JobSnapshot:
        await self.begin(**options)
        return await self.engine.job_ended(options.get("job_id", "b0"))

    async def over(self) -> None:
        """The job may be gone by now."""
        if (job := self.engine.job_table.find("b0")) is not None:
            await job.settled()

    def write(self, offset: int, data: bytes) -> None:
        with self.lane:
            self.drive.roots[0].write(memoryview(data), offset)

    async def write_in_thread(self, offset: int, data: bytes) -> None:
        await self.graph.in_lane_worker(self.write, offset, data)

    def named(self, name: str) -> list[dict[str, Any]]:
        return [data for event, data in self.events if event == name]

    def bitmap(self, name: str = "m") -> Any:
        return self.source.bitmaps.get(name)

    def dirty(self, name: str = "m") -> list[tuple[int, int]]:
        return list(self.bitmap(name).areas())


def contents(node: Node) -> bytes:
    driver = node.driver
    assert isinstance(driver, MemoryDriver)
    return driver.contents()


class Gate:
    """Holds up the operations that ``caught`` picks, until it is opened."""

    def __init__(self, operation: str, at: int | None = None) -> None:
        self.operation, self.at = operation, at
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __call__(self, operation: str, offset: int, length: int) -> None:
        if operation == self.operation and (self.at is None or offset <= self.at < offset + length):
            self.reached.set()
            assert self.opened.wait(20)

    async def wait(self) -> None:
        assert await asyncio.to_thread(self.reached.wait, 20)


class Broken:
    """Fails an operation on one place, until it is mended."""

    def __init__(self, operation: str, at: int, code: int = errno.EIO) -> None:
        self.operation, self.at, self.code = operation, at, code
        self.mended = False
        self.failed = 0

    def __call__(self, operation: str, offset: int, length: int) -> None:
        if operation == self.operation and offset <= self.at < offset + length and not self.mended:
            self.failed += 1
            raise OSError(self.code, "injected")


def memory(node: Node) -> MemoryDriver:
    assert isinstance(node.driver, MemoryDriver)
    return node.driver


# The moment


def test_all_is_copied() -> None:
    async def main() -> None:
        bench = Bench()
        before = contents(bench.source)
        shaped = shape(bench.graph)
        snapshot = await bench.backed_up()
        assert (snapshot.current, snapshot.total, snapshot.error) == (SIZE, SIZE, None)
        assert contents(bench.target) == before
        assert shape(bench.graph) == shaped  # the filter is gone
        assert set(bench.graph.nodes) == {"source", "target"}

    run(main())


def test_what_a_guest_overwrites_is_copied_first() -> None:
    async def main() -> None:
        bench = Bench()
        before = contents(bench.source)
        await bench.begin(sync="none")
        await bench.write_in_thread(3 * UNIT + 100, b"new" * UNIT)
        first, last = 3 * UNIT, 3 * UNIT + 100 + 3 * UNIT
        end = -(-last // UNIT) * UNIT
        assert contents(bench.target)[first:end] == before[first:end]
        assert contents(bench.target)[:first].count(0) == first
        assert contents(bench.source)[first + 100 : last] == b"new" * UNIT
        await bench.write_in_thread(3 * UNIT, b"x" * UNIT)  # copied already
        assert contents(bench.target)[first:end] == before[first:end]
        await bench.engine.execute(JobCancel(id="b0"))
        await bench.over()
        assert bench.drive.node is bench.source

    run(main())


def test_zeroes_and_discards_count_as_writes() -> None:
    async def main() -> None:
        bench = Bench()
        before = contents(bench.source)
        await bench.begin(sync="none")
        root = bench.drive.roots[0]

        def change() -> None:
            with bench.lane:
                root.write_zeroes(0, UNIT, True, False)
                root.discard(2 * UNIT, UNIT)

        await bench.graph.in_lane_worker(change)
        assert contents(bench.target)[:UNIT] == before[:UNIT]
        assert contents(bench.target)[2 * UNIT : 3 * UNIT] == before[2 * UNIT : 3 * UNIT]
        await bench.engine.shut_down()

    run(main())


def test_a_guest_waits_for_the_copy_under_way() -> None:
    """The job has read the old data and is about to write it: the guest must not come between."""

    async def main() -> None:
        bench = Bench()
        before = contents(bench.source)
        gate = Gate("write", 0)
        memory(bench.target).before = gate
        await bench.begin()
        await gate.wait()
        writing = asyncio.ensure_future(bench.write_in_thread(0, b"n" * 512))
        far = asyncio.ensure_future(bench.write_in_thread(SIZE - 512, b"f" * 512))
        await far  # another range is free
        assert not writing.done()
        assert contents(bench.source)[:512] == before[:512]
        gate.opened.set()
        await writing
        await bench.over()
        assert contents(bench.target) == before
        assert contents(bench.source)[:512] == b"n" * 512

    run(main())


def test_a_drained_section_waits_for_the_copies_and_holds_the_job() -> None:
    async def main() -> None:
        bench = Bench()
        before = contents(bench.source)
        gate = Gate("write")
        memory(bench.target).before = gate
        await bench.begin()
        await gate.wait()
        entered = asyncio.Event()

        async def section() -> None:
            async with bench.graph.drained(bench.source):
                entered.set()
                written = contents(bench.target)
                await asyncio.sleep(0)
                assert contents(bench.target) == written

        drained = asyncio.ensure_future(section())
        await asyncio.sleep(0)
        assert not entered.is_set()
        gate.opened.set()
        await drained
        await bench.over()
        assert contents(bench.target) == before

    run(main())


@contextlib.contextmanager
def writers(bench: Bench, count: int, seed: int) -> Iterator[threading.Event]:
    """Guests that write at random; yields an event that is set once each has written a lot."""
    stop, plenty = threading.Event(), threading.Event()
    ready = threading.Semaphore(0)

    def guest(number: int) -> None:
        chance = random.Random(seed + number)
        lane, root = bench.drive.lane(), bench.drive.roots[0]
        for written in itertools.count():
            if written == 20:
                ready.release()
            if stop.is_set():
                break
            offset = chance.randrange(SIZE // 512) * 512
            length = min(chance.choice([512, 4096, UNIT, 3 * UNIT]), SIZE - offset)
            with lane:
                if chance.random() < 0.2:
                    root.write_zeroes(offset, length, True, False)
                else:
                    root.write(memoryview(chance.randbytes(length)), offset)
        bench.drive.drop_lane(lane)

    def watch() -> None:
        for _ in range(count):
            ready.acquire()
        plenty.set()

    threads = [threading.Thread(target=guest, args=(number,)) for number in range(count)]
    threads.append(threading.Thread(target=watch))
    for thread in threads:
        thread.start()
    try:
        yield plenty
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("seed", range(6))
def test_the_target_is_the_disk_at_the_beginning(seed: int) -> None:
    """With guests at work, pauses by sections, and changes of speed."""

    async def main() -> None:
        bench = Bench()
        chance = random.Random(seed)
        at_start: list[bytes] = []
        admit = bench.graph.admit

        def look(client: Client) -> None:
            at_start.append(contents(bench.source))  # drained: nobody writes at this moment
            admit(client)

        bench.graph.admit = look  # type: ignore[method-assign]
        with writers(bench, 2, seed) as plenty:
            await bench.begin(speed=chance.choice([0, 4 * UNIT]), auto_dismiss=False)
            for _ in range(5):
                async with bench.graph.drained(chance.choice([bench.source, bench.target])):
                    await asyncio.sleep(0)
            await asyncio.to_thread(plenty.wait, 20)
            with contextlib.suppress(VerbRefused):  # it may have ended by now
                await bench.engine.execute(BlockJobSetSpeed(device="b0", speed=0))
            snapshot = await bench.engine.job_ended("b0")
        assert snapshot.error is None
        assert contents(bench.target) == at_start[0]

    run(main())


# What need not be copied


def test_top_copies_what_the_top_image_holds() -> None:
    async def main() -> None:
        bench = Bench(8 * UNIT)
        size = 8 * UNIT
        base = layer(bench.graph, "base", size)
        put(base, 0, b"b" * size)
        top = layer(bench.graph, "top", size, base)
        put(top, 3 * UNIT, b"t" * UNIT)
        snapshot = await bench.backed_up(device="top", sync="top")
        assert snapshot.total == UNIT
        expected = bytearray(size)
        expected[3 * UNIT : 4 * UNIT] = b"t" * UNIT
        assert contents(bench.target) == expected

    run(main())


def test_holes_move_no_data() -> None:
    async def main() -> None:
        bench = Bench()
        size = 64 * UNIT
        sparse = add(bench.graph, "sparse", MemoryDriver(size))
        put(sparse, 5 * UNIT + 4096, b"d" * 4096)
        target = add(bench.graph, "to", MemoryDriver(size))
        seen: list[tuple[str, int, int]] = []
        memory(target).before = lambda *request: seen.append(request)
        await bench.backed_up(device="sparse", target="to")
        assert contents(target) == contents(sparse)
        assert [request for request in seen if request[0] != "map"] == [
            ("write", 5 * UNIT, UNIT),
            ("flush", 0, 0),
        ]

    run(main())


def test_holes_hide_what_the_target_held() -> None:
    async def main() -> None:
        bench = Bench()
        size = 64 * UNIT
        sparse = add(bench.graph, "sparse", MemoryDriver(size))
        put(sparse, 5 * UNIT, b"d" * 4096)
        target = add(bench.graph, "to", MemoryDriver(data=b"o" * size))
        await bench.backed_up(device="sparse", target="to")
        assert contents(target) == contents(sparse)

    run(main())


def test_larger_clusters_of_the_target_are_copied_whole() -> None:
    async def main() -> None:
        bench = Bench()
        size = 8 * UNIT
        source = layer(bench.graph, "s", size)
        put(source, 0, b"s" * size)
        target = layer(bench.graph, "t", size, cluster=4 * UNIT)
        await bench.begin(device="s", target="t", sync="none")
        drive = Client("other")
        bench.graph.add_client(
            drive, bench.graph.nodes["s"].parents[0].parent, permissions.WRITE, permissions.ALL
        )
        lane = drive.lane()

        def write() -> None:
            with lane:
                drive.roots[0].write(memoryview(b"n" * 512), 5 * UNIT)

        await bench.graph.in_lane_worker(write)
        assert overlay(target).contents()[4 * UNIT :] == b"s" * 4 * UNIT
        assert overlay(target).contents()[: 4 * UNIT] == bytes(4 * UNIT)
        await bench.engine.shut_down()

    run(main())


# Errors


@pytest.mark.parametrize(("where", "operation"), [("source", "read"), ("target", "write")])
def test_report_fails_the_job(where: str, operation: str) -> None:
    async def main() -> None:
        bench = Bench()
        memory(bench.graph.nodes[where]).before = Broken(operation, 7 * UNIT)
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
        broken = Broken(operation, 7 * UNIT, code)
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
        broken = Broken("write", 7 * UNIT)
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
        memory(bench.target).before = Broken("write", 0)
        with pytest.raises(OSError, match="injected"):
            await bench.write_in_thread(0, b"n" * 512)
        assert contents(bench.source) == before
        await bench.engine.shut_down()

    run(main())


def test_a_flush_that_fails_fails_the_job() -> None:
    async def main() -> None:
        bench = Bench()
        memory(bench.target).before = Broken("flush", 0)
        memory(bench.target).before = lambda operation, *_: (
            _fail() if operation == "flush" else None
        )
        snapshot = await bench.backed_up(auto_dismiss=False)
        assert snapshot.error == "Input/output error"

    run(main())


def _fail() -> None:
    raise OSError(errno.EIO, "injected")


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


# Bitmaps


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
        broken = Broken("write", 8 * UNIT)
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


# Transactions


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
        memory(to).before = Broken("write", 0)
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


# A filter by itself


def test_a_section_waits_for_a_copy_that_a_guest_gave_up() -> None:
    async def main() -> None:
        bench = Bench()
        gate = Gate("write")
        memory(bench.target).before = gate
        options = BlockdevOptionsCopyBeforeWrite(
            node_name="f", file="source", target="target", cbw_timeout=5
        )
        await bench.engine.execute(BlockdevAdd(options=options))
        await bench.graph.remove_client(bench.drive)  # it would write past the filter
        node = bench.graph.nodes["f"]
        node.driver._wait = lambda ended, seconds: gate.reached.wait(20) and False  # type: ignore[attr-defined]
        guest = Client("other")
        bench.graph.add_client(guest, node, permissions.WRITE, permissions.ALL)
        lane = guest.lane()

        def write() -> None:
            with lane:
                guest.roots[0].write(memoryview(b"n"), 0)

        with pytest.raises(OSError, match="timed out"):
            await bench.graph.in_lane_worker(write)
        entered = asyncio.Event()

        async def section() -> None:
            async with bench.graph.drained(bench.target):
                entered.set()

        drained = asyncio.ensure_future(section())
        for _ in range(20):
            await asyncio.sleep(0)
        assert not entered.is_set()
        gate.opened.set()
        await drained
        await bench.engine.shut_down()

    run(main())
