"""Replaying transcripts: the same lines typed again, and the answers held against the file's.

Each runs in a fresh folder on an engine of its own, so that names which the engine makes up are
the same ones. What differs is shown as a unified diff between the file and what ``--update``
makes of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from monitor.engine.api import Engine
from monitor.engine.errors import HostFailure, MonitorError
from monitor.shell.fixtures import make_images, parse_fixtures
from monitor.shell.masks import Bindings, filled_in
from monitor.shell.record import FAILED, Entry, Masker, Recorder
from monitor.shell.session import Dialogue
from monitor.shell.texts import read_script
from monitor.shell.transcript import Block, Transcript, TranscriptError, parse_transcript, updated

ENDED = "Error: the session has ended"


@dataclass(frozen=True)
class Replayed:
    """A transcript and ``lines``, what it would have to be to match this run."""

    transcript: Transcript
    lines: list[str]

    @property
    def differs(self) -> bool:
        return self.lines != self.transcript.lines

    def diff(self) -> str:
        """A unified diff behind a line ``FILE:LINE: …`` that names the first difference."""
        before, path = self.transcript.lines, self.transcript.path
        diff = difflib.unified_diff(before, self.lines, path, f"{path} (replayed)", lineterm="")
        where = next(
            (i for i, (a, b) in enumerate(zip(before, self.lines, strict=False), 1) if a != b),
            min(len(before), len(self.lines)) + 1,
        )
        return "\n".join([f"{path}:{where}: the replay differs", *diff])


def replay_files(paths: Sequence[str], *, update: bool = False) -> int:
    """Replays each file; the exit status. Diffs go to stdout, one line a file to stderr."""
    status = 0
    for path in paths:
        try:
            replayed = replay_file(path)
        except HostFailure as error:
            print(f"blkmon: {error}", file=sys.stderr)
            status = status or 1
            continue
        except MonitorError as error:
            print(error, file=sys.stderr)
            status = status or 3
            continue
        if not replayed.differs:
            print(f"{path}: matches", file=sys.stderr)
        elif update:
            write_update(replayed)
            print(f"{path}: updated", file=sys.stderr)
        else:
            print(replayed.diff(), flush=True)
            status = status or 1
    return status


def replay_file(path: str) -> Replayed:
    """Replays one transcript in a fresh folder, which is removed afterwards.

    Raises HostFailure when it cannot be read, TranscriptError when it cannot be played. The
    process's current folder is another one meanwhile.
    """
    transcript = parse_transcript(read_script(path), path)
    with tempfile.TemporaryDirectory(prefix="blkmon-") as folder:
        # Resolved, as the system itself tells it.
        here = os.path.realpath(folder)
        with contextlib.chdir(here), asyncio.Runner() as runner:
            return runner.run(replay(transcript, here))


def write_update(replayed: Replayed) -> None:
    """Writes the new lines in place of the file, at once or not at all."""
    target = Path(replayed.transcript.path).resolve()
    text = "\n".join(replayed.lines) + "\n"
    with tempfile.NamedTemporaryFile("wb", dir=target.parent, delete=False) as file:
        file.write(text.encode("utf-8", "surrogateescape"))
    os.chmod(file.name, target.stat().st_mode & 0o7777)
    os.replace(file.name, target)


async def replay(transcript: Transcript, here: str) -> Replayed:
    """Plays a transcript in the current folder ``here``."""
    from monitor.engine.embedded import EmbeddedEngine

    fixtures = parse_fixtures(transcript)
    maker = EmbeddedEngine()
    try:
        await make_images(transcript.path, fixtures.images, maker)
    finally:
        await maker.shut_down()
    engine = EmbeddedEngine()
    try:
        await _add_disks(transcript.path, fixtures.disks, here, engine)
        return await _play(transcript, here, engine)
    finally:
        await engine.shut_down()


async def _add_disks(
    path: str, disks: Sequence[tuple[int, str, str]], here: str, engine: Engine
) -> None:
    from monitor.shell.disks import DiskRefused, add_disks

    for line, option, text in disks:
        try:
            await add_disks(engine, [(option, filled_in(text, {"PATH:here": here}))])
        except DiskRefused as refused:
            raise TranscriptError(path, line, str(refused)) from refused


async def _play(transcript: Transcript, here: str, engine: Engine) -> Replayed:
    bindings: Bindings = {"PATH:here": here}
    masker = Masker(here)
    expected: list[list[str]] = []
    session = _Replay(engine)
    try:
        for block in transcript.blocks:
            actual = await session.play(filled_in(block.text, bindings))
            found = block.match(actual, bindings)
            if found is not None:
                bindings = found
                expected.append(block.expected)
                continue
            expected.append(_rewritten(block, actual, masker, bindings))
            bindings = Block(0, [], expected[-1]).match(actual, bindings) or bindings
    finally:
        session.close()
    return Replayed(transcript, transcript.with_expected(expected))


def _rewritten(
    block: Block, actual: Sequence[str], masker: Masker, bindings: Bindings
) -> list[str]:
    masker.bound = bindings
    written = [line if line == FAILED else masker.output(line) for line in actual]
    return updated(block.expected, actual, written, bindings)


class _Replay(Dialogue):
    """Types a transcript's lines and keeps the answers."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._entries: list[Entry] = []
        self.recorder = Recorder(engine, self._entries.append)

    def show(self, text: str) -> None:
        """The recorder keeps it."""

    async def play(self, text: str) -> list[str]:
        """What is printed for ``text``."""
        if self.quitting:
            return [ENDED, FAILED]
        self._entries.clear()
        await self.enter(text)
        return self._entries[0].all_lines()
