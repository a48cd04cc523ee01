"""Values found in a stream, however it is cut, and the limits. (What each mistake is called is held
against QEMU in tests/interop/test_qmp_session.py.)"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.wire.qmpjson import JSONParseError, encode
from monitor.wire.qmplexer import Lexer
from monitor.wire.qmpstream import JSONStream, one_value
from tests.support.qmp_corpus import JSON, NESTED


def shown(found: list[Any]) -> list[Any]:
    """Errors as their text, values as JSON: too deep to be compared as they are."""
    return [str(v) if isinstance(v, JSONParseError) else encode(v) for v in found]


class ExactStream(JSONStream):
    """Without the short cut through the standard library."""

    max_short_cut = 0


class SmallLexer(Lexer):
    max_token_bytes = 20
    max_tokens = 6
    max_nesting = 3


class SmallStream(JSONStream):
    def _make_lexer(self) -> Lexer:
        return SmallLexer()


SUBTLE = [
    b'{"a": %s}' % value
    for value in (
        b"999999999999999999",
        b"1234567890123456789",
        b"-9223372036854775809",
        b"18446744073709551616",
        b"1.0000000000000000000",
        b"0e1",
        b"10E1",
        b"-0e1",
        b'"\\ud800"',
        b'"\\\\u0030"',
        b'"0e1 \\ufffe"',
    )
]


@pytest.mark.parametrize("data", JSON + NESTED + SUBTLE)
def test_the_short_cut_sees_what_the_lexer_sees(data: bytes) -> None:
    """What ends the value comes apart: with a byte that is not ASCII no short cut is taken."""
    found = []
    for stream in (JSONStream(), ExactStream()):
        found.append(shown(stream.feed(data) + stream.feed(b"\xff{}")))
    assert found[0] == found[1]


@given(st.lists(st.sampled_from(JSON), max_size=5), st.data())
def test_it_does_not_matter_how_the_stream_is_cut(cases: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(cases) + b"\xff{}"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    stream = JSONStream()
    found: list[Any] = []
    for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        found += stream.feed(whole[start:end])
    assert shown(found) == shown(JSONStream().feed(whole))


@given(st.binary(max_size=64))
def test_after_any_garbage_ff_and_an_object_are_understood(garbage: bytes) -> None:
    assert JSONStream().feed(garbage + b'\xff{"a": [1]}')[-1] == {"a": [1]}


@pytest.mark.parametrize(
    ("data", "values"),
    [
        (b'{"a":1}{"b":2}', [{"a": 1}, {"b": 2}]),
        (b'{"a":1}\n\n {"b":2}\r\n', [{"a": 1}, {"b": 2}]),
        (b"{'a':'it\\'s'}", [{"a": "it's"}]),
        (b"{'a':'\\ud83d\\ude00'}", [{"a": "\U0001f600"}]),
        (b"{'a':'\xc0\x80'}", [{"a": "\0"}]),
        (b"[1] 2 'x' null ", [[1], 2, "x", None]),
        (b"[18446744073709551615,18446744073709551616]", [[(1 << 64) - 1, 1.8446744073709552e19]]),
        (b"{'a': 1", []),
        (b"12", []),
    ],
)
def test_values(data: bytes, values: list[Any]) -> None:
    found = JSONStream().feed(data)
    assert found == values
    assert list(map(type, found)) == list(map(type, values))


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"[[[]]]", ["[[[]]]"]),
        (b"[[[[", ["JSON nesting depth limit exceeded"]),
        (b"[{'':[", []),
        (b"[{'':[[", ["JSON nesting depth limit exceeded"]),
        (b"[1,2,3", []),
        (b"[1,2,3]", ["JSON token count limit exceeded"]),
        (b"'" + b"a" * 17 + b"'", ['"' + "a" * 17 + '"']),
        (b"'" + b"a" * 18 + b"'", ["JSON token size limit exceeded"]),
        (b"['" + b"a" * 16 + b"'", []),
        (b"['" + b"a" * 17 + b"'", ["JSON token size limit exceeded"]),
        (b"'" + b"a" * 20, ["JSON token size limit exceeded"]),
        (b"1" * 21, ["JSON token size limit exceeded"]),
    ],
)
@pytest.mark.parametrize("step", [1, 100])
def test_limits(data: bytes, found: list[Any], step: int) -> None:
    stream = SmallStream()
    assert (
        shown([v for i in range(0, len(data), step) for v in stream.feed(data[i : i + step])])
        == found
    )


def test_the_limits_are_qemus() -> None:
    assert Lexer.max_token_bytes == 64 * 1024 * 1024
    assert Lexer.max_tokens == 2 * 1024 * 1024
    assert Lexer.max_nesting == 1024


class CountingLexer(Lexer):
    steps = 0

    def _step(self, data: bytes, position: int, found: list[Any]) -> int:
        self.steps += 1
        return super()._step(data, position, found)


class CountingStream(JSONStream):
    def __init__(self) -> None:
        super().__init__()
        self.lexer = CountingLexer()

    def _make_lexer(self) -> Lexer:
        return self.lexer


@pytest.mark.parametrize(
    ("data", "tokens"),
    [
        (b"'" + b"a" * 100_000, 1),
        (b"9" * 100_000, 1),
        (b"[" + b'"\\a",' * 10_000, 20_001),
        (b"A" * 100_000, 1),
        (b"{'a':" + b"[1]," * 10_000, 40_003),
        (b"{'a':1,'a':1}" * 1_000, 9_000),
    ],
)
def test_nothing_is_lexed_twice(data: bytes, tokens: int) -> None:
    stream = CountingStream()
    pieces = [data[i : i + 1000] for i in range(0, len(data), 1000)]
    for piece in pieces:
        stream.feed(piece)
    assert stream.lexer.steps <= tokens + 4 * len(pieces)


@pytest.mark.parametrize(
    ("text", "value"), [('{"a": 1}', {"a": 1}), (" 3", 3), ("true", True), ("'a' ", "a")]
)
def test_a_text_that_is_one_value(text: str, value: Any) -> None:
    assert one_value(text) == value


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("", "Expecting a JSON value"),
        (" ", "Expecting a JSON value"),
        ("{} 3", "Expecting at most one JSON value"),
        ("{} [", "Expecting at most one JSON value"),
        ("{", "JSON parse error, premature EOI"),
        ('{"a', """JSON parse error, stray '"a'"""),
        ("-", "JSON parse error, stray '-'"),
        ("tru", "JSON parse error, invalid keyword 'tru'"),
    ],
)
def test_a_text_that_is_not(text: str, mistake: str) -> None:
    with pytest.raises(JSONParseError) as refused:
        one_value(text)
    assert str(refused.value) == mistake
