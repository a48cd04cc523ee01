"""The prompt on a terminal, for the tests of this folder."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import BLKMON, Run
from tests.support.terminal import Terminal, at_prompt

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
            "XDG_CONFIG_HOME": str(tmp_path / "config"),
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
        terminal.until(at_prompt())
        return terminal

    yield run
    for terminal in started:
        terminal.kill()


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}


@pytest.fixture
def run(tmp_path: Path, environment: dict[str, str]) -> Run:
    """Runs blkmon in an empty folder with ``typed`` on its standard input."""

    def run(*arguments: str, typed: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*BLKMON, *arguments],
            input=typed,
            capture_output=True,
            text=True,
            timeout=60,
            **{"cwd": tmp_path, "env": environment, **options},
        )

    return run


@pytest.fixture
def talk(tmp_path: Path, environment: dict[str, str]) -> Iterator[Callable[..., Any]]:
    """Starts blkmon with pipes at all ends."""
    started: list[subprocess.Popen[str]] = []

    def talk(*arguments: str, **options: Any) -> subprocess.Popen[str]:
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        options = {**pipes, "cwd": tmp_path, "env": environment, "text": True, **options}
        process = subprocess.Popen([*BLKMON, *arguments], **options)
        started.append(process)
        return process

    yield talk
    for process in started:
        process.kill()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # what was still to be sent
                    pipe.close()
        process.wait()
