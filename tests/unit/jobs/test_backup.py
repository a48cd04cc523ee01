"""Backups in memory: what targets hold while guests write."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import threading
from collections.abc import Iterator

import pytest

from monitor.engine import permissions
from monitor.engine.drivers.blockcopy import UNIT
from monitor.engine.drivers.memory import MemoryDriver
from monitor.engine.graph.client import Client
from monitor.engine.jobs.state import VerbRefused
from monitor.engine.schema.blockdev import BlockdevOptionsCopyBeforeWrite
from monitor.engine.schema.graph import BlockdevAdd
from monitor.engine.schema.job import (
    BlockJobSetSpeed,
    JobCancel,
)
from tests.support.backups import SIZE, Bench, contents, memory
from tests.support.graphs import add, run, shape
from tests.support.in_memory import Gate
from tests.support.layers import layer, overlay, put


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
        node.driver._late._wait = lambda ended, seconds: gate.reached.wait(20) and False  # type: ignore[attr-defined]
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
