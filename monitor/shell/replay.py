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
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from monitor.engine.api import Engine
from monitor.engine.errors import HostFailure, MonitorError
from monitor.shell.dialogue import Dialogue
from monitor.shell.failures import OutputClosed
from monitor.shell.fixtures import Fixtures, make_images, parse_fixtures, write_files
from monitor.shell.masks import FAILED, Bindings, filled_in
from monitor.shell.record import Entry, Masker, Recorder
from monitor.shell.texts import read_script
from monitor.shell.transcript import Block, Transcript, TranscriptError, parse_transcript, updated

ENDED = "Error: the session has ended"
_DECLINED = re.compile(r"Error: (?:Not done: |'.*' is a disk image: its data would be lost)")
"""What a command says that asked, and was answered no, or by nobody (``losses``, ``pipes``)."""

_MISSING = re.compile(r"Could not open '([^']+)': No such file or directory")


@dataclass(frozen=True)
class Played:
    """A block that was typed: what it printed, and what masks stood for before that."""

    block: Block
    actual: list[str]
    bindings: Bindings


@dataclass(frozen=True)
class Replayed:
    """A transcript and ``lines``, what it would have to be to match this run; ``played`` are the
    blocks that were reached."""

    transcript: Transcript
    lines: list[str]
    played: list[Played]

    @property
    def differs(self) -> bool:
        return self.lines != self.transcript.lines

    def diff(self) -> str:
        """A unified diff behind a line ``FILE:LINE: …`` that names the first difference, and the
        phase of the story that it is in."""
        before, path = self.transcript.lines, self.transcript.path
        diff = difflib.unified_diff(before, self.lines, path, f"{path} (replayed)", lineterm="")
        where = next(
            (i for i, (a, b) in enumerate(zip(before, self.lines, strict=False), 1) if a != b),
            min(len(before), len(self.lines)) + 1,
        )
        phase = next((p.block.phase for p in reversed(self.played) if p.block.phase), None)
        story = f": {phase}" if phase else ""
        return "\n".join([f"{path}:{where}: the replay differs{story}", *self._hint(), *diff])

    def _hint(self) -> list[str]:
        """What to do about a file that the session had and an empty folder has not."""
        added = [line for line in self.lines if line not in self.transcript.lines]
        missing = next((found[1] for line in added if (found := _MISSING.search(line))), None)
        if missing is None or os.path.isabs(missing):
            return []
        return [
            f"A replay begins in an empty folder: if '{missing}' was there before the session, the "
            f"transcript's head has to make it (image {missing} FORMAT SIZE)."
        ]


def replay_files(paths: Sequence[str], *, update: bool = False) -> int:
    """Replays each file; the exit status. Diffs go to stdout, one line a file to stderr."""
    status = 0
    for path in paths:
        try:
            replayed = replay_file(path, whole=update)
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
            try:
                print(replayed.diff(), flush=True)
            except OSError as error:
                from monitor.shell.running import output_closed

                return output_closed(OutputClosed(error))
            status = status or 1
    return status


def replay_file(path: str, *, whole: bool = False) -> Replayed:
    """Replays one transcript in a fresh folder, which is removed afterwards. The first phase that
    differs is the last one that is played, unless the ``whole`` transcript is.

    Raises HostFailure when it cannot be read, TranscriptError when it cannot be played. The
    process's current folder is another one meanwhile.
    """
    transcript = parse_transcript(read_script(path), path)
    with fresh_folder() as here, asyncio.Runner() as runner:
        return runner.run(replay(transcript, here, whole=whole))


@contextlib.contextmanager
def fresh_folder() -> Iterator[str]:
    """A folder that is the current one, and is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="blkmon-") as folder:
        # Resolved, as the system itself tells it.
        here = os.path.realpath(folder)
        with contextlib.chdir(here):
            yield here


def write_update(replayed: Replayed) -> None:
    """Writes the new lines in place of the file, at once or not at all. Lines end as they did."""
    target = Path(replayed.transcript.path).resolve()
    before = target.read_bytes()
    newline = "\r\n" if b"\r\n" in before else "\n"
    text = newline.join(replayed.lines) + (newline if before.endswith(b"\n") else "")
    with tempfile.NamedTemporaryFile("wb", dir=target.parent, delete=False) as file:
        file.write(text.encode("utf-8", "surrogateescape"))
    os.chmod(file.name, target.stat().st_mode & 0o7777)
    os.replace(file.name, target)


async def replay(transcript: Transcript, here: str, *, whole: bool = False) -> Replayed:
    """Plays a transcript in the current folder ``here``, with the fixtures of its head."""
    return await play(transcript, parse_fixtures(transcript), here, whole=whole)


async def play(
    transcript: Transcript, fixtures: Fixtures, here: str, *, whole: bool = False
) -> Replayed:
    """Plays a transcript's blocks in the current folder ``here``."""
    from monitor.shell.engines import embedded_engine

    write_files(transcript.path, fixtures.files)
    if fixtures.images:
        maker = embedded_engine()
        try:
            await make_images(transcript.path, fixtures.images, maker)
        finally:
            await maker.shut_down()
    engine = embedded_engine()
    try:
        engine.go_by_steps(True)
        await _add_disks(transcript.path, fixtures.disks, here, engine)
        return await _type_blocks(transcript, here, engine, whole=whole)
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


async def _type_blocks(
    transcript: Transcript, here: str, engine: Engine, *, whole: bool
) -> Replayed:
    bindings: Bindings = {"PATH:here": here}
    masker = Masker(here)
    played: list[Played] = []
    expected = [block.expected for block in transcript.blocks]
    differs = False
    session = _Replay(engine)
    try:
        for number, block in enumerate(transcript.blocks):
            if differs and block.phase and not whole:
                break
            declined = any(map(_DECLINED.match, block.expected))
            actual = await session.play(filled_in(block.text, bindings), not declined)
            played.append(Played(block, actual, bindings))
            found = block.match(actual, bindings)
            if found is None:
                differs = True
                expected[number] = _rewritten(block, actual, masker, bindings)
                found = Block(0, [], expected[number]).match(actual, bindings)
            bindings = found or bindings
    finally:
        session.close()
    return Replayed(transcript, transcript.with_expected(expected), played)


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
        self._answer = True
        self._entries: list[Entry] = []
        self.recorder = Recorder(engine, self._entries.append)

    def show(self, text: str) -> None:
        """The recorder keeps it."""

    async def ask(self, question: str) -> bool:
        return self._answer

    async def play(self, text: str, answer: bool) -> list[str]:
        """What is printed for ``text``. Where it asks, ``answer`` is what was said."""
        if self.quitting:
            return [ENDED, FAILED]
        self._answer = answer
        self._entries.clear()
        await self.enter(text)
        return self._entries[0].all_lines()
