"""A wait that costs no turn of the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from monitor.servers.arrival import Arrival


def in_loop(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(10):
            await main()

    asyncio.run(bounded())


async def waits(arrival: Arrival, said: list[str]) -> None:
    said.append("waits")
    try:
        await arrival
    except asyncio.CancelledError:
        said.append("cancelled")
        raise
    task = asyncio.current_task()
    said.append("goes on" if task is not None and task.get_name() == "it" else "elsewhere")


async def a_turn() -> None:
    await asyncio.sleep(0)


def test_who_waits_goes_on_within_the_callback_that_brings_it() -> None:
    async def main() -> None:
        said: list[str] = []
        arrival = Arrival()
        task = asyncio.create_task(waits(arrival, said), name="it")
        await a_turn()

        def bring() -> None:
            arrival.set()
            said.append("brought")
            arrival.set()  # once more is nothing

        asyncio.get_running_loop().call_soon(bring)
        await task
        assert said == ["waits", "goes on", "brought"]

    in_loop(main)


def test_a_task_that_brings_it_is_not_interrupted() -> None:
    async def main() -> None:
        said: list[str] = []
        arrival = Arrival()
        task = asyncio.create_task(waits(arrival, said), name="it")
        await a_turn()
        arrival.set()
        said.append("brought")
        await task
        assert said == ["waits", "brought", "goes on"]

    in_loop(main)


def test_what_is_there_already_is_not_waited_for() -> None:
    async def main() -> None:
        said: list[str] = []
        arrival = Arrival()
        arrival.set()
        await asyncio.create_task(waits(arrival, said), name="it")
        assert said == ["waits", "goes on"]

    in_loop(main)


@pytest.mark.parametrize("then_set", [False, True])
def test_a_wait_that_is_cancelled(then_set: bool) -> None:
    async def main() -> None:
        said: list[str] = []
        arrival = Arrival()
        task = asyncio.create_task(waits(arrival, said), name="it")
        await a_turn()
        assert task.cancel()
        if then_set:
            arrival.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert said == ["waits", "cancelled"]

    in_loop(main)


def test_what_arrived_is_not_taken_back_by_cancelling() -> None:
    """As with any future: the task is told at its next wait."""

    async def main() -> None:
        arrival = Arrival()
        arrival.set()
        assert not arrival.cancel()
        await arrival

    in_loop(main)
