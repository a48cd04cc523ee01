"""A pytest plugin: every transcript (``*.blkmon``) that pytest is pointed at is a test.

It comes with the package, so that transcripts are tests in other repositories too::

    pytest transcripts/

One test a file, named ``replay``. A failure shows a unified diff with file and line; ``blkmon
--replay --update FILE`` makes it the new expectation. A ``*.blkmon`` file without a prompt in it
is a script and no test.

The sessions that documents show (``shell.documents``) are tests, too, in those that pytest is told
of: as arguments, or by patterns in its configuration::

    [pytest]
    blkmon_docs = README.md docs/*.md
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from monitor.shell.documents import DocumentedSession
    from monitor.shell.replay import Replayed


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("blkmon_docs", "documents whose blkmon sessions are tests", type="args")


def pytest_collect_file(
    file_path: Path, parent: pytest.Collector
) -> TranscriptFile | DocumentFile | None:
    if file_path.suffix == ".blkmon":
        return (
            TranscriptFile.from_parent(parent, path=file_path) if _has_prompt(file_path) else None
        )
    if file_path.suffix == ".md" and _is_tested(file_path, parent):
        return DocumentFile.from_parent(parent, path=file_path)
    return None


def _has_prompt(path: Path) -> bool:
    from monitor.shell.session import PROMPT

    lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    return any(line.startswith(PROMPT.rstrip()) for line in lines)


def _is_tested(path: Path, parent: pytest.Collector) -> bool:
    if parent.session.isinitpath(path):
        return True
    root = parent.config.rootpath
    return any(path in root.glob(pattern) for pattern in parent.config.getini("blkmon_docs"))


class TranscriptFile(pytest.File):
    """A transcript, as pytest collects it."""

    def collect(self) -> Iterable[Replay]:
        yield Replay.from_parent(self, name="replay")


class DocumentFile(pytest.File):
    """A document with sessions in it."""

    def collect(self) -> Iterable[SessionTest]:
        from monitor.shell.documents import sessions_in

        for number, session in enumerate(sessions_in(str(self.path)), 1):
            yield SessionTest.from_parent(self, name=f"session{number}", documented=session)


class ReplayDiffers(Exception):
    """The text is the diff."""


class _Item(pytest.Item):
    """A test whose failure is a text."""

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        from monitor.engine.errors import MonitorError

        if isinstance(excinfo.value, ReplayDiffers | MonitorError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    @staticmethod
    def judge(replayed: Replayed | None) -> None:
        if replayed is not None and replayed.differs:
            raise ReplayDiffers(replayed.diff())


class Replay(_Item):
    """One replay, in a folder of its own."""

    def runtest(self) -> None:
        from monitor.shell.replay import replay_file

        self.judge(replay_file(str(self.path)))

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, self.path.name


class SessionTest(_Item):
    """One session of a document, in a folder of its own."""

    def __init__(self, *, documented: DocumentedSession, **how: Any) -> None:
        super().__init__(**how)
        self._documented = documented

    def runtest(self) -> None:
        from monitor.shell.documents import run_session

        try:
            self.judge(run_session(self._documented))
        except FileNotFoundError as missing:
            pytest.skip(str(missing))

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, self._documented.start, f"{self.path.name} {self.name}"
