"""Where a command's output goes and in which form, as its line or a setting says."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from monitor.commands.registry import Answer

if TYPE_CHECKING:
    from monitor.language.outputs import Output
    from monitor.language.parser import Invocation
    from monitor.shell.session import Session

_COLLECTED: ContextVar[list[str] | None] = ContextVar("collected", default=None)


def collected() -> list[str] | None:
    """Where the running command's output is kept for a file or another program; None: shown."""
    return _COLLECTED.get()


@contextmanager
def collecting(output: Output | None) -> Iterator[list[str] | None]:
    """While a command runs whose output goes to ``output``: the list that its lines go to."""
    if output is None or not (output.file or output.shell):
        yield None
        return
    lines: list[str] = []
    token = _COLLECTED.set(lines)
    try:
        yield lines
    finally:
        _COLLECTED.reset(token)


@contextmanager
def capturing() -> Iterator[list[str]]:
    """While commands run whose output somebody here wants to read: its lines."""
    lines: list[str] = []
    token = _COLLECTED.set(lines)
    try:
        yield lines
    finally:
        _COLLECTED.reset(token)


def form_of(session: Session, invocation: Invocation) -> str:
    """The form of this command's output."""
    asked = invocation.output.format if invocation.output is not None else ""
    return asked or session.settings["format"]


def text_of(session: Session, invocation: Invocation, answer: Answer) -> str:
    """The answer's text, in the form that was asked for."""
    form = form_of(session, invocation)
    if form == "text" or (answer.data == {} and form != "json"):
        return answer.render().removesuffix("\n")
    from monitor.shell.formats import render

    into_file = invocation.output is not None and (
        invocation.output.file or invocation.output.shell
    )
    width = None if into_file else session.columns
    return render(answer.data, form, width, answer.columns)


async def deliver(session: Session, output: Output, lines: list[str]) -> None:
    """Hands what a command has printed to the file or program that its line names.

    Raises RequestError, HostFailure.
    """
    from monitor.shell import pipes

    text = "\n".join(lines)
    if output.shell:
        await session.through_shell(output.shell, text)
        return
    if pipes.is_image(output.file) and not output.append:
        if not await session.confirm(f"Replace the disk image '{output.file}' by text?"):
            raise pipes.WouldReplaceImage(output.file)
        open(output.file, "wb").close()
    pipes.write_file(output, text)


class Stopwatch:
    """How long a command took: the engine's part, and making its text."""

    def __init__(self) -> None:
        self._begin = self._middle = time.perf_counter()

    def answered(self) -> None:
        """The engine's part is over."""
        self._middle = time.perf_counter()

    def line(self) -> str:
        engine, text = self._middle - self._begin, time.perf_counter() - self._middle
        return f"Time: engine {_milliseconds(engine)}, text {_milliseconds(text)}"


def _milliseconds(seconds: float) -> str:
    return f"{seconds:.3f} s" if seconds >= 1 else f"{1000 * seconds:.1f} ms"


def as_json(value: Any) -> str:
    """On one line. Text that is no UTF-8 (names of files) keeps its bytes as surrogates."""
    import json

    import msgspec

    return json.dumps(msgspec.to_builtins(value))
