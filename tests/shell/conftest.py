"""The prompt on a terminal, for the tests of this folder."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.terminal import Terminal

ROOT = Path(__file__).parents[2]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """``start()``: the prompt on a fake engine, the first prompt shown; see ``Terminal``.

    ``start("--drive", …)``: ``blkmon`` itself with these arguments, in the test's own folder.
    """
    started: list[Terminal] = []

    def run(*arguments: str, **options: Any) -> Terminal:
        env = {
            "XDG_STATE_HOME": str(tmp_path / "state"),
            "PYTHONPATH": str(ROOT),
            "NO_COLOR": "",
            **options.pop("env", {}),
        }
        program = (
            ["-m", "monitor"] if arguments else [str(Path(__file__).parent / "prompt_child.py")]
        )
        argv = [sys.executable, *program, *arguments]
        terminal = Terminal(argv, env=env, cwd=str(tmp_path), **options)
        started.append(terminal)
        terminal.until(lambda t: t.current == "blkmon> ")
        return terminal

    yield run
    for terminal in started:
        terminal.kill()
