"""``watch``: what has changed, and when it ends."""

from __future__ import annotations

import pytest

from monitor.shell.watching import MOST_LINES, with_changes
from tests.support.typist import Typist, typed


def marked(text: str, before: str | None) -> str:
    return "".join(f"<{part}>" if style else part for style, part in with_changes(text, before))


def test_changes_are_marked_within_lines() -> None:
    assert marked("s0: 10%", None) == "s0: 10%"
    assert marked("s0: 15%", "s0: 10%") == "s0: 1<5>%"
    assert marked("a\nnew\nb", "a\nb") == "a\n<new>\nb"
    assert marked("a", "a\nb") == "a"


def test_what_is_long_is_not_compared() -> None:
    text = "x\n" * MOST_LINES
    assert marked(text, "y") == text


@pytest.mark.parametrize(
    ("line", "printed"),
    [
        ("watch --times 2 0.1 echo a", ["a"]),
        ("watch --until a 0.1 echo a", ["a"]),
        ("watch --while b 0.1 echo a", ["a"]),
        ("watch 0 echo a", ["Error: 0 s are too few: expected 0.1 or more"]),
        ("watch --times 2 0.1 info blok", ["unknown command: 'info blok'"]),
    ],
)
def test_it_ends(line: str, printed: list[str]) -> None:
    async def work(session: Typist) -> None:
        await session.enter(line)

    assert [
        text.split(": expected one of")[0].removeprefix("Error: ").split("\n")[0]
        for text in typed(work)
    ] == [text.removeprefix("Error: ") for text in printed]


def test_history_reruns_by_number_and_beginning() -> None:
    async def work(session: Typist) -> None:
        for line in ("echo one", "echo two", "rerun 0", "rerun echo", "rerun", "rerun nothing",
                     "rerun 2", "info history"):  # fmt: skip
            await session.enter(line)

    one, two, *rerun, missing, other, listing = typed(work)
    assert (one, two) == ("one", "two")
    assert rerun == ["echo one", "one", "echo two", "two", "echo two", "two"]
    assert missing == "Error: nothing in the history is 'nothing'"
    assert other.startswith("Error: 'rerun 0' runs another line")
    assert listing.splitlines()[:2] == ["0: 'echo one'", "1: 'echo two'"]
