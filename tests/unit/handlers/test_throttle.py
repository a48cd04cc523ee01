"""Limits of drives through requests: who waits, who shares them, and when they end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec import UNSET

from monitor.engine.clock import ManualClock
from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import DeviceNotFound, RequestError
from monitor.engine.graph.graph import LANE_WORKERS
from monitor.engine.schema.base import request_types
from monitor.engine.schema.decode import decode
from monitor.engine.schema.extra import DriveAdd, DriveDel, IoRequest
from monitor.engine.schema.query import QueryBlock
from monitor.engine.schema.stats import QueryBlockstats
from monitor.engine.throttle import WAITING

NONE = dict.fromkeys(("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"), 0)


def limited(**limits: Any) -> Any:
    return decode(request_types()["block_set_io_throttle"], {**NONE, **limits})


class Guests:
    """Reads of a megabyte each on drives of the engine, at a clock that the test moves."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.engine = EmbeddedEngine(self.clock)
        self._reads: list[asyncio.Future[Any]] = []

    async def add(self, name: str, options: str = "") -> None:
        text = f"if=none,id={name},driver=null-co,size=1G{options}"
        await self.engine.execute(DriveAdd(options=text))

    def read(self, name: str, operation: Any = "read") -> asyncio.Future[Any]:
        request = IoRequest(device=name, operation=operation, offset=0, length=1 << 20)
        read = asyncio.ensure_future(self.engine.execute(request))
        self._reads.append(read)
        return read

    async def goes(self, read: asyncio.Future[Any]) -> None:
        await asyncio.wait_for(asyncio.shield(read), 20)

    async def waits(self, read: asyncio.Future[Any]) -> None:
        """Returns once all that has not ended stands in a queue."""
        while self._queued() < sum(not each.done() for each in self._reads):
            await asyncio.sleep(0)
        assert not read.done()

    def _queued(self) -> int:
        groups = self.engine.throttles._groups.values()
        return sum(len(queue) for group in groups for queue in group._queues)

    async def after(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await asyncio.sleep(0)


def play(scenario: Any) -> None:
    async def main() -> None:
        guests = Guests()
        try:
            await scenario(guests)
        finally:
            await guests.engine.shut_down()

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_drive_is_as_fast_as_it_may_be() -> None:
    async def scenario(guests: Guests) -> None:
        await guests.add("d", f",bps_rd={1 << 20}")
        await guests.goes(guests.read("d"))
        second = guests.read("d")
        await guests.waits(second)
        await guests.goes(guests.read("d", "write"))
        await guests.goes(guests.read("d", "flush"))
        await guests.goes(guests.read("d", "discard"))
        await guests.after(0.9)
        await guests.goes(second)
        (stats,) = await guests.engine.execute(QueryBlockstats())
        assert stats.stats.rd_total_time_ns == pytest.approx(9e8, rel=1e-3)

    play(scenario)


def test_nodes_and_other_drives_have_no_limits() -> None:
    async def scenario(guests: Guests) -> None:
        await guests.add("d", ",iops=1,node-name=n")
        await guests.add("e")
        for name in ("d", "n", "n", "e", "e"):
            await guests.goes(guests.read(name))

    play(scenario)


def test_many_that_wait_keep_nobody_else_waiting() -> None:
    """More than there are workers for requests."""

    async def scenario(guests: Guests) -> None:
        await guests.add("d", ",bps=1")
        await guests.add("e")
        await guests.goes(guests.read("d"))
        for _ in range(2 * LANE_WORKERS):
            await guests.waits(guests.read("d"))
        await guests.goes(guests.read("e"))

    play(scenario)


def test_drives_of_a_group_wait_for_each_other() -> None:
    async def scenario(guests: Guests) -> None:
        await guests.add("d", ",iops=1,group=g")
        await guests.add("e", ",iops=1,group=g")
        await guests.goes(guests.read("d"))
        second = guests.read("e")
        await guests.waits(second)
        await guests.after(1.0)
        await guests.goes(second)

    play(scenario)


@pytest.mark.parametrize("how", ["lifted", "deleted", "another group"])
def test_who_waits_goes_when_its_limits_do(how: str) -> None:
    async def scenario(guests: Guests) -> None:
        for name in ("d", "e"):
            await guests.add(name, ",bps=1,group=g")
        await guests.goes(guests.read("d"))
        waits, other = guests.read("d"), guests.read("e")
        await guests.waits(waits)
        if how == "lifted":
            await guests.engine.execute(limited(device="d"))
        elif how == "deleted":
            await guests.engine.execute(DriveDel(id="d"))
        else:
            await guests.engine.execute(limited(device="d", bps=1, group="h"))
        await guests.goes(waits)
        await guests.waits(other)

    play(scenario)


def test_limits_that_are_lifted_are_lifted_for_all() -> None:
    """Also for those for whom there is no thread yet to wait in."""

    async def scenario(guests: Guests) -> None:
        await guests.add("d", ",bps=1")
        await guests.goes(guests.read("d"))
        reads = [guests.read("d") for _ in range(WAITING + 20)]
        while guests._queued() < WAITING:
            await asyncio.sleep(0)
        await guests.engine.execute(limited(device="d"))
        for read in reads:
            await guests.goes(read)

    play(scenario)


def test_the_end_waits_for_no_limits() -> None:
    async def scenario(guests: Guests) -> None:
        await guests.add("d", ",bps=1")
        await guests.goes(guests.read("d"))
        waits = guests.read("d")
        await guests.waits(waits)
        await guests.engine.shut_down()
        await guests.goes(waits)

    play(scenario)


def test_what_is_shown() -> None:
    async def scenario(guests: Guests) -> None:
        await guests.add("d")
        await guests.engine.execute(limited(device="d", iops=5, iops_max=9, iops_size=4096))
        (drive,) = await guests.engine.execute(QueryBlock())
        info = drive.inserted
        assert (info.iops, info.iops_max, info.iops_max_length, info.iops_size) == (5, 9, 1, 4096)
        assert (info.bps, info.bps_max, info.group) == (0, UNSET, "d")

    play(scenario)


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ({"device": "d", "bps": 5, "bps_max": 3}, "bps_max/iops_max cannot be lower than bps/iops"),
        ({"device": "d", "bps": 5, "bps_max_length": 0}, "the burst length cannot be 0"),
        ({"device": "d", "bps": -1}, "bps/iops/max values must be within [0, 1000000000000000]"),
        ({"device": "e", "bps": 5}, "Device has no medium"),
        ({"device": "d", "id": "d"}, "Need exactly one of 'device' and 'id'"),
        ({}, "Need exactly one of 'device' and 'id'"),
        ({"device": "n"}, "Device 'n' not found"),
        ({"id": "d"}, "Device 'd' not found"),
    ],
)
def test_refusals(limits: dict[str, Any], text: str) -> None:
    """As ``qemu-system-x86_64`` has them; qemu-storage-daemon has no such request."""

    async def scenario(guests: Guests) -> None:
        await guests.add("d", ",bps=7,node-name=n")
        await guests.engine.execute(DriveAdd(options="if=none,id=e"))
        with pytest.raises(RequestError) as refused:
            await guests.engine.execute(limited(**limits))
        assert refused.value.text == text
        assert isinstance(refused.value, DeviceNotFound) == text.endswith("not found")
        drive, _ = await guests.engine.execute(QueryBlock())
        assert drive.inserted.bps == 7

    play(scenario)
