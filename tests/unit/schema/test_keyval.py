"""Option strings. The sentences are those of ``qemu-storage-daemon --blockdev`` 7.2."""

from __future__ import annotations

from typing import Any

import pytest

from monitor.engine.schema.keyval import OptionsError, parse_keyval, parse_opts
from tests.support.mistakes import KEYVAL


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("", {}),
        ("a=b", {"a": "b"}),
        ("a=b,", {"a": "b"}),
        ("a=", {"a": ""}),
        ("a=b,c=d", {"a": "b", "c": "d"}),
        ("a=b,,c,d=e=f", {"a": "b,c", "d": "e=f"}),
        ("a=,,", {"a": ","}),
        ("a=1,a=2", {"a": "2"}),
        ("a.b=1,a.c=2", {"a": {"b": "1", "c": "2"}}),
        ("a.b.c=1,d=2", {"a": {"b": {"c": "1"}}, "d": "2"}),
        ("a.0=x,a.1=y", {"a": ["x", "y"]}),
        ("a.1=y,a.0=x", {"a": ["x", "y"]}),
        ("a.0.b=x,a.01.b=y", {"a": [{"b": "x"}, {"b": "y"}]}),
        ("a.0.0=x,a.0.1=y", {"a": [["x", "y"]]}),
        ("__com.example_x-y=1", {"__com.example_x-y": "1"}),
        ("a_b=1,a-b=2", {"a_b": "1", "a-b": "2"}),
        ("a=line\nbreak", {"a": "line\nbreak"}),
    ],
)
def test_keyval(text: str, options: dict[str, Any]) -> None:
    assert parse_keyval(text) == options


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("null-co", {"driver": "null-co"}),
        ("null-co,size=1", {"driver": "null-co", "size": "1"}),
        ("a.b,size=1", {"driver": "a.b", "size": "1"}),
        ("size=1,driver=x", {"size": "1", "driver": "x"}),
    ],
)
def test_the_first_word_may_lack_its_key(text: str, options: dict[str, str]) -> None:
    assert parse_keyval(text, "driver") == options


@pytest.mark.parametrize(("text", "message", "span"), KEYVAL)
def test_keyval_mistakes_and_their_place(text: str, message: str, span: str) -> None:
    with pytest.raises(OptionsError) as caught:
        parse_keyval(text, "driver")
    assert caught.value.text == message
    assert "{}:{}".format(*caught.value.span) == span


def test_keyval_spans_point_into_the_text() -> None:
    text = "raw,file.filename=a,,b,list.00=c"
    spans = parse_keyval(text, "driver").spans
    shown = {
        name: (text[slice(*span.key)], text[slice(*span.value)]) for name, span in spans.items()
    }
    assert shown == {
        "driver": ("", "raw"),
        "file.filename": ("file.filename", "a,,b"),
        "list.0": ("list.00", "c"),
    }


def test_names_of_127_characters_are_taken() -> None:
    assert parse_keyval("a" * 127 + "=1") == {"a" * 127: "1"}


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("", {}),
        ("a.img", {"file": "a.img"}),
        ("a,,b.img,if=none", {"file": "a,b.img", "if": "none"}),
        ("file=a,file.locking=off", {"file": "a", "file.locking": "off"}),
        ("if=none,readonly", {"if": "none", "readonly": "on"}),
        ("if=none,nosnapshot", {"if": "none", "snapshot": "off"}),
        ("if=none,no", {"if": "none", "": "off"}),
        ("id=a,id=b", {"id": "b"}),
        ("x=1,,,y=2", {"x": "1,", "y": "2"}),
        ("9=1,x y=2", {"9": "1", "x y": "2"}),
    ],
)
def test_opts(text: str, options: dict[str, str]) -> None:
    assert parse_opts(text, "file") == options


def test_opts_spans() -> None:
    text = "a.img,if=none,noro"
    spans = parse_opts(text, "file").spans
    assert {name: span.key for name, span in spans.items()} == {
        "file": (0, 0),
        "if": (6, 8),
        "ro": (14, 18),
    }
    assert {name: text[slice(*span.value)] for name, span in spans.items()} == {
        "file": "a.img",
        "if": "none",
        "ro": "",
    }
