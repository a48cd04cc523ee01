"""block-stream while a guest writes: the disk is what the guest makes it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from monitor.engine.drivers.base import ExtentKind
from monitor.engine.graph.client import Client
from monitor.engine.graph.node import Node
from monitor.engine.schema.job import BlockJobPause
from tests.support.graphs import run
from tests.support.in_memory import MIB, until
from tests.support.layers import CLUSTER, overlay, put
from tests.support.streams import Bench

ranges = st.tuples(st.integers(0, 255), st.integers(1, 40)).map(
    lambda pair: (pair[0] * 1024, min(pair[1] * 1024, 256 * 1024 - pair[0] * 1024))
)
layers_held = st.lists(st.lists(ranges, max_size=4), min_size=2, max_size=4)
guest_writes = st.lists(
    st.tuples(st.sampled_from(["write", "write_zeroes"]), ranges), min_size=1, max_size=30
)


@given(layers_held, guest_writes, st.integers(0, 3))
def test_the_guest_wins(
    held: list[list[tuple[int, int]]],
    writes: list[tuple[str, tuple[int, int]]],
    base_at: int,
) -> None:
    """Any chain, streamed to any base while a guest writes: the disk is what the guest made it."""
    size = 256 * 1024

    async def main() -> None:
        bench = Bench()
        node: Node | None = None
        names = [f"l{number}" for number in range(len(held))]
        for number, (name, runs) in enumerate(zip(names, held, strict=True)):
            node = bench.layer(name, size, node)
            for at, length in runs:
                put(node, at, bytes([number + 1]) * length)
        top = node
        assert top
        model = bytearray(overlay(top).contents())
        guest = bench.guest(top)
        options = {} if base_at >= len(names) - 1 else {"base_node": names[base_at]}

        def write_all() -> None:
            lane, root = guest.lane(), guest.roots[0]
            for number, (operation, (at, length)) in enumerate(writes):
                data = bytes([100 + number]) * length
                with lane:
                    if operation == "write":
                        root.write(memoryview(data), at)
                    else:
                        data = bytes(length)
                        root.write_zeroes(at, length, False, False)
                model[at : at + length] = data

        # The backing images are slow, so that the guest's writes fall between looking and filling.
        def slowly(operation: str, offset: int, length: int) -> None:
            if operation == "read":
                threading.Event().wait(0.0005)

        for name in names[:-1]:
            overlay(bench.graph.nodes[name]).before = slowly
        job = await bench.stream(names[-1], **options)
        await asyncio.get_running_loop().run_in_executor(None, write_all)
        await job.settled()
        for name in names[:-1]:
            overlay(bench.graph.nodes[name]).before = None
        assert overlay(top).contents() == bytes(model)

    run(main())


def test_what_the_guest_reads_is_taken_over() -> None:
    """Through the job's filter, and no further down than the job goes."""

    async def main() -> None:
        bench = Bench()
        _base, mid, top = bench.chain()
        guest = bench.guest(top)
        await bench.stream(speed=1, base_node="base")
        await bench.engine.execute(BlockJobPause(device="s0"))
        assert (await bench.engine.job_ended("s0")).status == "paused"
        edge = guest.roots[0]
        assert edge.child is not top
        at = 3 * MIB // 4 - CLUSTER  # which mid holds
        assert top.map(at, CLUSTER)[0].kind is ExtentKind.UNALLOCATED
        for offset in (at, MIB - CLUSTER):
            edge.read(memoryview(bytearray(100)), offset)
        kinds = [top.map(offset, CLUSTER)[0].kind for offset in (at, MIB - CLUSTER)]
        assert kinds == [ExtentKind.DATA, ExtentKind.UNALLOCATED]
        await bench.engine.job_table.cancel_all()
        assert edge.child is top
        assert top.backing is mid

    run(main())


def test_a_write_between_looking_and_filling_waits() -> None:
    """The window, held open by hand: the job has read the old data and has not written it yet."""

    async def main() -> None:
        bench = Bench()
        _base, mid, top = bench.chain()
        reading, go_on = threading.Event(), threading.Event()

        def hold(operation: str, offset: int, length: int) -> None:
            if operation == "read" and offset <= MIB // 4 < offset + length:
                reading.set()
                assert go_on.wait(10)

        guest = bench.guest(top)
        lane, root = guest.lane(), guest.roots[0]
        overlay(mid).before = hold
        await bench.stream()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, reading.wait, 10)
        written: list[str] = []

        def write() -> None:
            with lane:
                root.write(memoryview(b"guest"), MIB // 4)
            written.append("guest")

        busy = loop.run_in_executor(None, write)
        with lane_of_another(guest) as other:
            other.write(memoryview(b"far away"), MIB - 100)  # which does not wait
        assert top.overlap is not None
        await until(lambda: top.overlap is not None and top.overlap.in_flight == 2)
        assert written == []
        go_on.set()
        await busy
        await bench.engine.job_ended("s0")
        assert overlay(top).contents()[MIB // 4 : MIB // 4 + 6] == b"guestm"

    run(main())


def test_a_write_after_the_look_stays() -> None:
    """Scattered clusters are filled together; a guest wrote one of them, and a gap, after the job
    had looked what is missing."""

    async def main() -> None:
        bench = Bench()
        base = bench.layer("base")
        for at in range(0, MIB, 4 * CLUSTER):
            put(base, at, b"b" * CLUSTER)
        top = bench.layer("top", below=base)
        guest = bench.guest(top)
        model = bytearray(overlay(top).contents())
        places = [8 * CLUSTER, 9 * CLUSTER + 100, 16 * CLUSTER - 2]

        def write() -> None:
            with lane_of_another(guest) as root:
                for at in places:
                    root.write(memoryview(b"guest"), at)

        def look(operation: str, offset: int, length: int) -> None:
            if operation == "map":
                overlay(base).before = None
                writer = threading.Thread(target=write)
                writer.start()
                writer.join(20)

        overlay(base).before = look
        snapshot = await bench.streamed()
        assert snapshot.error is None
        assert snapshot.current == snapshot.total == MIB
        for at in places:
            model[at : at + 5] = b"guest"
        assert overlay(top).contents() == model
        assert top.map(5 * CLUSTER, CLUSTER)[0].kind is ExtentKind.UNALLOCATED

    run(main())


class lane_of_another:
    """A lane of the same client, for the test's own thread."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __enter__(self) -> Any:
        self._lane = self._client.lane()
        self._lane.__enter__()
        return self._client.roots[0]

    def __exit__(self, *reason: Any) -> None:
        self._lane.__exit__(None, None, None)
        self._client.drop_lane(self._lane)
