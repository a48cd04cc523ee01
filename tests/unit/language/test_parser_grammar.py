"""The scanner and the line assembler against the grammar, which defines the language."""

from __future__ import annotations

import json

from hypothesis import assume, example, given
from hypothesis import strategies as st

from monitor.language import grammar, scanner
from monitor.language.assembling import Assembler, is_complete
from monitor.language.syntax import Kind, Mistake, Statement

PIECES = [
    "foo", "block-add", "x=", "a.b=", '"', '"a b"', r"\"", "\\", "\\q", "{", "}", "[", "]", ":",
    ",", '{"a":1}', '"k":', "{}", "[1,2]", "'s'", "1", "01", "-", "!", "true", "null", ";",
    " ; ", " ", " ", " ", "\n", "\n", "\t", "\r", "\x0b", "#", "# c", "#b1", "(", ")", " ) ",
    "t(\n", "é", "=", "\u00a0", "\x00", '"\\u0041"', "NaN", "/a b", '"\\ud800"', '{"a":1,"a":2}',
    '{"s":"\\/\\u00e9"}',
]  # fmt: skip
texts = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


def by_grammar(text: str) -> list[Statement] | None:
    try:
        return grammar.parse(text)
    except Mistake:
        return None


@given(texts)
@example('foo "a b" x={"a": [1,\n {"b": null}]} ; -bar # c\n#x\n!baz')
@example("foo ; #bar")
@example("foo ; # bar\nbaz")
@example(" \t# only a comment")
@example("#x\n#y")
@example('a x="1"y')
@example("a )")
def test_where_the_scanner_has_an_answer_it_is_the_grammars(text: str) -> None:
    found = scanner.scan(text)
    assume(found is not None)
    assert found == by_grammar(text)


WORDS = st.text("abcxyz019._/-=#;:,'é", min_size=1, max_size=8)
ARGUMENTS = st.one_of(
    WORDS,
    st.text(max_size=8).map(
        lambda s: (
            '"'
            + s.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n").replace("\r", r"\r")
            + '"'
        )
    ),
    st.dictionaries(
        WORDS, st.one_of(st.integers(), st.booleans(), st.none(), WORDS), max_size=3
    ).map(json.dumps),
    st.lists(st.integers(), max_size=3).map(lambda v: "x=" + json.dumps(v)),
)


@given(st.sampled_from(["", "-", "! "]), st.lists(ARGUMENTS, max_size=5))
def test_ordinary_lines_need_no_grammar(mark: str, arguments: list[str]) -> None:
    text = " ".join([mark + "command", *arguments])
    assume(not any((a.startswith("#") and len(a) == 1) or a == ";" for a in arguments))
    assert scanner.scan(text) is not None


@given(texts)
def test_what_the_grammar_takes_is_complete(text: str) -> None:
    assume(by_grammar(text) is not None)
    assert is_complete(text)


@given(texts)
def test_whole_commands_line_by_line_are_the_commands_of_the_text(text: str) -> None:
    whole = by_grammar(text)
    assume(whole is not None)
    assert whole is not None
    pieces: list[str] = []
    reader = Assembler()
    for line in text.split("\n"):
        if reader.feed(line):
            pieces.append(reader.text)
            reader = Assembler()
    apart = [shape(s) for piece in pieces for s in grammar.parse(piece)]
    assert apart == [shape(s) for s in whole]


def shape(statement: Statement) -> tuple[object, ...]:
    """A statement without its places."""
    return (
        statement.mark,
        statement.name.text,
        [(a.kind, a.text, a.key, a.data) for a in statement.arguments],
        [shape(s) for s in statement.body] if statement.body is not None else None,
    )


@given(texts)
def test_places_are_those_of_the_text(text: str) -> None:
    for statement in by_grammar(text) or []:
        for token in [statement.name, *statement.arguments]:
            typed = text[token.start : token.end]
            if token.kind is Kind.STRING:
                typed = typed.removeprefix(f"{token.key}=")
                assert typed[0] == typed[-1] == '"'
            else:
                assert typed == token.whole


def test_groups_carry_their_commands() -> None:
    (group,) = grammar.parse('!transaction(\n  a x=1 ; -b\n# why\n\n  c {"k":\n [1]}\n)')
    assert (group.mark, group.name.text) == ("!", "transaction")
    assert group.body is not None
    assert [(s.mark, s.name.text) for s in group.body] == [("", "a"), ("-", "b"), ("", "c")]
    assert group.body[2].arguments[0].data == {"k": [1]}


def test_json_in_qmps_dialect() -> None:
    (statement,) = grammar.parse(
        r"""a {'it\'s': "x\u00e9\ud83d\ude00\/\n", 'n': [-1, 2.5e3, true]}"""
    )
    assert statement.arguments[0].data == {"it's": "xé😀/\n", "n": [-1, 2500.0, True]}


def test_deep_json_is_refused_not_a_crash() -> None:
    text = "a " + "[" * 5000 + "]" * 5000
    assert scanner.scan(text) is None
    assert by_grammar(text) is None


def test_numbers_too_long_are_refused() -> None:
    assert by_grammar("a [" + "9" * 5000 + "]") is None
