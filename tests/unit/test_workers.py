"""Threads for blocking calls: what they return, how many they are, and waits that are given up."""

from __future__ import annotations

import asyncio
import functools
import threading
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from monitor.engine.workers import Workers
from tests.support.graphs import run


def threads(name: str) -> int:
    return sum(thread.name.startswith(f"{name}_") for thread in threading.enumerate())


def on_a_loop(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """The test as pytest takes it."""

    @functools.wraps(test)
    def run_it() -> None:
        run(test())

    return run_it


def blocked() -> tuple[Callable[[], int], threading.Event, threading.Event]:
    """A call that says that it has begun and goes on when it is let."""
    began, go_on = threading.Event(), threading.Event()

    def call() -> int:
        began.set()
        assert go_on.wait(60)
        return 7

    return call, began, go_on


async def until(event: threading.Event) -> None:
    while not event.is_set():
        await asyncio.sleep(0)


@on_a_loop
async def test_what_a_call_returns_and_raises() -> None:
    workers = Workers(2, "returns")

    def fail(error: BaseException) -> None:
        raise error

    assert await workers.run(lambda: threading.current_thread().name) == "returns_1"
    for error in (ValueError("x"), OSError(5, "y")):
        with pytest.raises(type(error)) as caught:
            await workers.run(lambda error=error: fail(error))  # type: ignore[misc]
        assert caught.value is error
    with pytest.raises(RuntimeError, match="StopIteration"):  # no coroutine can raise it
        await workers.run(lambda: fail(StopIteration()))
    assert await workers.run(lambda: 3) == 3
    workers.close()


@on_a_loop
async def test_as_many_threads_as_calls_under_way_up_to_the_limit() -> None:
    workers = Workers(3, "many")
    calls = [blocked() for _ in range(5)]
    waits = [asyncio.ensure_future(workers.run(call)) for call, _, _ in calls]
    for _, began, _ in calls[:3]:
        await until(began)
    assert threads("many") == 3
    assert not any(began.is_set() for _, began, _ in calls[3:])
    for _, _, go_on in calls:
        go_on.set()
    assert await asyncio.gather(*waits) == [7] * 5
    for _ in range(5):
        await workers.run(int)
    assert threads("many") == 3
    workers.close()


@on_a_loop
async def test_one_thread_does_where_calls_follow_one_another() -> None:
    workers = Workers(8, "single")
    for _ in range(20):
        await workers.run(int)
    assert threads("single") == 1
    workers.close()


@on_a_loop
async def test_a_wait_that_is_given_up_lasts_until_the_call_has_ended() -> None:
    workers = Workers(1, "given-up")
    call, began, go_on = blocked()
    wait = asyncio.ensure_future(workers.run(call))
    await until(began)
    wait.cancel()
    for _ in range(10):
        await asyncio.sleep(0)
    assert not wait.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await wait
    assert await workers.run(lambda: 3) == 3
    workers.close()


@on_a_loop
async def test_a_wait_given_up_just_as_the_call_ends() -> None:
    workers = Workers(1, "just-then")
    call, began, go_on = blocked()
    wait = asyncio.ensure_future(workers.run(call))
    await until(began)
    go_on.set()
    assert _rest_of(workers).wait(60)  # the end is on its way to the loop, which stands here
    wait.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(wait, 60)
    workers.close()


def _rest_of(workers: Workers) -> threading.Event:
    """Set once the (only) thread waits for its next call."""
    rests = threading.Event()
    workers._calls.put(_Signal(rests))  # type: ignore[arg-type]
    return rests


class _Signal:
    def __init__(self, event: threading.Event) -> None:
        self.event = event

    def carry_out(self, done: Any) -> None:
        self.event.set()


def test_a_host_without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls wait for the threads that there are; the first one fails, and those after it do not
    wait for a thread that never began."""

    def no_more(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def scenario() -> None:
        workers = Workers(2, "scarce")
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", no_more)
            for _ in range(3):
                with pytest.raises(BlockingIOError):
                    await asyncio.wait_for(workers.run(int), 10)
        call, began, go_on = blocked()
        wait = asyncio.ensure_future(workers.run(call))
        await until(began)
        monkeypatch.setattr(threading.Thread, "start", no_more)
        second = asyncio.ensure_future(workers.run(lambda: 3))
        await asyncio.sleep(0)
        go_on.set()
        assert await asyncio.wait_for(wait, 10) == 7
        assert await asyncio.wait_for(second, 10) == 3
        workers.close()

    run(scenario())


@on_a_loop
async def test_threads_end_and_others_begin() -> None:
    workers = Workers(2, "ended")
    stuck, began, go_on = blocked()
    wait = asyncio.ensure_future(workers.run(stuck))
    await until(began)
    workers.close()
    assert await workers.run(lambda: 3) == 3  # not behind the one that hangs
    go_on.set()
    assert await wait == 7
    workers.close()
    while threads("ended"):
        await asyncio.sleep(0)


@on_a_loop
async def test_nothing_of_a_call_is_kept() -> None:
    class Big:
        pass

    workers = Workers(1, "kept")
    big = Big()
    gone = weakref.ref(big)

    def fail(held: Big) -> None:
        raise ValueError(held)

    with pytest.raises(ValueError):
        await workers.run(lambda held=big: fail(held))  # type: ignore[misc]
    del big
    await workers.run(int)
    assert gone() is None
    workers.close()


def test_a_loop_that_ends_before_its_call() -> None:
    """The thread outlives it and serves the next loop."""
    workers = Workers(1, "outlives")
    call, began, go_on = blocked()
    loop = asyncio.new_event_loop()
    task = loop.create_task(workers.run(call))
    loop.run_until_complete(until(began))
    loop.run_until_complete(_forget(task))
    loop.close()
    go_on.set()

    async def again() -> int:
        return await workers.run(lambda: 3)

    assert asyncio.run(again()) == 3
    workers.close()


async def _forget(task: asyncio.Task[int]) -> None:
    """Cancels it twice: the second time nothing is waited for."""
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert task.cancelled()
