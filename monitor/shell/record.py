"""Recording: what is typed in a session and what it answers, as a transcript.

A ``Recorder`` cuts a session into entries, one a typed line, for whoever wants them: a file
(``FileRecorder``) or a replay, which compares them with a file's.

Both have the engine go by steps: jobs go on in ``wait`` and ``step`` only, and time passes by what
is done. So nothing has to be masked to be the same again, and what events tell is told at the end
of the command during which they came; but for the ends of jobs that a ``wait`` tells itself.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from monitor.engine.api import Engine, Event
from monitor.shell.announce import Announcer
from monitor.shell.imagelines import Fixtures
from monitor.shell.jobs import tells_of
from monitor.shell.masks import FAILED, Bindings, escape
from monitor.shell.session import CONTINUATION, PROMPT
from monitor.shell.texts import printable

if TYPE_CHECKING:
    from monitor.language.parser import Invocation


@dataclass
class Entry:
    """One typed line (several while a bracket was open), and all that was printed for it."""

    text: str
    lines: list[str] = field(default_factory=list)
    failed: bool = False
    wanted: bool = True
    ran: list[Invocation] = field(default_factory=list)

    def all_lines(self) -> list[str]:
        return [*self.lines, FAILED] if self.failed else self.lines


class Recorder:
    """Entries of one session, each handed to ``sink`` when its command has ended."""

    def __init__(self, engine: Engine, sink: Callable[[Entry], None]) -> None:
        self._sink = sink
        self._engine = engine
        engine.go_by_steps(True)
        self._zone = os.environ.get("TZ")
        _set_zone("UTC")
        self._news = _News(engine)
        self._current: ContextVar[Entry | None] = ContextVar("entry", default=None)

    @contextlib.asynccontextmanager
    async def entry(self, text: str) -> AsyncIterator[Entry]:
        """What is printed inside, by this task, belongs to ``text``."""
        entry = Entry(text)
        token = self._current.set(entry)
        try:
            await self.begin()
            yield entry
            await self._engine.rest()
        finally:
            self._current.reset(token)
        if entry.wanted:
            await self.keep(entry.ran)
            entry.lines += self._news.after(entry.ran)
            self._sink(entry)

    async def begin(self) -> None:
        """Nothing by default: a command is about to run."""

    async def keep(self, ran: list[Invocation]) -> None:
        """Nothing by default: what these commands have opened need not be there again."""

    def output(self, text: str) -> None:
        entry = self._current.get()
        if entry is not None:
            entry.lines += [line.rstrip() for line in printable(text).split("\n")]

    def ran(self, invocation: Invocation) -> None:
        """A command of the entry has been carried out."""
        entry = self._current.get()
        if entry is not None:
            entry.ran.append(invocation)

    def close(self) -> None:
        self._news.close()
        self._engine.go_by_steps(False)
        _set_zone(self._zone)


def _set_zone(zone: str | None) -> None:
    """The time zone of the process: times of day read alike wherever a transcript is replayed."""
    if zone is None:
        os.environ.pop("TZ", None)
    else:
        os.environ["TZ"] = zone
    time.tzset()


class _News:
    """Lines about events, kept until the running command has ended."""

    def __init__(self, engine: Engine) -> None:
        self._announcer = Announcer(engine.jobs)
        self._lines: list[tuple[Event, str]] = []
        self.close = engine.subscribe(self._on_event)

    def _on_event(self, event: Event) -> None:
        line = self._announcer.line(event)
        if line is not None:
            self._lines.append((event, line))

    def after(self, ran: list[Invocation]) -> list[str]:
        """What these commands have not told themselves."""
        lines, self._lines = self._lines, []
        return [
            line for event, line in lines if not any(tells_of(command, event) for command in ran)
        ]


class Masker:
    """Masks what differs from run to run all the same: node names that were made up, the folder
    ``here`` in which the session runs. ``bound`` are names that stand for texts already.
    """

    def __init__(self, here: str) -> None:
        self.bound: Bindings = {}
        self._here = here.rstrip("/") + "/"
        self._nodes: dict[str, str] = {}

    def output(self, line: str) -> str:
        """A line of output as a transcript has it."""
        plain = escape(line)
        # What has to be escaped is rare and stands as it is.
        return plain if plain != line else self.typed(line)

    def typed(self, text: str) -> str:
        if self._here != "/":
            text = text.replace(self._here, "[PATH:here]/")
        return _MADE_UP.sub(self._node, text)

    def _node(self, match: re.Match[str]) -> str:
        for name, text in self.bound.items():
            if text == match[0]:
                return f"[{name}]"
        return self._nodes.setdefault(match[0], self._new_name())

    def _new_name(self) -> str:
        number = len(self._nodes) + 1
        while f"NODE:n{number}" in self.bound:
            number += 1
        return f"[NODE:n{number}]"


class FileRecorder(Recorder):
    """Writes the transcript ``path``, which must not exist yet, entry by entry.

    ``setup`` are lines for the transcript's head.
    """

    def __init__(self, path: str, engine: Engine, setup: Sequence[str] = ()) -> None:
        self._file = open(  # noqa: SIM115
            path, "x+", encoding="utf-8", errors="surrogateescape", newline="\n"
        )
        self._masker = Masker(os.getcwd())
        super().__init__(engine, self._write)
        self._fixtures: Fixtures | None = None
        """None until the first command, when it is seen what is open."""
        for line in setup:
            self._put(self._masker.typed(line))
        self._head = self._file.tell()

    async def begin(self) -> None:
        if self._fixtures is None:
            self._fixtures = Fixtures()
            await self._fixtures.know(self._engine)

    async def keep(self, ran: list[Invocation]) -> None:
        """The images that were opened, and were there before, come into the head."""
        assert self._fixtures is not None
        for invocation in ran:
            self._fixtures.made(invocation)
        lines = await self._fixtures.of(self._engine) if ran else []
        if not lines:
            return
        self._file.seek(self._head)
        entries = self._file.read()
        self._file.seek(self._head)
        self._file.truncate()
        for line in lines:
            self._put(self._masker.typed(line))
        self._head = self._file.tell()
        self._file.write(entries)

    def close(self) -> None:
        super().close()
        self._file.close()

    def _write(self, entry: Entry) -> None:
        prompts = [PROMPT, *[CONTINUATION] * entry.text.count("\n")]
        for prompt, text in zip(prompts, entry.text.split("\n"), strict=True):
            self._put(f"{prompt}{self._masker.typed(text)}".rstrip())
        for line in entry.lines:
            self._put(self._masker.output(line))
        if entry.failed:
            self._put(FAILED)
        self._file.flush()

    def _put(self, line: str) -> None:
        self._file.write(line + "\n")


_MADE_UP = re.compile(r"#block\d+")
