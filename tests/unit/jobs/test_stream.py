"""block-stream on chains in memory: what is copied while the guest writes, and its end."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.engine import permissions
from monitor.engine.api import JobSnapshot
from monitor.engine.clock import ManualClock
from monitor.engine.drivers.base import ExtentKind
from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import RequestError
from monitor.engine.graph.client import Client
from monitor.engine.graph.drive import Drive
from monitor.engine.graph.edit import FrozenLink, point
from monitor.engine.graph.node import Node
from monitor.engine.graph.transaction import Transaction
from monitor.engine.jobs.job import Job
from monitor.engine.jobs.stream import CHUNK
from monitor.engine.schema.graph import BlockdevDel
from monitor.engine.schema.job import (
    BlockJobCancel,
    BlockJobPause,
    BlockJobResume,
    BlockJobSetSpeed,
    JobDismiss,
    QueryBlockJobs,
)
from monitor.engine.schema.stream import BlockStream
from tests.support.graphs import run, shape
from tests.support.layers import CLUSTER, layer, overlay, put

MIB = 1 << 20


class Bench:
    """An engine on a clock that stands, with chains in memory."""

    def __init__(self) -> None:
        self.engine = EmbeddedEngine(ManualClock())
        self.graph = self.engine.graph
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.engine.subscribe(lambda event: self.events.append((event.name, dict(event.data))))

    def layer(self, name: str, size: int = MIB, below: Node | None = None, **kind: Any) -> Node:
        return layer(self.graph, name, size, below, **kind)

    def chain(self, size: int = MIB) -> tuple[Node, Node, Node]:
        """base <- mid <- top, with something in each."""
        base = self.layer("base", size)
        put(base, 0, b"b" * (size // 2))
        mid = self.layer("mid", size, base)
        put(mid, size // 4, b"m" * (size // 2))
        top = self.layer("top", size, mid)
        put(top, size // 2, b"t" * (size // 8))
        return base, mid, top

    async def stream(self, device: str = "top", job_id: str = "s0", **options: Any) -> Job:
        await self.engine.execute(BlockStream(job_id=job_id, device=device, **options))
        job = self.engine.job_table.find(job_id)
        assert job
        return job

    async def streamed(self, device: str = "top", **options: Any) -> JobSnapshot:
        """Streams and waits for the end."""
        await self.stream(device, **options)
        return await self.engine.job_ended("s0")

    def statuses(self) -> list[str]:
        return [data["status"] for name, data in self.events if name == "JOB_STATUS_CHANGE"]

    def named(self, name: str) -> list[dict[str, Any]]:
        return [data for event, data in self.events if event == name]

    def guest(self, node: Node) -> Client:
        drive = Drive("guest")
        taken = permissions.CONSISTENT_READ | permissions.WRITE
        self.graph.add_client(drive, node, taken, permissions.ALL)
        return drive

    async def refused(self, **options: Any) -> str:
        before, told = shape(self.graph), list(self.events)
        with pytest.raises(RequestError) as refusal:
            await self.stream(**options)
        assert shape(self.graph) == before
        assert self.engine.jobs() == [] or self.events == told
        return refusal.value.text


class BadPlace:
    """Fails one operation on one offset, until it is mended."""

    def __init__(self, operation: str, offset: int, code: int) -> None:
        self.operation, self.offset, self.code = operation, offset, code
        self.mended = False

    def __call__(self, operation: str, offset: int, length: int) -> None:
        hit = offset <= self.offset < offset + length
        if operation == self.operation and hit and not self.mended:
            raise OSError(self.code, "injected")


# What is copied


def test_a_whole_chain() -> None:
    async def main() -> None:
        bench = Bench()
        _base, mid, top = bench.chain()
        seen = overlay(top).contents()
        mid.monitor_owned = False
        snapshot = await bench.streamed()
        assert (snapshot.status, snapshot.current, snapshot.total) == ("null", MIB, MIB)
        assert top.backing is None
        assert overlay(top).links[-1] == (None, None)
        assert overlay(top).contents() == seen
        assert set(bench.graph.nodes) == {"base", "top"}  # nobody owned mid
        assert overlay(mid).closed
        assert not top.blockers
        assert top.overlap is None
        assert bench.statuses() == [
            "created", "running", "waiting", "pending", "concluded", "null",
        ]  # fmt: skip

    run(main())


def test_only_what_is_missing_is_copied() -> None:
    async def main() -> None:
        bench = Bench()
        _base, _mid, top = bench.chain()
        before = overlay(top).bytes_written
        await bench.streamed()
        # Half of the base is hidden by mid, a quarter of mid by top; mid's other half is a hole.
        assert overlay(top).bytes_written - before == MIB // 4 + MIB // 2 - MIB // 8
        kinds = {extent.kind for extent in top.map(MIB * 7 // 8, MIB // 8)}
        assert kinds == {ExtentKind.UNALLOCATED}

    run(main())


def test_down_to_a_base() -> None:
    async def main() -> None:
        bench = Bench()
        base, _mid, top = bench.chain()
        seen = overlay(top).contents()
        before = overlay(top).bytes_written
        await bench.streamed(base_node="base")
        assert top.backing is base
        assert overlay(top).links[-1] == ("/images/base", "overlay")
        assert overlay(top).contents() == seen
        assert overlay(top).bytes_written - before == MIB // 2 - MIB // 8

    run(main())


@pytest.mark.parametrize("name", ["/images/base", "base", "../images/base"])
def test_the_base_by_its_file(name: str) -> None:
    async def main() -> None:
        bench = Bench()
        base, _mid, top = bench.chain()
        await bench.streamed(base=name)
        assert top.backing is base

    run(main())


def test_the_bottom_by_its_node() -> None:
    async def main() -> None:
        bench = Bench()
        base, _mid, top = bench.chain()
        await bench.streamed(bottom="mid")
        assert top.backing is base

    run(main())


def test_the_backing_file_as_the_user_wants_it_written() -> None:
    async def main() -> None:
        bench = Bench()
        _base, _mid, top = bench.chain()
        await bench.streamed(base_node="base", backing_file="rel/base.img")
        assert overlay(top).links[-1] == ("rel/base.img", "overlay")

    run(main())


def test_nothing_between_top_and_base() -> None:
    async def main() -> None:
        bench = Bench()
        _base, mid, top = bench.chain()
        before = overlay(top).bytes_written
        snapshot = await bench.streamed(base_node="mid", backing_file="other")
        assert (snapshot.current, snapshot.total) == (0, 0)
        assert overlay(top).bytes_written == before
        assert top.backing is mid
        assert overlay(top).links[-1] == ("other", "overlay")

    run(main())


def test_an_intermediate_image() -> None:
    async def main() -> None:
        bench = Bench()
        base = bench.layer("base")
        put(base, 0, b"b" * MIB)
        mid = bench.layer("mid", MIB, base, read_only=True)
        top = bench.layer("top", MIB, mid)
        await bench.stream("mid", auto_dismiss=False)
        assert not mid.read_only  # for the job only
        await bench.engine.job_ended("s0")
        assert mid.read_only
        assert mid.backing is None
        assert overlay(top).contents() == b"b" * MIB
        await bench.engine.execute(JobDismiss(id="s0"))

    run(main())


@pytest.mark.parametrize("to_base", [False, True])
@pytest.mark.parametrize("can_zero", [False, True])
def test_zeroes_hide_what_lies_below(can_zero: bool, to_base: bool) -> None:
    async def main() -> None:
        bench = Bench()
        base = bench.layer("base")
        put(base, 0, b"b" * MIB)
        mid = bench.layer("mid", MIB, base)
        mid.driver.write_zeroes(MIB // 4, MIB // 2)
        put(mid, MIB // 4 - CLUSTER, bytes(CLUSTER))  # zeroes that are data
        top = bench.layer("top", MIB, mid, can_zero=can_zero)
        seen = overlay(top).contents()
        await bench.streamed(**{"base_node": "base"} if to_base else {})
        assert overlay(top).contents() == seen
        written = overlay(top).bytes_written
        if can_zero:
            assert written == (0 if to_base else MIB // 2)
        elif not to_base:
            assert written == MIB // 2  # with nothing below, a hole is as good

    run(main())


@pytest.mark.parametrize("to_base", [False, True])
def test_a_middle_that_is_shorter_than_its_neighbours(to_base: bool) -> None:
    """Beyond its end it hides the base, and must go on doing so when it is gone."""

    async def main() -> None:
        bench = Bench()
        base = bench.layer("base", MIB)
        put(base, 0, b"b" * MIB)
        mid = bench.layer("mid", MIB // 2 + 1000, base)
        put(mid, 0, b"m" * 5000)
        top = bench.layer("top", MIB + 3000, mid)
        seen = overlay(top).contents()
        await bench.streamed(**{"base_node": "base"} if to_base else {})
        assert overlay(top).contents() == seen

    run(main())


def test_clusters_of_different_sizes() -> None:
    async def main() -> None:
        bench = Bench()
        base = bench.layer("base", MIB, cluster=512)
        for at in range(0, MIB, 10_240):
            put(base, at, bytes([at // 10_240 + 1]) * 512)
        mid = bench.layer("mid", MIB, base, cluster=1024)
        mid.driver.write_zeroes(20_480, 50_000)
        top = bench.layer("top", MIB, mid, cluster=65_536)
        seen = overlay(top).contents()
        await bench.streamed()
        assert overlay(top).contents() == seen
        assert top.backing is None

    run(main())


# While the guest writes

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


# Errors


@pytest.mark.parametrize(
    ("where", "operation"), [("mid", "read"), ("mid", "map"), ("top", "map"), ("top", "write")]
)
def test_report_fails_the_job(operation: str, where: str) -> None:
    async def main() -> None:
        bench = Bench()
        _base, mid, top = bench.chain(4 * MIB)
        seen = overlay(top).contents()
        bad = BadPlace(operation, MIB, errno.EIO)
        overlay({"mid": mid, "top": top}[where]).before = bad
        snapshot = await bench.streamed(auto_dismiss=False)
        assert snapshot.error == "Input/output error"
        assert bench.named("BLOCK_JOB_ERROR") == [
            {"device": "s0", "operation": "read", "action": "report"}
        ]
        (done,) = bench.named("BLOCK_JOB_COMPLETED")
        assert done["error"] == "Input/output error"
        assert done["offset"] == MIB
        assert top.backing is mid
        bad.mended = True
        assert overlay(top).contents() == seen
        await bench.engine.execute(JobDismiss(id="s0"))
        assert not top.blockers
        assert (await bench.streamed()).status == "null"  # and once more, without the error
        assert overlay(top).contents() == seen
        assert top.backing is None

    run(main())


def test_ignore_goes_on_and_fails_in_the_end() -> None:
    async def main() -> None:
        bench = Bench()
        _base, mid, top = bench.chain(4 * MIB)
        overlay(mid).before = BadPlace("read", MIB, errno.EIO)
        snapshot = await bench.streamed(on_error="ignore", auto_dismiss=False)
        assert (snapshot.current, snapshot.total) == (4 * MIB, 4 * MIB)
        assert snapshot.error == "Input/output error"
        assert bench.named("BLOCK_JOB_ERROR")[0]["action"] == "ignore"
        assert top.backing is mid

    run(main())


@pytest.mark.parametrize(
    ("policy", "code", "io_status"),
    [
        ("stop", errno.EIO, "failed"),
        ("stop", errno.ENOSPC, "nospace"),
        ("enospc", errno.ENOSPC, "nospace"),
        ("auto", errno.ENOSPC, "nospace"),
    ],
)
def test_stop_waits_and_tries_again(policy: str, code: int, io_status: str) -> None:
    async def main() -> None:
        bench = Bench()
        _base, mid, top = bench.chain(4 * MIB)
        seen = overlay(top).contents()
        overlay(mid).before = bad = BadPlace("read", MIB, code)
        assert (await bench.streamed(on_error=policy)).status == "paused"
        (info,) = await bench.engine.execute(QueryBlockJobs())
        assert (info.io_status, info.paused, info.status) == (io_status, True, "paused")
        assert info.offset == MIB
        await bench.engine.execute(BlockJobResume(device="s0"))
        assert (await bench.engine.job_ended("s0")).status == "paused"  # it is still broken
        bad.mended = True
        await bench.engine.execute(BlockJobResume(device="s0"))
        assert (await bench.engine.job_ended("s0")).error is None
        assert top.backing is None
        assert overlay(top).contents() == seen
        assert [data["action"] for data in bench.named("BLOCK_JOB_ERROR")] == ["stop"] * 2

    run(main())


@pytest.mark.parametrize("policy", ["enospc", "auto"])
def test_other_errors_than_a_full_disk_are_reported(policy: str) -> None:
    async def main() -> None:
        bench = Bench()
        _base, mid, _top = bench.chain(MIB)
        overlay(mid).before = BadPlace("read", MIB // 4, errno.EIO)
        await bench.streamed(on_error=policy)
        assert bench.named("BLOCK_JOB_ERROR")[0]["action"] == "report"

    run(main())


def test_a_header_that_cannot_be_written_leaves_the_chain() -> None:
    async def main() -> None:
        bench = Bench()
        _base, mid, top = bench.chain()
        seen = overlay(top).contents()

        def fail(operation: str, offset: int, length: int) -> None:
            if operation == "set_backing":
                raise OSError(errno.ENOSPC, "injected")

        overlay(top).before = fail
        snapshot = await bench.streamed(auto_dismiss=False)
        assert snapshot.error == "No space left on device"
        assert top.backing is mid
        assert top.children["backing"].frozen is False
        overlay(top).before = None
        assert overlay(top).contents() == seen

    run(main())


# Speed, pause, cancel


def test_speed_is_kept_on_the_clock() -> None:
    async def main() -> None:
        bench = Bench()
        base = bench.layer("base", 4 * MIB)
        put(base, 0, b"b" * 4 * MIB)
        bench.layer("top", 4 * MIB, base)
        clock = bench.engine.clock
        assert isinstance(clock, ManualClock)
        copied: list[int] = []
        overlay(base).before = lambda operation, offset, _: (
            copied.append(offset) if operation == "read" else None
        )
        await bench.stream(speed=CHUNK)

        async def idle() -> None:
            job = bench.engine.job_table.find("s0")
            while job and not job._pausing.idle:
                await asyncio.sleep(0)

        await idle()
        for number in range(1, 4):
            assert bench.engine.jobs()[0].current == number * CHUNK
            clock.advance(1.0)
            await until(lambda n=number: bench.engine.jobs()[0].current > n * CHUNK)
            await idle()
        await bench.engine.execute(BlockJobSetSpeed(device="s0", speed=0))
        assert (await bench.engine.job_ended("s0")).current == 4 * MIB
        assert sorted(at // CHUNK for at in copied if at % CHUNK == 0) == [0, 1, 2, 3, 4, 6]

    run(main())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0)


def test_a_throttled_job_pauses_and_cancels_at_once() -> None:
    """The clock stands still: the next piece would be due in two weeks."""

    async def main() -> None:
        bench = Bench()
        base = bench.layer("base", 4 * MIB)
        put(base, 0, b"b" * 4 * MIB)
        top = bench.layer("top", 4 * MIB, base)
        await bench.stream(speed=1)
        await until(lambda: bench.engine.jobs()[0].current == CHUNK)
        await bench.engine.execute(BlockJobPause(device="s0"))
        assert (await bench.engine.job_ended("s0")).status == "paused"
        await bench.engine.execute(BlockJobResume(device="s0"))
        await bench.engine.execute(BlockJobCancel(device="s0"))
        assert (await bench.engine.job_ended("s0")).status == "null"
        (cancelled,) = bench.named("BLOCK_JOB_CANCELLED")
        assert cancelled["offset"] == CHUNK
        assert overlay(top).contents() == b"b" * 4 * MIB
        assert top.backing is base
        assert not top.children["backing"].frozen

    run(main())


def test_a_paused_job_copies_nothing() -> None:
    async def main() -> None:
        bench = Bench()
        base = bench.layer("base", 16 * MIB, cluster=65_536)
        put(base, 0, b"b" * 16 * MIB)
        reads: list[int] = []
        slow = threading.Event()

        def count(operation: str, offset: int, length: int) -> None:
            if operation == "read":
                reads.append(offset)
                slow.wait(0.001)

        overlay(base).before = count
        bench.layer("top", 16 * MIB, base, cluster=65_536)
        await bench.stream()
        await until(lambda: bool(reads))
        await bench.engine.execute(BlockJobPause(device="s0"))
        assert (await bench.engine.job_ended("s0")).status == "paused"
        stood, copied = bench.engine.jobs()[0].current, len(reads)
        assert stood < 16 * MIB
        for _ in range(100):
            await asyncio.sleep(0)
        assert (bench.engine.jobs()[0].current, len(reads)) == (stood, copied)
        slow.set()
        await bench.engine.execute(BlockJobResume(device="s0"))
        assert (await bench.engine.job_ended("s0")).current == 16 * MIB

    run(main())


def test_paused_when_all_is_under_way() -> None:
    """The last pieces come back while the job comes to rest; nothing is left to take after it."""

    async def main() -> None:
        bench = Bench()
        base = bench.layer("base", 2 * MIB)
        put(base, 0, b"b" * 2 * MIB)
        reads: list[int] = []
        go_on = threading.Event()

        def hold(operation: str, offset: int, length: int) -> None:
            if operation == "read":
                reads.append(offset)
                go_on.wait(20)

        overlay(base).before = hold
        bench.layer("top", 2 * MIB, base)
        await bench.stream()
        await until(lambda: len(reads) == 2)  # both pieces of the disk
        await bench.engine.execute(BlockJobPause(device="s0"))
        go_on.set()
        assert (await bench.engine.job_ended("s0")).status == "paused"
        await bench.engine.execute(BlockJobResume(device="s0"))
        ended = await bench.engine.job_ended("s0")
        assert (ended.error, ended.current) == (None, 2 * MIB)

    run(main())


def test_drained_sections_while_it_streams() -> None:
    async def main() -> None:
        bench = Bench()
        _base, mid, top = bench.chain(8 * MIB)
        seen = overlay(top).contents()
        in_flight: list[int] = []
        drained = threading.Event()

        def watch(operation: str, offset: int, length: int) -> None:
            assert not drained.is_set(), "a request inside the drained section"
            in_flight.append(offset)

        overlay(mid).before = watch
        job = await bench.stream()
        while not job.run_is_over:
            async with bench.graph.drained(mid):
                drained.set()
                for _ in range(10):  # the threads may run, and must do nothing
                    await asyncio.to_thread(os.sched_yield)
                drained.clear()
            await asyncio.sleep(0)
        await job.settled()
        overlay(mid).before = None
        assert overlay(top).contents() == seen

    run(main())


# Who is refused


def test_what_is_busy_says_so() -> None:
    async def main() -> None:
        bench = Bench()
        bench.chain()
        await bench.stream(speed=1)
        for device in ("top", "mid", "base"):
            text = await bench.refused(device=device, job_id="s1")
            assert text == f"Node '{device}' is busy: block device is in use by block job: stream"
            with pytest.raises(RequestError) as refusal:
                await bench.engine.execute(BlockdevDel(node_name=device))
            assert refusal.value.text == text
        await bench.engine.job_table.cancel_all()

    run(main())


def test_a_chain_above_a_streaming_one_is_refused_and_a_disjoint_one_is_not() -> None:
    async def main() -> None:
        bench = Bench()
        nodes = [bench.layer("n0")]
        for number in range(1, 5):
            nodes.append(bench.layer(f"n{number}", MIB, nodes[-1]))
        put(nodes[0], 0, b"0" * MIB)
        first = await bench.stream("n2", speed=1, base_node="n0")
        assert "Node 'n2' is busy" in await bench.refused(device="n4", job_id="s1")
        await bench.engine.execute(
            BlockStream(job_id="s1", device="n4", base_node="n2", auto_dismiss=False)
        )
        assert (await bench.engine.job_ended("s1")).error is None
        assert nodes[4].backing is nodes[2]
        await first.settled()
        assert nodes[2].backing is nodes[0]

    run(main())


def test_mistakes_in_qemus_words() -> None:
    async def main() -> None:
        bench = Bench()
        bench.chain()
        bench.layer("other")
        cases: list[tuple[dict[str, Any], str]] = [
            ({"device": "nope"}, "Cannot find device='nope' nor node-name='nope'"),
            (
                {"base": "base", "base_node": "base"},
                "'base' and 'base-node' cannot be specified at the same time",
            ),
            (
                {"base": "base", "bottom": "mid"},
                "'base' and 'bottom' cannot be specified at the same time",
            ),
            (
                {"bottom": "mid", "base_node": "base"},
                "'bottom' and 'base-node' cannot be specified at the same time",
            ),
            ({"base": "nope"}, "Can't find 'nope' in the backing chain"),
            ({"base_node": "other"}, "Node 'other' is not a backing image of 'top'"),
            ({"base_node": "top"}, "Node 'top' is not a backing image of 'top'"),
            ({"base_node": "nope"}, "Cannot find device='' nor node-name='nope'"),
            ({"bottom": "other"}, "Node 'other' is not in a chain starting from 'top'"),
            ({"backing_file": "x"}, "backing file specified, but streaming the entire chain"),
            ({"job_id": "0"}, "Invalid job ID '0'"),
            ({"speed": -1}, "Parameter 'speed' expects a non-negative value"),
        ]
        for options, text in cases:
            assert await bench.refused(**options) == text
        assert bench.engine.jobs() == []

    run(main())


def test_the_drive_names_the_job() -> None:
    async def main() -> None:
        bench = Bench()
        _base, _mid, top = bench.chain()
        with pytest.raises(RequestError, match="Invalid job ID ''"):
            await bench.engine.execute(BlockStream(device="top"))
        drive = Drive("d0")
        bench.graph.drives["d0"] = drive
        bench.graph.add_client(drive, top, permissions.CONSISTENT_READ, permissions.ALL)
        await bench.engine.execute(BlockStream(device="d0", auto_dismiss=False))
        assert [job.id for job in bench.engine.jobs()] == ["d0"]
        await bench.engine.job_ended("d0")

    run(main())


def test_a_permission_conflict_leaves_no_job() -> None:
    async def main() -> None:
        bench = Bench()
        _base, mid, top = bench.chain()
        jealous = Drive("jealous")
        bench.graph.add_client(jealous, top, 0, permissions.ALL & ~permissions.WRITE_UNCHANGED)
        text = await bench.refused()
        assert text == (
            "Permission conflict on node 'top': permissions 'write unchanged' are both required "
            "by stream job 's0' (uses node 'top' as 'main node' child) and unshared by "
            "block device 'jealous' (uses node 'top' as 'root' child)."
        )
        assert bench.statuses() == ["created", "null"]
        assert not top.blockers + mid.blockers
        assert not top.children["backing"].frozen
        assert top.overlap is None

    run(main())


def test_nobody_leads_the_chain_elsewhere() -> None:
    async def main() -> None:
        bench = Bench()
        base, _mid, top = bench.chain()
        await bench.stream(speed=1)
        with pytest.raises(FrozenLink) as refusal, Transaction() as transaction:
            point(transaction, top.children["backing"], base)
        assert refusal.value.text == "Cannot change frozen 'backing' link from 'top' to 'mid'"
        await bench.engine.job_table.cancel_all()
        with Transaction() as transaction:
            point(transaction, top.children["backing"], base)

    run(main())


def test_shutting_down_ends_it_and_keeps_the_chain_valid() -> None:
    async def main() -> None:
        bench = Bench()
        _base, mid, top = bench.chain(8 * MIB)
        seen = overlay(top).contents()
        await bench.stream()
        await bench.engine.shut_down()
        assert bench.graph.nodes == {}
        assert overlay(top).closed
        assert overlay(mid).closed
        if overlay(top).links[-1] == (None, None):  # it may have been quicker
            overlay(top).attach_backing(None)
        assert overlay(top).contents() == seen

    run(main())
