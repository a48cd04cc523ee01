"""Transcripts: a session as a text that is also a test.

    # One story a file: what it shows.
    image base.qcow2 qcow2 64M
        write -P 0x11 0 1M
    image top.qcow2 qcow2 backing=base.qcow2 backing-format=qcow2

    blkmon> drive_add 0 if=none,id=d0,file=top.qcow2
    OK
    blkmon> qemu-io d0 "read -P 0x11 0 1M"
    read 1048576/1048576 bytes at offset 0
    1 MiB, 1 ops; [TIME] ([RATE] and [RATE])
    blkmon> drive_del nope
    Error: Device 'nope' not found
    [failed]

The head says what is there before the first command (``shell.fixtures``). Each prompt is what is
typed; what follows, up to the next prompt, is what it prints, masks allowed (``shell.masks``), and
``[failed]`` when it fails. Lines of continued commands carry the continuation prompt. ``#`` alone
or before a blank begins a comment; blank lines are free, as are blanks at the end of a line. A
comment right above a prompt begins a *phase* of the story: a replay ends with the first phase that
differs.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from monitor.engine.errors import MonitorError
from monitor.shell.masks import ANY_LINES, Bindings, match_line, match_lines
from monitor.shell.session import CONTINUATION, PROMPT

_FREE = re.compile(r"\s*$|#(?:\s|$)")


class TranscriptError(MonitorError):
    """A transcript cannot be played: it is no transcript, or its fixtures cannot be made."""

    template = "{path}:{line}: Error: {reason}"
    path: str
    line: int
    reason: str


def is_free(line: str) -> bool:
    """Whether a line is for readers only: blank, or a comment."""
    return _FREE.match(line) is not None


@dataclass
class Block:
    """A command with what it is to print; ``line`` is the number of its prompt's line.

    ``phase`` is the comment that begins a phase with it; None when it goes on with the last one's.
    """

    line: int
    typed: list[str]
    expected: list[str] = field(default_factory=list)
    phase: str | None = None

    @property
    def text(self) -> str:
        """What is typed, without the prompts."""
        return "\n".join(_typed(line) or "" for line in self.typed)

    def match(self, actual: Sequence[str], bindings: Bindings) -> Bindings | None:
        """Whether ``actual`` was expected: the bindings from then on, or None."""
        return match_lines(_significant(self.expected), _not_blank(actual), bindings)


@dataclass
class Transcript:
    """A transcript's lines, cut into its head and its blocks; nothing is lost."""

    path: str
    head: list[str]
    blocks: list[Block]

    @property
    def lines(self) -> list[str]:
        return self.with_expected([block.expected for block in self.blocks])

    def with_expected(self, expected: Sequence[Sequence[str]]) -> list[str]:
        """The lines of the file with other expectations, one for each block."""
        lines = list(self.head)
        for block, wanted in zip(self.blocks, expected, strict=True):
            lines += [*block.typed, *wanted]
        return lines


def parse_transcript(text: str, path: str) -> Transcript:
    """Cuts a transcript at its prompts. Raises TranscriptError."""
    transcript = Transcript(path, [], [])
    for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
        block = transcript.blocks[-1] if transcript.blocks else None
        if _after(line, PROMPT) is not None:
            above = block.expected if block is not None else transcript.head
            transcript.blocks.append(Block(number, [line], phase=_comment_at_end(above)))
        elif _after(line, CONTINUATION) is not None:
            if block is None or block.expected:
                raise TranscriptError(path, number, "a continued line without its command")
            block.typed.append(line)
        elif block is None:
            transcript.head.append(line)
        else:
            block.expected.append(line)
    if not transcript.blocks:
        raise TranscriptError(path, 1, f"no command: no line begins with '{PROMPT}'")
    return transcript


def _comment_at_end(lines: Sequence[str]) -> str | None:
    """The comment that the lines end with, as one line."""
    free = list(itertools.takewhile(is_free, reversed(lines)))
    words = [line.strip().lstrip("#").strip() for line in reversed(free)]
    return " ".join(filter(None, words)) or None


def _typed(line: str) -> str | None:
    text = _after(line, PROMPT)
    return _after(line, CONTINUATION) if text is None else text


def _after(line: str, prompt: str) -> str | None:
    """What follows a prompt; None when the line does not begin with it."""
    if line.startswith(prompt):
        return line[len(prompt) :]
    return "" if line == prompt.rstrip() else None


def _significant(lines: Sequence[str]) -> list[str]:
    return [line.rstrip() for line in lines if not is_free(line)]


def _not_blank(lines: Sequence[str]) -> list[str]:
    return [line for line in lines if line.strip()]


def updated(
    expected: Sequence[str], actual: Sequence[str], written: Sequence[str], bindings: Bindings
) -> list[str]:
    """Lines in place of ``expected`` that match ``actual``, with as few changes as can be.

    A line that still matches stays byte for byte, and so do comments and blank lines.
    ``written`` is ``actual`` as a transcript has it, for lines that are new.
    """
    free = len(expected)
    while free and is_free(expected[free - 1]):
        free -= 1
    kept, tail = expected[:free], list(expected[free:])
    pairs = [(a, w) for a, w in zip(actual, written, strict=True) if a.strip()]
    merged = _merge(kept, [a for a, _ in pairs], [w for _, w in pairs], bindings)
    if match_lines(_significant(merged), [a for a, _ in pairs], bindings) is None:
        # Lines that match one by one but not together, since `...` may stand for others.
        merged = [line for line in kept if is_free(line)] + [w for _, w in pairs]
    return merged + tail


def _merge(
    expected: Sequence[str], actual: Sequence[str], written: Sequence[str], bindings: Bindings
) -> list[str]:
    """The cheapest way from ``expected`` to ``actual``: a line lost or new costs one."""
    rows, columns = len(expected), len(actual)
    matches = [
        [not is_free(e) and match_line(e.rstrip(), a, bindings) is not None for a in actual]
        for e in expected
    ]
    # cost[i][j]: from expected[i:] to actual[j:]
    cost = [[0] * (columns + 1) for _ in range(rows + 1)]
    for i in range(rows, -1, -1):
        for j in range(columns, -1, -1):
            if i < rows or j < columns:
                cost[i][j] = min(c for c, _, _, _ in _steps(expected, matches, cost, i, j))
    merged: list[str] = []
    bound = bindings
    i = j = 0
    while i < rows or j < columns:
        best = min(_steps(expected, matches, cost, i, j), key=lambda step: step[0])
        _, keeps, i_next, j_next = best
        if keeps and j_next > j:
            # A name that another line has bound meanwhile may keep this one from matching.
            found = match_line(expected[i].rstrip(), actual[j], bound)
            merged.append(written[j] if found is None else expected[i])
            bound = bound if found is None else found
        elif keeps:
            merged.append(expected[i])
        elif j_next > j and i_next == i and not _absorbs(expected, i):
            merged.append(written[j])
        i, j = i_next, j_next
    return merged


def _absorbs(expected: Sequence[str], i: int) -> bool:
    return i < len(expected) and expected[i].rstrip() == ANY_LINES


def _steps(
    expected: Sequence[str], matches: list[list[bool]], cost: list[list[int]], i: int, j: int
) -> list[tuple[int, bool, int, int]]:
    """Ways on from (i, j): (cost to the end, whether expected[i] is kept, next i, next j)."""
    steps: list[tuple[int, bool, int, int]] = []
    rows, columns = len(cost) - 1, len(cost[0]) - 1
    if i < rows and j < columns and matches[i][j]:
        steps.append((cost[i + 1][j + 1], True, i + 1, j + 1))
    if _absorbs(expected, i):
        steps.append((cost[i + 1][j], True, i + 1, j))
        if j < columns:
            steps.append((cost[i][j + 1], False, i, j + 1))
        return steps
    if i < rows and is_free(expected[i]):
        steps.append((cost[i + 1][j], True, i + 1, j))
    elif i < rows:
        steps.append((1 + cost[i + 1][j], False, i + 1, j))
    if j < columns:
        steps.append((1 + cost[i][j + 1], False, i, j + 1))
    return steps
