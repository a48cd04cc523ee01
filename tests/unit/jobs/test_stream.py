"""block-stream on chains in memory: what is copied, and what becomes of the chain."""

from __future__ import annotations

import pytest

from monitor.engine.drivers.base import ExtentKind
from monitor.engine.schema.job import (
    JobDismiss,
)
from tests.support.graphs import run
from tests.support.in_memory import MIB
from tests.support.layers import CLUSTER, overlay, put
from tests.support.streams import Bench


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
