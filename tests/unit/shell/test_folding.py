"""Text for people on narrow terminals."""

from __future__ import annotations

import pytest

from monitor.shell.folding import folded


def test_what_fits_stays() -> None:
    assert folded("a line\n\n  another", 10) == "a line\n\n  another"


def test_words_stay_whole_and_keep_their_column() -> None:
    assert folded("    one two three", 12) == "    one two\n    three"
    assert folded("-f  one two three", 12) == "-f  one two\n    three"


def test_a_last_column_too_far_right_goes_back_to_the_left() -> None:
    assert folded("name       kind  said at length", 25) == "name       kind  said at\nlength"


def test_a_word_that_is_too_long_is_left_to_the_terminal() -> None:
    assert folded("  " + "x" * 30, 12) == "  " + "x" * 30


@pytest.mark.parametrize("columns", [1, 2, 5, 40, 80])
def test_nothing_is_lost(columns: int) -> None:
    text = "  a  b\tc d\n\n-o OPTION      say what is said of it, or else 全角 and more\nend"
    assert folded(text, columns).split() == text.split()
