"""A terminal that takes nothing holds up nobody."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator

import pytest
from prompt_toolkit.data_structures import Size

from monitor.shell import tty
from monitor.shell.tty import CONGESTED, TerminalOutput


@pytest.fixture
def pipe() -> Iterator[tuple[int, TerminalOutput]]:
    """The end that a terminal would read, and the output."""
    reading, writing = os.pipe()
    with io.TextIOWrapper(os.fdopen(writing, "wb", closefd=False), encoding="utf-8") as stream:
        yield reading, TerminalOutput(stream, lambda: Size(24, 80), term="xterm")
    os.close(reading)  # a write that still waits ends by that


def test_flush_returns_and_says_that_it_is_congested(
    pipe: tuple[int, TerminalOutput], monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, output = pipe
    monkeypatch.setattr(tty, "PATIENCE", 0.0)
    text = "x" * (CONGESTED * 4)  # more than a pipe holds
    output.write_raw(text)
    output.flush()
    output.settle()
    assert output.congested
    taken = b""
    while len(taken) < len(text):
        taken += os.read(reading, 1 << 20)
    monkeypatch.setattr(tty, "PATIENCE", 30.0)
    output.settle()
    assert not output.congested


def test_order_is_kept(pipe: tuple[int, TerminalOutput]) -> None:
    reading, output = pipe
    for number in range(100):
        output.write_raw(f"{number},")
        output.flush()
    output.settle()
    assert os.read(reading, 1 << 16).decode() == "".join(f"{n}," for n in range(100))


def test_a_terminal_that_is_gone_is_told_once(pipe: tuple[int, TerminalOutput]) -> None:
    reading, output = pipe
    gone: list[bool] = []
    output.on_gone = lambda: gone.append(True)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, reading)  # the last reader is gone
    os.close(null)
    for _ in range(3):
        output.write_raw("x")
        output.flush()
        output.settle()
    assert gone == [True]
