"""A person at a prompt without a terminal."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from monitor.shell.dialogue import Dialogue
from tests.support.fake_engine import FakeEngine


class Typist(Dialogue):
    """A dialogue whose screen is a list."""

    def __init__(self, engine: FakeEngine) -> None:
        super().__init__(engine)
        self.shown: list[str] = []

    def show(self, text: str) -> None:
        self.shown.append(text)


def typed(work: Callable[[Typist], Awaitable[None]]) -> list[str]:
    """What is shown while ``work`` types."""

    async def main() -> list[str]:
        session = Typist(FakeEngine())
        await work(session)
        return session.shown

    return asyncio.run(main())
