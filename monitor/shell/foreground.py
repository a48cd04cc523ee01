"""The command that the prompt waits for, and what Ctrl-C may do about it.

Ctrl-C never stops what has begun: a request may be half way through a change of the graph. It asks,
and the answers are those that are safe: to cancel the *job* (a job knows how to stop), to detach
(the command goes on and reports when it ends; so does Ctrl-C once more), or to keep waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Sequence
from typing import Any, Literal, Protocol

Choice = Literal["detach", "cancel", "wait"]
_NAMED = 3
"""Jobs that a question names."""


class Asker(Protocol):
    """The part of a screen that a question needs."""

    async def ask(self, question: str, *, keys: str = "", interrupt: str = "") -> str: ...


class Subject(Protocol):
    """What the running command is about, as far as Ctrl-C is concerned."""

    def jobs(self) -> Sequence[str]:
        """The jobs that the command waits for; Ctrl-C offers to cancel them."""

    async def cancel(self, job: str) -> None:
        """Asks the job to stop. Reports its own errors."""


class Foreground:
    """Runs one command at a time in front, and keeps those that were detached."""

    def __init__(self, screen: Asker, subject: Subject) -> None:
        self._screen = screen
        self._subject = subject
        self._interrupted = asyncio.Event()
        self._detaching = False
        self.task: asyncio.Task[None] | None = None
        """The command in front."""
        self.detached: set[asyncio.Task[None]] = set()

    def interrupt(self) -> None:
        """Ctrl-C was pressed while a command ran, or was about to."""
        self._interrupted.set()

    def detach(self) -> None:
        """The command in front is to go on behind, without a question."""
        self._detaching = True
        self._interrupted.set()

    def calm(self) -> None:
        """A new line is going to be read: a Ctrl-C that came too late for the last one is void."""
        self._interrupted.clear()

    async def run(self, command: Coroutine[Any, Any, None]) -> bool:
        """Waits for ``command``; False when it was detached instead.

        ``command`` handles its own errors. When this wait is cancelled the command goes on,
        detached.
        """
        self._detaching = False
        task = self.task = asyncio.create_task(command)
        try:
            while not task.done():
                if not await _comes_before(task, self._interrupted.wait()):
                    break
                self._interrupted.clear()
                if self._detaching or await self._choose(task) == "detach":
                    return False
            await task
            return True
        finally:
            self.task = None
            if not task.done():
                self.detached.add(task)
                task.add_done_callback(self.detached.discard)

    async def _choose(self, task: asyncio.Task[None]) -> Choice:
        """Asks until there is an answer, or nothing left to ask about."""
        while not task.done():
            jobs = list(self._subject.jobs())
            asked = asyncio.ensure_future(
                self._screen.ask(question(jobs), keys="dcw" if jobs else "dw", interrupt="d")
            )
            if not await _comes_before(task, asked):
                return "wait"
            choice = understand(asked.result(), can_cancel=bool(jobs))
            if choice == "cancel":
                for job in jobs:
                    await self._subject.cancel(job)
                return "wait"
            if choice is not None:
                return choice
        return "wait"


async def _comes_before(task: asyncio.Task[None], other: Awaitable[Any]) -> bool:
    """Waits for either; whether ``other`` came (its error is raised), else it is cancelled."""
    rival = asyncio.ensure_future(other)
    try:
        await asyncio.wait({task, rival}, return_when=asyncio.FIRST_COMPLETED)
        if rival.done():
            rival.result()
            return True
        return False
    finally:
        if not rival.done():
            rival.cancel()
            await asyncio.wait({rival})


def question(jobs: Sequence[str]) -> str:
    """What Ctrl-C asks while a command about ``jobs`` (perhaps none) runs."""
    if not jobs:
        return "The command still runs. [d]etach it, or keep [w]aiting? "
    what = f"job {jobs[0]}" if len(jobs) == 1 else f"{len(jobs)} jobs ({listed(jobs)})"
    return f"[d]etach, [c]ancel {what}, or keep [w]aiting? "


def listed(jobs: Sequence[str]) -> str:
    """The jobs by name, as many as a question has room for."""
    named = ", ".join(jobs[:_NAMED])
    return named if len(jobs) <= _NAMED else f"{named} and {len(jobs) - _NAMED} more"


def understand(answer: str, *, can_cancel: bool) -> Choice | None:
    """The choice that ``answer`` begins; Enter alone keeps waiting; None for anything else."""
    choices: tuple[Choice, ...] = ("detach", "cancel", "wait") if can_cancel else ("detach", "wait")
    if not answer or answer.lower() == "keep waiting":
        return "wait"
    return next((choice for choice in choices if choice.startswith(answer.lower())), None)
