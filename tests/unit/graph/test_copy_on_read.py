"""Copy-on-read: what is read is taken over, once, and never over what somebody has written."""

from __future__ import annotations

import asyncio
import errno
import random
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.engine import permissions
from monitor.engine.drivers.base import ExtentKind
from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import RequestError
from monitor.engine.graph.client import Client
from monitor.engine.graph.copy_on_read import CopyOnRead, begin
from monitor.engine.graph.edge import Edge
from monitor.engine.graph.graph import Graph
from monitor.engine.graph.modes import make_read_only, switch
from monitor.engine.graph.node import Node
from monitor.engine.graph.opening import Opening
from monitor.engine.graph.snapshot import put_overlay
from monitor.engine.graph.transaction import Transaction
from monitor.engine.schema.blockdev import (
    BlockdevOptionsBlkdebug,
    BlockdevOptionsCopyOnRead,
    BlockdevOptionsRaw,
)
from monitor.engine.schema.graph import BlockdevDel
from tests.support.graphs import run
from tests.support.layers import CLUSTER, layer, overlay, put

SIZE = 64 * CLUSTER
READ_WRITE = permissions.CONSISTENT_READ | permissions.WRITE


class Chain:
    """base <- mid <- top; the base is full, mid holds the third quarter, top nothing."""

    def __init__(self, **top: Any) -> None:
        self.engine = EmbeddedEngine()
        self.graph: Graph = self.engine.graph
        self.base = layer(self.graph, "base", SIZE)
        put(self.base, 0, b"b" * SIZE)
        self.mid = layer(self.graph, "mid", SIZE, self.base)
        put(self.mid, SIZE // 2, b"m" * (SIZE // 4))
        self.top = layer(self.graph, "top", SIZE, self.mid, **top)

    async def filter(self, name: str = "c", file: str = "top", **options: Any) -> Node:
        given = BlockdevOptionsCopyOnRead(node_name=name, file=file, **options)
        async with self.graph.turn, Opening(self.graph) as opening:
            node = await opening.open(given)
            node.monitor_owned = True
        return node

    def client(self, node: Node, taken: int = READ_WRITE) -> Client:
        client = Client()
        self.graph.add_client(client, node, taken, permissions.ALL)
        return client

    def held(self, node: Node | None = None) -> list[int]:
        """The clusters that ``node``, the top, holds."""
        node = node or self.top
        return [
            number
            for number, extent in enumerate(node.map(0, SIZE))
            if extent.kind is not ExtentKind.UNALLOCATED
        ]


def read(node: Node, offset: int, length: int) -> bytes:
    data = bytearray(length)
    node.read(memoryview(data), offset)
    return bytes(data)


def test_what_is_read_is_taken_over_in_whole_clusters() -> None:
    async def main() -> None:
        chain = Chain()
        node = await chain.filter()
        assert read(node, CLUSTER + 10, CLUSTER) == b"b" * CLUSTER
        assert chain.held() == [1, 2]
        written = overlay(chain.top).bytes_written
        assert read(node, CLUSTER, 2 * CLUSTER) == b"b" * 2 * CLUSTER
        assert overlay(chain.top).bytes_written == written
        assert read(chain.top, 5 * CLUSTER, 1) == b"b"
        assert chain.held() == [1, 2]  # what is read past the filter is not

    run(main())


def test_down_to_the_bottom() -> None:
    async def main() -> None:
        chain = Chain()
        node = await chain.filter(bottom="mid")
        seen = read(node, 0, SIZE)
        assert chain.held() == list(range(32, 48))
        assert seen == overlay(chain.top).contents()

    run(main())


def test_the_image_itself_as_the_bottom() -> None:
    """There is nothing to copy from. QEMU 7.2 copies everything, or dies."""

    async def main() -> None:
        chain = Chain()
        node = await chain.filter(bottom="top")
        assert read(node, 0, SIZE) == overlay(chain.top).contents()
        assert chain.held() == []

    run(main())


def test_the_bottom_lies_below() -> None:
    async def main() -> None:
        chain = Chain()
        layer(chain.graph, "elsewhere", SIZE)
        with pytest.raises(RequestError) as refusal:
            await chain.filter(bottom="elsewhere")
        assert refusal.value.text == "Bottom node 'elsewhere' is not in the chain below 'c'"
        assert "c" not in chain.graph.nodes
        assert chain.top.overlap is None
        assert not chain.top.children["backing"].frozen

    run(main())


@pytest.mark.parametrize("can_zero", [False, True])
def test_zeroes_that_nothing_holds_are_taken_over(can_zero: bool) -> None:
    async def main() -> None:
        chain = Chain()
        alone = layer(chain.graph, "alone", SIZE, can_zero=can_zero)
        node = await chain.filter("d", "alone")
        assert read(node, 10, SIZE - 20) == bytes(SIZE - 20)
        assert chain.held(alone) == list(range(64))
        assert overlay(alone).bytes_written == (0 if can_zero else SIZE)

    run(main())


def test_an_image_longer_than_what_lies_below() -> None:
    async def main() -> None:
        chain = Chain()
        long = layer(chain.graph, "long", SIZE + 5000, chain.top)
        node = await chain.filter("d", "long")
        assert read(node, SIZE - 100, 5100) == b"b" * 100 + bytes(5000)
        assert overlay(long).contents() == b"b" * (SIZE // 2) + b"m" * (SIZE // 4) + b"b" * (
            SIZE // 4
        ) + bytes(5000)

    run(main())


@pytest.mark.parametrize("operation", ["write", "map"])
def test_where_it_cannot_be_taken_over_the_read_fails(operation: str) -> None:
    async def main() -> None:
        def fail(what: str, offset: int, length: int) -> None:
            if what == operation and offset <= CLUSTER < offset + length:
                raise OSError(errno.ENOSPC, "no room")

        chain = Chain(before=fail)
        node = await chain.filter()
        with pytest.raises(OSError, match="no room"):
            read(node, CLUSTER, 10)
        assert read(node, 2 * CLUSTER, 10) == b"b" * 10
        assert read(chain.top, CLUSTER, 10) == b"b" * 10

    run(main())


def test_a_write_while_it_is_taken_over_waits() -> None:
    """Past the filter too: the reader has read the old data and has not written it yet."""

    async def main() -> None:
        chain = Chain()
        node = await chain.filter()
        reading, go_on, wrote = threading.Event(), threading.Event(), threading.Event()

        def hold(what: str, offset: int, length: int) -> None:
            if what == "read" and offset <= CLUSTER < offset + length:
                reading.set()
                assert go_on.wait(10)

        overlay(chain.base).before = hold
        reader, writer = chain.client(node), chain.client(chain.top)

        def write() -> None:
            writer.roots[0].write(memoryview(b"new"), CLUSTER)
            wrote.set()

        loop = asyncio.get_running_loop()
        seen = bytearray(10)
        under_way = loop.run_in_executor(None, reader.roots[0].read, memoryview(seen), CLUSTER)
        await loop.run_in_executor(None, reading.wait, 10)
        writing = loop.run_in_executor(None, write)
        ranges = chain.top.overlap
        assert ranges is not None
        while ranges.in_flight < 2:
            await asyncio.sleep(0)
        assert not wrote.is_set()
        go_on.set()
        await asyncio.gather(under_way, writing)
        assert overlay(chain.top).contents()[CLUSTER : CLUSTER + 4] == b"newb"

    run(main())


def test_nothing_that_is_written_is_lost() -> None:
    """Readers through the filter and writers on both sides of it, against a model."""

    async def main() -> None:
        chain = Chain()
        node = await chain.filter(bottom="base")
        model = bytearray(overlay(chain.top).contents())
        go = threading.Event()

        def write(edge: Edge, first: int, seed: int) -> None:
            chance = random.Random(seed)
            go.wait()
            for _ in range(300):  # in turn halves of a cluster, so that all share clusters
                offset = chance.randrange(0, SIZE, CLUSTER) + first
                data = chance.randbytes(CLUSTER // 2 - 7)
                if chance.random() < 0.2:
                    data = bytes(len(data))
                    edge.write_zeroes(offset, len(data), False, False)
                else:
                    edge.write(memoryview(data), offset)
                model[offset : offset + len(data)] = data

        def look(edge: Edge, seed: int) -> None:
            chance = random.Random(seed)
            buffer = bytearray(3 * CLUSTER)
            go.wait()
            for _ in range(300):
                edge.read(memoryview(buffer), chance.randrange(SIZE - len(buffer)))

        loop = asyncio.get_running_loop()
        past, through = chain.client(chain.top).roots[0], chain.client(node).roots[0]
        work = [
            loop.run_in_executor(None, write, past, 0, 1),
            loop.run_in_executor(None, write, through, CLUSTER // 2, 2),
            *(loop.run_in_executor(None, look, through, seed) for seed in (3, 4)),
        ]
        go.set()
        await asyncio.gather(*work)
        assert overlay(chain.top).contents() == bytes(model)
        assert read(node, 0, SIZE) == bytes(model)

    run(main())


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["read", "write", "zero", "past"]),
            st.integers(0, SIZE - 1),
            st.integers(1, 5 * CLUSTER),
        ),
        max_size=12,
    ),
    st.sampled_from([None, "mid", "base"]),
)
def test_it_shows_what_the_image_shows(
    requests: list[tuple[str, int, int]], bottom: str | None
) -> None:
    async def main() -> None:
        chain = Chain()
        node = await chain.filter(**({"bottom": bottom} if bottom else {}))
        model = bytearray(overlay(chain.top).contents())
        for number, (kind, offset, length) in enumerate(requests):
            length = min(length, SIZE - offset)
            if kind == "read":
                assert read(node, offset, length) == model[offset : offset + length]
                continue
            data = bytes(length) if kind == "zero" else bytes([number + 1]) * length
            if kind == "zero":
                node.write_zeroes(offset, length, False, False)
            else:
                (chain.top if kind == "past" else node).write(memoryview(data), offset)
            model[offset : offset + length] = data
        assert overlay(chain.top).contents() == bytes(model)

    run(main())


def test_it_goes_with_the_image() -> None:
    """A snapshot puts another image in the place of the one that was filled."""

    async def main() -> None:
        chain = Chain()
        node = await chain.filter()
        new = layer(chain.graph, "new", SIZE)
        async with chain.graph.drained(chain.top, new):
            with Transaction() as edits:
                put_overlay(chain.graph, edits, chain.top, new)
                chain.graph.commit(edits)
        assert node.below() is new
        assert chain.top.overlap is None
        assert read(node, SIZE // 2, 1) == b"m"
        assert chain.held(new) == [32]
        assert chain.held() == []

    run(main())


def test_what_an_aborted_snapshot_leaves() -> None:
    async def main() -> None:
        chain = Chain()
        node = await chain.filter()
        new = layer(chain.graph, "new", SIZE)
        async with chain.graph.drained(chain.top, new):
            edits = Transaction()
            put_overlay(chain.graph, edits, chain.top, new)
            edits.abort()
            chain.graph.rewire(edits)
        assert node.below() is chain.top
        assert new.overlap is None
        read(node, 0, 1)
        assert chain.held() == [0]

    run(main())


def test_two_of_them_and_what_is_left_when_they_go() -> None:
    async def main() -> None:
        chain = Chain()
        await chain.filter("c", bottom="mid")
        await chain.filter("d", "c")
        backing = chain.top.children["backing"]
        assert backing.frozen
        ranges = chain.top.overlap
        await chain.engine.execute(BlockdevDel(node_name="d"))
        assert chain.top.overlap is ranges is not None
        await chain.engine.execute(BlockdevDel(node_name="c"))
        assert chain.top.overlap is None
        assert not backing.frozen

    run(main())


def test_an_image_of_a_drive_stays_writable() -> None:
    """As one that copies on read must: a snapshot leaves it so, and nobody turns it read-only."""

    async def main() -> None:
        chain = Chain()
        await begin(chain.graph, chain.top, CopyOnRead())
        with pytest.raises(RequestError) as refusal:
            await switch(chain.graph, chain.top, read_only=True)
        assert refusal.value.text == "Can't set node 'top' to r/o with copy-on-read enabled"
        await make_read_only(chain.graph, chain.top)
        assert not chain.top.read_only
        read(chain.top, 0, 1)
        assert chain.held() == [0]

    run(main())


def test_what_lies_between_hands_it_on() -> None:
    """Filters, and formats that add nothing. QEMU 7.2 dies where the outermost one copies."""

    async def main() -> None:
        chain = Chain()
        raw = BlockdevOptionsRaw(node_name="raw", file="top")
        async with chain.graph.turn, Opening(chain.graph) as opening:
            node = await opening.open(BlockdevOptionsBlkdebug(node_name="bug", image=raw))
            await begin(chain.graph, node, CopyOnRead())
            assert read(node, 0, 1) == b"b"
            assert chain.held() == [0]
        assert chain.top.overlap is None

    run(main())


def test_an_image_that_cannot_be_written_to_is_only_read() -> None:
    """A drive's root is a filter over it. QEMU 7.2 dies."""

    async def main() -> None:
        chain = Chain(read_only=True)
        await begin(chain.graph, chain.top, CopyOnRead())
        assert read(chain.top, 0, 1) == b"b"
        assert chain.held() == []
        assert chain.top.overlap is None

    run(main())
