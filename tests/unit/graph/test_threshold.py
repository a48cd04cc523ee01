"""Write thresholds and how far writes have come: stages of a node's pipeline."""

from __future__ import annotations

import asyncio
from typing import Any

from monitor.engine.graph import edit
from monitor.engine.graph.graph import Graph
from monitor.engine.graph.node import Node
from monitor.engine.graph.threshold import WriteThreshold
from monitor.engine.graph.transaction import Transaction
from tests.support.graphs import Events, add, run


def watch(graph: Graph, node: Node, offset: int | None) -> None:
    with Transaction() as transaction:
        threshold = None if offset is None else WriteThreshold(offset, node, graph.emit)
        edit.set_threshold(transaction, node, threshold)
        graph.commit(transaction)


def crossing(end: int, offset: int) -> tuple[str, dict[str, Any]]:
    told = {"node-name": "n0", "amount-exceeded": end - offset, "write-threshold": offset}
    return "BLOCK_WRITE_THRESHOLD", told


def write(node: Node, offset: int, length: int) -> None:
    node.write(memoryview(bytes(length)), offset)


def test_it_goes_off_once_at_the_first_request_beyond() -> None:
    async def work() -> None:
        events = Events()
        graph = Graph(events)
        node = add(graph, "n0")
        watch(graph, node, 4096)
        write(node, 0, 4096)
        node.read(memoryview(bytearray(512)), 8192)
        await asyncio.sleep(0)
        assert events == []
        assert node.threshold is not None
        write(node, 4000, 100)
        await asyncio.sleep(0)
        assert events == [crossing(4100, 4096)]
        assert node.threshold is None
        write(node, 8192, 512)
        await asyncio.sleep(0)
        assert len(events) == 1

    run(work())


def test_zeroes_and_discards_cross_it_too() -> None:
    async def work() -> None:
        events = Events()
        graph = Graph(events)
        node = add(graph, "n0")
        watch(graph, node, 512)
        node.write_zeroes(512, 512, False, False)
        await asyncio.sleep(0)
        watch(graph, node, 513)
        node.discard(512, 512)
        await asyncio.sleep(0)
        assert events == [crossing(1024, 512), crossing(1024, 513)]

    run(work())


def test_threads_that_cross_it_together_are_told_once() -> None:
    async def work() -> None:
        events = Events()
        graph = Graph(events)
        node = add(graph, "n0")
        watch(graph, node, 1)
        loop = asyncio.get_running_loop()
        requests = (loop.run_in_executor(None, write, node, 0, 512) for _ in range(8))
        await asyncio.gather(*requests)
        await asyncio.sleep(0)
        assert events == [crossing(512, 1)]

    run(work())


def test_one_that_was_replaced_or_taken_away_is_silent() -> None:
    async def work() -> None:
        events = Events()
        graph = Graph(events)
        node = add(graph, "n0")
        watch(graph, node, 1)
        write(node, 0, 512)  # tells the loop, which comes too late
        watch(graph, node, 4096)
        await asyncio.sleep(0)
        assert node.threshold is not None
        watch(graph, node, None)
        write(node, 4096, 512)
        await asyncio.sleep(0)
        assert events == []

    run(work())


def test_a_change_that_fails_leaves_the_threshold_as_it_was() -> None:
    async def work() -> None:
        graph = Graph(Events())
        node = add(graph, "n0")
        watch(graph, node, 512)
        before = node.threshold
        transaction = Transaction()
        edit.set_threshold(transaction, node, None)
        transaction.abort()
        assert node.threshold is before

    run(work())


def test_nodes_note_how_far_writes_have_come() -> None:
    async def work() -> None:
        graph = Graph(Events())
        node = add(graph, "n0")
        assert node.highest_write.offset == 0
        write(node, 4096, 512)
        write(node, 0, 512)
        assert node.highest_write.offset == 4608
        node.write_zeroes(8192, 512, False, False)
        node.discard(16384, 512)
        node.read(memoryview(bytearray(512)), 32768)
        assert node.highest_write.offset == 8704
        watch(graph, node, 1)  # wired anew
        assert node.highest_write.offset == 8704

    run(work())
