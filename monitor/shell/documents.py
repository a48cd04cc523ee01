"""Sessions in documents: what a README shows is a test, too.

A fenced ``console`` block in which somebody types at ``blkmon>`` is a session::

    $ qemu-img create -q -f qcow2 disk.qcow2 64M
    $ blkmon --drive if=none,id=d0,file=disk.qcow2
    blkmon> qemu-io d0 length
    64 MiB
    $ qemu-img check disk.qcow2
    No errors were found on the image.

It runs from its first line to its last in one fresh folder. ``$ `` is a line for the shell; one
that calls ``blkmon`` and is followed by its prompt is a transcript from there on, on the disks that
the line names. A block without such a line is a transcript alone. Masks, ``[failed]`` and comments
are those of transcripts.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from monitor.shell.fixtures import Fixtures
from monitor.shell.masks import FAILED, Bindings
from monitor.shell.replay import Played, Replayed, fresh_folder, play
from monitor.shell.session import PROMPT
from monitor.shell.texts import read_script
from monitor.shell.transcript import Block, Transcript, parse_transcript, updated

_BEGIN = re.compile(r"\s*```\s*console\b")
_END = re.compile(r"\s*```\s*$")
_SHELL = "$ "
_PATIENCE = 60
"""Seconds that a line for the shell may take."""


@dataclass(frozen=True)
class DocumentedSession:
    """The lines ``start`` to ``end`` (from 0, the last one left out) of a document."""

    path: str
    lines: Sequence[str]
    start: int
    end: int

    def steps(self) -> Iterator[tuple[int, int]]:
        """(start, end) of each line for the shell with what follows it; or of all."""
        starts = [i for i in range(self.start, self.end) if self.lines[i].startswith(_SHELL)]
        starts = starts if starts and starts[0] == self.start else [self.start, *starts]
        yield from zip(starts, [*starts[1:], self.end], strict=True)


def sessions_in(path: str) -> list[DocumentedSession]:
    """The sessions of a document. Raises HostFailure when it cannot be read."""
    lines = read_script(path).split("\n")
    found, start = [], None
    for number, line in enumerate(lines):
        if start is None:
            start = number + 1 if _BEGIN.match(line) else None
        elif _END.match(line):
            if any(inner.startswith(PROMPT) for inner in lines[start:number]):
                found.append(DocumentedSession(path, lines, start, number))
            start = None
    return found


def run_session(session: DocumentedSession) -> Replayed | None:
    """Runs a session in a fresh folder; the first step that differs, or None.

    Raises what a replay raises, and FileNotFoundError for a tool that is not installed.
    """
    with fresh_folder() as here:
        for start, end in session.steps():
            step = _run_step(session, start, end, here)
            if step.differs:
                return step
    return None


def _run_step(session: DocumentedSession, start: int, end: int, here: str) -> Replayed:
    lines = session.lines
    first = lines[start]
    shell = first.startswith(_SHELL)
    if any(line.startswith(PROMPT) for line in lines[start:end]):
        # What stands above is the head, so that lines keep their numbers.
        above = start + 1 if shell else start
        blocks = parse_transcript("\n" * above + "\n".join(lines[above:end]), session.path).blocks
        transcript = Transcript(session.path, list(lines[:above]), blocks)
        return asyncio.run(play(transcript, _disks(first, start) if shell else Fixtures(), here))
    block = Block(start + 1, [first], list(lines[start + 1 : end]))
    transcript = Transcript(session.path, list(lines[:start]), [block])
    return _compare(transcript, block, _run_shell(first[len(_SHELL) :]))


def _disks(typed: str, start: int) -> Fixtures:
    """The disks of a documented command line."""
    from monitor.options import parse_arguments

    options = parse_arguments(shlex.split(typed[len(_SHELL) :])[1:])
    return Fixtures(disks=[(start + 1, name.lstrip("-"), value) for name, value in options.disks])


def _run_shell(command: str) -> list[str]:
    """What it prints, on either stream, and ``[failed]``."""
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)])
    ended = subprocess.run(
        ["sh", "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PATH": path},
        timeout=_PATIENCE,
        encoding="utf-8",
        errors="surrogateescape",
        check=False,
    )
    if ended.returncode == 127:
        raise FileNotFoundError(ended.stdout.strip())
    return [*ended.stdout.splitlines(), *([FAILED] if ended.returncode else [])]


def _compare(transcript: Transcript, block: Block, actual: list[str]) -> Replayed:
    bindings: Bindings = {}
    expected = block.expected
    if block.match(actual, bindings) is None:
        expected = updated(expected, actual, actual, bindings)
    lines = transcript.with_expected([expected])
    return Replayed(transcript, lines, [Played(block, actual, bindings)])
