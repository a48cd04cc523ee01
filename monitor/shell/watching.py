"""A command again and again (``watch``), and which parts of its output have changed."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Callable
from typing import TYPE_CHECKING

from monitor.language.scanner import LEXER, string_token
from monitor.shell.directing import capturing

if TYPE_CHECKING:
    from monitor.shell.session import Session

MOST_LINES = 500
"""Lines of output in which changes are looked for; comparing more would hold up the prompt."""

Fragments = list[tuple[str, str]]


async def watch(
    session: Session,
    text: str,
    every: float,
    ended: Callable[[str, int], bool],
    show: Callable[[str, str | None], None],
    stopped: asyncio.Event,
) -> str:
    """Runs ``text`` every so many seconds until ``ended(output, count)``, or ``stopped``; its last
    output. ``show`` is called with each output and the one before (None at first).

    Raises what the command raises.
    """
    before: str | None = None
    count = 0
    text = _unquoted(text)
    while True:
        with capturing() as lines:
            for invocation in session.parse(text, ""):
                await session.run(invocation)
        output = "\n".join(lines)
        count += 1
        show(output, before)
        if ended(output, count) or stopped.is_set() or session.quitting:
            return output
        before = output
        try:
            await asyncio.wait_for(stopped.wait(), every)
        except TimeoutError:
            continue
        return output


def _unquoted(text: str) -> str:
    """The command, also where somebody has put it in quotes, as ``qemu-io`` and ``macro`` want."""
    match = LEXER.match(text)
    whole = match is not None and match["string"] and match.end() == len(text.rstrip())
    return string_token(match).text if match is not None and whole else text


def with_changes(text: str, before: str | None) -> Fragments:
    """``text`` as styled fragments, what is new in it since ``before`` marked as changed."""
    lines = text.split("\n")
    older = before.split("\n") if before is not None else lines
    fragments: Fragments = []
    if max(len(lines), len(older)) > MOST_LINES:
        return [("", text)]
    matcher = difflib.SequenceMatcher(None, older, lines, autojunk=False)
    for kind, a, b, start, end in matcher.get_opcodes():
        for at in range(start, end):
            if kind == "equal":
                fragments += [("", lines[at]), ("", "\n")]
            elif kind == "replace" and a + at - start < b:
                fragments += [*_in_line(older[a + at - start], lines[at]), ("", "\n")]
            else:
                fragments += [("class:changed", lines[at]), ("", "\n")]
    return fragments[:-1]


def _in_line(older: str, newer: str) -> Fragments:
    matcher = difflib.SequenceMatcher(None, older, newer, autojunk=False)
    return [
        ("" if kind == "equal" else "class:changed", newer[start:end])
        for kind, _, _, start, end in matcher.get_opcodes()
        if start < end
    ]
