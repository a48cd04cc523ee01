"""A pytest plugin: every transcript (``*.blkmon``) that pytest is pointed at is a test.

It comes with the package, so that transcripts are tests in other repositories too::

    pytest transcripts/

One test a file, named ``replay``. A failure shows a unified diff with file and line; ``blkmon
--replay --update FILE`` makes it the new expectation. A ``*.blkmon`` file without a prompt in it
is a script and no test.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> TranscriptFile | None:
    if file_path.suffix != ".blkmon" or not _has_prompt(file_path):
        return None
    return TranscriptFile.from_parent(parent, path=file_path)


def _has_prompt(path: Path) -> bool:
    from monitor.shell.session import PROMPT

    lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    return any(line.startswith(PROMPT.rstrip()) for line in lines)


class TranscriptFile(pytest.File):
    """A transcript, as pytest collects it."""

    def collect(self) -> Iterable[Replay]:
        yield Replay.from_parent(self, name="replay")


class ReplayDiffers(Exception):
    """The text is the diff."""


class Replay(pytest.Item):
    """One replay, in a folder of its own."""

    def runtest(self) -> None:
        from monitor.shell.replay import replay_file

        replayed = replay_file(str(self.path))
        if replayed.differs:
            raise ReplayDiffers(replayed.diff())

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        from monitor.engine.errors import MonitorError

        if isinstance(excinfo.value, ReplayDiffers | MonitorError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, self.path.name
