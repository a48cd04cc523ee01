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
    """``start()``: the prompt on a fake engine, the first prompt shown; see ``Terminal``."""
    started: list[Terminal] = []

    def run(*, wait: bool = True, **options: Any) -> Terminal:
        env = {
            "XDG_STATE_HOME": str(tmp_path / "state"),
            "PYTHONPATH": str(ROOT),
            "NO_COLOR": "",
            **options.pop("env", {}),
        }
        argv = [sys.executable, str(Path(__file__).with_name("prompt_child.py"))]
        terminal = Terminal(argv, env=env, cwd=str(tmp_path), **options)
        started.append(terminal)
        if wait:
            terminal.until(lambda t: t.current == "blkmon> ")
        return terminal

    yield run
    for terminal in started:
        terminal.kill()
