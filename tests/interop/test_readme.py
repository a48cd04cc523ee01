"""README's session, as written: QEMU's tools before it and after it, and ours in between."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from monitor.cli import parse_arguments
from monitor.shell.disks import setup_lines
from monitor.shell.masks import match_lines
from monitor.shell.record import Masker
from monitor.shell.replay import replay
from monitor.shell.transcript import parse_transcript

README = Path(__file__).parents[2] / "README.md"


def steps(text: str) -> Iterator[tuple[str, list[str]]]:
    """The session's shell commands, each with the lines below it."""
    session = re.search(r"```console\n(.*?)```", text, re.DOTALL)
    assert session is not None
    for step in re.split(r"^\$ ", session[1], flags=re.MULTILINE)[1:]:
        command, *lines = step.splitlines()
        yield command, lines


def test_readmes_session(
    need: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("qemu-img", "qemu-io")
    monkeypatch.chdir(tmp_path)
    said = []
    for command, lines in steps(README.read_text()):
        if command.startswith("blkmon "):
            _replay(command, lines, tmp_path)
            continue
        ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
        assert ended.returncode == 0, ended.stderr
        assert match_lines(lines, ended.stdout.splitlines(), {}) is not None, ended.stdout
        said += lines
    assert {"No errors were found on the image.", "Images are identical."} <= set(said)


def _replay(command: str, lines: list[str], here: Path) -> None:
    masker = Masker(str(here))
    disks = setup_lines(parse_arguments(command.split()[1:]).disks)
    # The times and rates of one day are shown; on another they are others.
    masked = [re.sub(r"; [\d.]+ sec .*", lambda m: masker.typed(m[0]), line) for line in lines]
    transcript = parse_transcript("\n".join([*disks, *masked]), str(README))
    replayed = asyncio.run(replay(transcript, str(here)))
    assert not replayed.differs, replayed.diff()
