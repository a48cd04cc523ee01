"""Running a human command as it was typed, on an engine that answers what a test has laid out."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from monitor.commands.macros import Macro
from monitor.commands.registry import Answer, Command, parse_pattern
from monitor.commands.settings import Settings
from monitor.engine.schema.base import Request
from monitor.language.parser import parse_line
from tests.support.fake_engine import FakeEngine

T = TypeVar("T")


class AnsweringEngine(FakeEngine):
    """Answers a request with ``answers[type]``: a value, an exception to raise, or a function of
    the request. None for what is not laid out."""

    def __init__(self, answers: dict[type[Request], Any] | None = None) -> None:
        super().__init__()
        self.answers = answers or {}

    async def execute(self, request: Request) -> Any:
        self.requests.append(request)
        answer = self.answers.get(type(request))
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, Exception):
            raise answer
        return answer


class FakeSession:
    """A front end that remembers. ``lines`` is all that was printed, answers included."""

    def __init__(
        self, engine: FakeEngine, *, interactive: bool = False, says: bool = False
    ) -> None:
        self.engine = engine
        self.interactive = interactive
        self.plain = False
        self.settings = Settings()
        self.variables: dict[str, str] = {}
        self.macros: dict[str, Macro] = {}
        self.lines: list[str] = []
        self.asked: list[str] = []
        self.files: list[str] = []
        self.recordings: list[str | None] = []
        self.quit_requested = False
        self._says = says

    def print(self, text: str) -> None:
        self.lines += text.split("\n")

    async def ask(self, question: str) -> bool:
        self.asked.append(question)
        return self._says

    async def run_file(self, path: str) -> None:
        self.files.append(path)

    def record(self, path: str | None) -> None:
        self.recordings.append(path)

    def request_quit(self) -> None:
        self.quit_requested = True

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    async def type(self, line: str) -> Answer | None:
        """Carries out one line; its text goes to ``lines``, its error to the caller."""
        invocation = parse_line(line)
        assert invocation is not None
        assert invocation.command is not None
        given = await invocation.command.handler(self, **invocation.arguments)
        text = given.render() if isinstance(given, Answer) else given
        if text:
            self.print(text)
        return given if isinstance(given, Answer) else None


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def typed(line: str, answers: dict[type[Request], Any] | None = None) -> tuple[str, list[Request]]:
    """What ``line`` prints, and the requests that it makes."""

    async def work() -> tuple[str, list[Request]]:
        session = FakeSession(AnsweringEngine(answers))
        await session.type(line)
        return session.text, session.engine.requests

    return run(work())


async def nothing(*_: Any, **__: Any) -> None:
    """What the sample commands do."""


def sample(*declarations: str) -> dict[str, Command]:
    """Commands from ``name PATTERN`` (``info block`` is written ``info_block``)."""
    found = {}
    for declaration in declarations:
        name, _, pattern = declaration.partition(" ")
        name = name.replace("info_", "info ")
        found[name] = Command(name, parse_pattern(pattern), pattern, "help", nothing)
    return found
