"""Mistakes at the prompt: the caret under what was typed, the error, and what was meant."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.terminal import Terminal

Start = Callable[..., Terminal]

DISK = ("--blockdev", "driver=null-co,node-name=node0,size=65536")


def shown(terminal: Terminal, typed: str, lines: list[str]) -> None:
    """Waits until ``lines`` stand below what was typed."""

    def below(t: Terminal) -> bool:
        on_screen = [line.rstrip() for line in t.lines]
        at = on_screen.index(f"blkmon> {typed}") if f"blkmon> {typed}" in on_screen else None
        return at is not None and on_screen[at + 1 : at + 1 + len(lines)] == lines

    terminal.send(f"{typed}\r")
    terminal.until(below)


def test_a_string_that_is_never_closed_is_an_error_at_once(start: Start) -> None:
    t = start(*DISK)
    shown(
        t,
        'echo "a',
        [
            "             ^",
            "Error: this string is never closed: expected a closing quote",
            "blkmon>",
        ],
    )


def test_what_does_not_exist_is_marked(start: Start) -> None:
    t = start(*DISK)
    shown(
        t,
        'qemu-io nod0 "read 0 4k"',
        [
            "                ^^^^",
            "Error: Cannot find device='' nor node-name='nod0'",
            "did you mean 'node0'?",
        ],
    )


def test_the_second_mistake_of_a_line_shows_the_line_again(start: Start) -> None:
    t = start(*DISK)
    shown(
        t,
        "blockdev-add driver=raw sise=1",
        [
            " " * len("blkmon> blockdev-add driver=raw ") + "^^^^",
            "Error: unknown option 'sise'",
            "did you mean 'size'?",
            "blockdev-add driver=raw sise=1",
            " " * len("blockdev-add driver=raw sise=1") + "^",
            "Error: 'file' is missing: expected file= with a node, or its options",
        ],
    )


def test_a_command_of_two_has_its_line_below_the_output_of_the_first(start: Start) -> None:
    t = start(*DISK)
    shown(
        t,
        "echo x ; drive_del d9",
        ["x", "echo x ; drive_del d9", " " * 19 + "^^", "Device 'd9' not found"],
    )
