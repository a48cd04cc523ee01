"""Colours of a typed line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pygments.token import Comment, Keyword, Name, Number, String, Token, _TokenType

from monitor.shell.highlight import BlkmonLexer


def kinds(text: str, **options: object) -> dict[str, _TokenType]:
    return {value: kind for _, kind, value in BlkmonLexer(**options).get_tokens_unprocessed(text)}


@pytest.mark.parametrize(
    ("text", "word", "kind"),
    [
        ("block_stream -f d0 10M", "block_stream", Name.Function),
        ("block_stream -f d0 10M", "-f", Name.Decorator),
        ("block_stream -f d0 10M", "10M", Number),
        ("wait s0 --timeout 5", "--timeout", Name.Decorator),
        ("drive_add 0 if=none,id=d0", "id", Name.Attribute),
        ('qemu-io d0 "read 0 64k"', '"read 0 64k"', String.Double),
        ('qemu-io d0 "read 0', '"read 0', String.Double),
        ("blockdev-add read-only=on", "on", Keyword.Constant),
        ('x {"a": null}', '"a"', Name.Attribute),
        ('x {"a": null}', "null", Keyword.Constant),
        ("info block # all", "# all", Comment.Single),
        ("a ; quit", "quit", Name.Function),
        ("a\nquit", "quit", Name.Function),
        ("-drive_del d0", "drive_del", Name.Function),
        ("info block #block12", "#block12", Token.Text),
        ("open a;b", "a;b", Token.Text),
    ],
)
def test_colours(text: str, word: str, kind: _TokenType) -> None:
    assert kinds(text)[word] is kind


def test_only_known_commands_light_up() -> None:
    known = {"info"}.__contains__
    assert kinds("info block", known=known)["info"] is Name.Function
    assert kinds("inf block", known=known)["inf"] is Token.Text


@given(st.text(alphabet=st.sampled_from("ab1 =\"'\\[]{}():,;#-!\n\té0x"), max_size=60))
def test_any_text_is_covered_without_errors(text: str) -> None:
    found = list(BlkmonLexer().get_tokens_unprocessed(text))
    assert "".join(value for _, _, value in found) == text
    assert all(kind is not Token.Error for _, kind, _ in found)
