"""Lanes and drained sections: nobody is in flight inside, and no wake-up is lost."""

from __future__ import annotations

import asyncio
import threading

import pytest

from monitor.engine import permissions
from monitor.engine.graph import client as client_module
from monitor.engine.graph.client import Client, Lane, LockedLane
from monitor.engine.graph.graph import Graph
from tests.support.graphs import Events, add, put_above, reader, run


class SlowGate(Client):
    """Stops a lane between its two steps: after it set ``busy``, before it looks at ``closed``."""

    def __init__(self) -> None:
        self._closed = 0
        self.looking = threading.Event()
        self.go_on = threading.Event()
        self.slow = False
        super().__init__("slow")

    @property
    def closed(self) -> int:  # type: ignore[override]
        if self.slow and threading.current_thread() is not threading.main_thread():
            self.slow = False
            self.looking.set()
            assert self.go_on.wait(10)
        return self._closed

    @closed.setter
    def closed(self, value: int) -> None:
        self._closed = value


def test_a_lane_that_was_between_its_steps_is_waited_for() -> None:
    async def main() -> None:
        graph = Graph(Events())
        node = add(graph, "n0")
        client = SlowGate()
        graph.add_client(client, node, 0, 15)
        entered = threading.Event()

        def work() -> None:
            with client.lane():
                entered.set()

        client.slow = True
        thread = threading.Thread(target=work)
        thread.start()
        await asyncio.to_thread(client.looking.wait, 10)

        section = graph.drained(node)
        drain = asyncio.ensure_future(section.__aenter__())
        await asyncio.sleep(0)
        assert not drain.done()  # the lane says busy, so the section may not begin
        client.go_on.set()
        await drain
        assert not entered.is_set()  # it saw the gate closed and held back
        await section.__aexit__(None, None, None)
        await asyncio.to_thread(thread.join, 10)
        assert entered.is_set()

    run(main())


@pytest.mark.parametrize("kind", [Lane, LockedLane])
def test_sections_and_requests_exclude_each_other(
    monkeypatch: pytest.MonkeyPatch, kind: type[Lane]
) -> None:
    monkeypatch.setattr(client_module, "GIL", kind is Lane)

    async def main() -> None:
        graph = Graph(Events())
        node = add(graph, "n0")
        client = reader(graph, node)
        inside, stop, seen = [0], threading.Event(), []

        def work() -> None:
            lane = client.lane()
            while not stop.is_set():
                with lane:
                    inside[0] += 1
                    client.roots[0].read(memoryview(bytearray(512)), 0)
                    inside[0] -= 1
            client.drop_lane(lane)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            for _ in range(300):
                async with graph.drained(node):
                    seen.append(inside[0])
                    await asyncio.sleep(0)
                    seen.append(inside[0])
        finally:
            stop.set()
            await asyncio.to_thread(thread.join, 10)
        assert not any(seen)

    run(main())


def test_a_request_that_never_returns_holds_the_section_and_only_that() -> None:
    async def main() -> None:
        graph = Graph(Events())
        stuck, other = add(graph, "stuck"), add(graph, "other")
        client, free = reader(graph, stuck), reader(graph, other)
        release, holding = threading.Event(), threading.Event()

        def hang() -> None:
            with client.lane():
                holding.set()
                release.wait(10)

        thread = threading.Thread(target=hang)
        thread.start()
        await asyncio.to_thread(holding.wait, 10)
        section = graph.drained(stuck)
        drain = asyncio.ensure_future(section.__aenter__())
        async with graph.drained(other):
            assert free.closed == 1
        assert not drain.done()
        release.set()
        await drain
        await section.__aexit__(None, None, None)
        await asyncio.to_thread(thread.join, 10)

    run(main())


def test_a_section_reaches_clients_of_the_nodes_above_and_nests() -> None:
    async def main() -> None:
        graph = Graph(Events())
        base, top = add(graph, "base"), add(graph, "top")
        put_above(graph, top, base)
        client = reader(graph, top)
        async with graph.drained(base):
            async with graph.drained(base, top):
                assert client.closed == 2
            assert client.closed == 1
        assert client.closed == 0

    run(main())


def test_a_cancelled_drain_opens_the_gates_again() -> None:
    async def main() -> None:
        graph = Graph(Events())
        node = add(graph, "n0")
        client = reader(graph, node)
        lane = client.lane()
        with lane:
            drain = asyncio.ensure_future(graph.drained(node).__aenter__())
            await asyncio.sleep(0)
            drain.cancel()
            with pytest.raises(asyncio.CancelledError):
                await drain
        assert client.closed == 0
        with lane:
            assert lane.busy

    run(main())


def test_two_sections_on_one_client_are_both_woken() -> None:
    async def main() -> None:
        graph = Graph(Events())
        node = add(graph, "n0")
        client = reader(graph, node)
        lane = client.lane()
        with lane:
            sections = [graph.drained(node), graph.drained(node)]
            drains = [asyncio.ensure_future(section.__aenter__()) for section in sections]
            await asyncio.sleep(0)
        for section, drain in zip(sections, drains, strict=True):
            await drain
            await section.__aexit__(None, None, None)
        assert client.closed == 0

    run(main())


def test_requests_that_wait_at_the_gate_leave_the_section_its_workers() -> None:
    async def main() -> None:
        graph = Graph(Events())
        node = add(graph, "n0")
        client = reader(graph, node)

        def request() -> None:
            lane = client.lane()
            with lane:
                client.roots[0].read(memoryview(bytearray(16)), 0)
            client.drop_lane(lane)

        async with graph.drained(node):
            waiting = [asyncio.ensure_future(graph.in_lane_worker(request)) for _ in range(50)]
            await asyncio.sleep(0)
            await graph.in_worker(node.truncate, 1 << 21)
        await asyncio.gather(*waiting)
        assert node.length() == 1 << 21

    run(main())


def test_who_has_only_read_goes_while_others_are_in_flight() -> None:
    """A look at a guest's disk does not wait for the guest, nor the guest for the look; whoever
    could write does wait."""

    async def main() -> None:
        graph = Graph(Events())
        node = add(graph, "n0")
        guest = reader(graph, node)
        lane = guest.lane()
        with lane:
            passing = Client()
            graph.add_client(passing, node, permissions.CONSISTENT_READ, permissions.ALL)
            passing.drop_lane(passing.lane())
            await asyncio.wait_for(graph.remove_client(passing), 10)
            assert [edge.parent for edge in node.parents] == [guest]
            writer = Client()
            graph.add_client(writer, node, permissions.WRITE, permissions.ALL)
            going = asyncio.ensure_future(graph.remove_client(writer))
            for _ in range(10):
                await asyncio.sleep(0)
            assert not going.done()
        await going
        guest.drop_lane(lane)
        await graph.remove_client(guest)

    run(main())


def test_who_has_a_lane_is_waited_for_though_it_only_reads() -> None:
    async def main() -> None:
        graph = Graph(Events())
        node = add(graph, "n0")
        guest = reader(graph, node)
        lane = guest.lane()
        with lane:
            going = asyncio.ensure_future(graph.remove_client(guest))
            for _ in range(10):
                await asyncio.sleep(0)
            assert not going.done()
        await going

    run(main())


def test_who_comes_within_a_section_waits_for_its_end() -> None:
    async def main() -> None:
        graph = Graph(Events())
        node, client = add(graph, "n0"), Client("late")
        done = threading.Event()

        def read() -> None:
            lane = client.lane()
            with lane:
                client.roots[0].read(memoryview(bytearray(1)), 0)
            done.set()

        async with graph.drained(node):
            graph.add_client(client, node, permissions.CONSISTENT_READ, permissions.ALL)
            reading = asyncio.ensure_future(asyncio.to_thread(read))
            while not client.lanes:
                await asyncio.sleep(0)
            assert client.closed
            assert not done.is_set()
        await reading
        assert done.is_set()

    run(main())
