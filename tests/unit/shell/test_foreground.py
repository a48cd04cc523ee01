"""Ctrl-C while a command runs: what is asked, and what each answer does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from monitor.shell.foreground import Foreground, question, understand


class Stage:
    """A screen with prepared answers, and a command that ends when the test says so."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.cancelled: list[str] = []
        self.live = ["s0"]
        self.asking = asyncio.Event()
        self.done = asyncio.Event()
        self.foreground = Foreground(self, self)

    async def ask(self, question: str, *, keys: str = "", interrupt: str = "") -> str:
        assert understand(interrupt, can_cancel=True) == "detach"
        self.asked.append(question)
        self.asking.set()
        if not self.answers:
            await asyncio.Event().wait()
        return self.answers.pop(0)

    def jobs(self) -> list[str]:
        return self.live

    async def cancel(self, job: str) -> None:
        self.cancelled.append(job)
        self.done.set()

    async def command(self) -> None:
        await self.done.wait()

    def run(self) -> asyncio.Task[bool]:
        return asyncio.create_task(self.foreground.run(self.command()))


def play(*answers: str) -> Callable[[Callable[[Stage], Awaitable[None]]], None]:
    """Runs the decorated coroutine at once, as the test."""

    def decorate(test: Callable[[Stage], Awaitable[None]]) -> None:
        async def body() -> None:
            stage = Stage(*answers)
            async with asyncio.timeout(10):
                await test(stage)

        asyncio.run(body())

    return decorate


async def interrupted(stage: Stage) -> asyncio.Task[bool]:
    running = stage.run()
    await asyncio.sleep(0)
    stage.foreground.interrupt()
    return running


def test_without_ctrl_c_nothing_is_asked() -> None:
    @play()
    async def _(stage: Stage) -> None:
        stage.done.set()
        assert await stage.run()
        assert stage.asked == []


def test_a_command_that_detaches_itself() -> None:
    @play()
    async def _(stage: Stage) -> None:
        async def behind() -> None:
            stage.foreground.detach()
            await stage.done.wait()

        assert not await stage.foreground.run(behind())
        assert stage.asked == []
        assert len(stage.foreground.detached) == 1
        # The next one is waited for again.
        stage.done.set()
        assert await stage.run()


def test_detached_command_goes_on() -> None:
    @play("d")
    async def _(stage: Stage) -> None:
        assert not await (await interrupted(stage))
        (task,) = stage.foreground.detached
        assert not task.done()
        stage.done.set()
        await task
        assert not stage.foreground.detached


def test_cancel_cancels_the_job_and_waits_for_the_command() -> None:
    @play("cancel")
    async def _(stage: Stage) -> None:
        assert await (await interrupted(stage))
        assert stage.cancelled == ["s0"]


def test_nonsense_is_asked_again() -> None:
    @play("what", "x", "d")
    async def _(stage: Stage) -> None:
        await (await interrupted(stage))
        assert len(stage.asked) == 3


def test_keep_waiting_and_change_of_mind() -> None:
    @play("", "d")
    async def _(stage: Stage) -> None:
        running = await interrupted(stage)
        await stage.asking.wait()
        while stage.answers[:1] == [""]:
            await asyncio.sleep(0)
        for _ in range(5):
            await asyncio.sleep(0)
        assert not running.done()
        stage.foreground.interrupt()
        assert not await running


def test_command_that_ends_takes_its_question_away() -> None:
    @play()
    async def _(stage: Stage) -> None:
        running = await interrupted(stage)
        await stage.asking.wait()
        stage.done.set()
        assert await running


def test_interrupt_right_after_enter_counts() -> None:
    @play("d")
    async def _(stage: Stage) -> None:
        stage.foreground.interrupt()
        assert not await stage.run()
        stage.done.set()


def test_interrupt_of_an_earlier_line_does_not_count() -> None:
    @play()
    async def _(stage: Stage) -> None:
        stage.foreground.interrupt()
        stage.foreground.calm()
        running = stage.run()
        for _ in range(5):
            await asyncio.sleep(0)
        stage.done.set()
        assert await running
        assert stage.asked == []


def test_cancelled_wait_leaves_the_command_running() -> None:
    @play()
    async def _(stage: Stage) -> None:
        running = stage.run()
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        (task,) = stage.foreground.detached
        stage.done.set()
        await task


def test_question_names_what_would_be_cancelled() -> None:
    assert "job s0" in question(["s0"])
    assert "2 jobs (s0, b1)" in question(["s0", "b1"])
    assert "20 jobs (s0, s1, s2 and 17 more)" in question([f"s{i}" for i in range(20)])
    assert "ancel" not in question([])


@pytest.mark.parametrize(
    ("answer", "choice"),
    [
        ("d", "detach"),
        ("Detach", "detach"),
        ("c", "cancel"),
        ("w", "wait"),
        ("keep waiting", "wait"),
        ("", "wait"),
        ("y", None),
        ("cancels", None),
    ],
)
def test_answers(answer: str, choice: str | None) -> None:
    assert understand(answer, can_cancel=True) == choice


def test_nothing_can_be_cancelled_that_is_no_job() -> None:
    assert understand("c", can_cancel=False) is None
