"""The command language by its grammar: whole commands with their places, or what is wrong where.

Loaded only for what the scanner leaves over. The compiled grammar is kept in the user's cache
folder (lark checks it against grammar and version); where that cannot be written it is compiled
each time, which takes some 50 ms.

A mistake is named by example (``_EXAMPLES``): lark matches the state in which the parser stopped
with the states in which it stops in known examples. The words for what could have stood there come
from the terminals that the state accepts.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from lark import Lark, Tree, UnexpectedCharacters, UnexpectedInput, UnexpectedToken
from lark import Token as Leaf

from monitor.language.assembling import Assembler
from monitor.language.scanner import MAX_DEPTH, unescape
from monitor.language.syntax import Kind, Mistake, Span, Statement, Token, one_of


def parse(text: str) -> list[Statement]:
    """The commands of ``text``. Raises ``Mistake`` for the first thing that is wrong."""
    try:
        tree = language().parse(text, start="script")
    except UnexpectedInput as error:
        raise _mistake(text, error) from None
    return _statements(text, tree)


@functools.cache
def language() -> Lark:
    """The compiled grammar."""
    grammar = (Path(__file__).parent / "grammar.lark").read_text(encoding="ascii")
    return Lark(
        grammar,
        parser="lalr",
        start=["script", "value"],
        g_regex_flags=re.ASCII,
        propagate_positions=True,
        maybe_placeholders=False,
        cache=_cache_file() or False,
    )


def _cache_file() -> str | None:
    """Where the compiled grammar is kept; None unless nobody but the user can write there.

    Lark's cache is a pickle: whoever writes it runs code here.
    """
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(base) / "blkmon"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError:
        return None
    private = status.st_uid == os.getuid() and not status.st_mode & 0o022
    return str(folder / "grammar.lalr") if private and os.access(folder, os.W_OK) else None


def places(text: str) -> dict[str, tuple[Span, Span]]:
    """Where each member of the JSON ``text`` is, by full name (``file.filename``, ``list.0``).

    First the place of its name (of an element: of the element), then that of its value; "" is the
    whole.
    """
    tree = language().parse(text, start="value")
    found: dict[str, tuple[Span, Span]] = {"": (_span(tree), _span(tree))}
    _note(tree, "", found)
    return found


def _note(value: Tree[Leaf] | Leaf, path: str, found: dict[str, tuple[Span, Span]]) -> None:
    if not isinstance(value, Tree) or value.data not in ("object", "array"):
        return
    for index, part in enumerate(value.children[1:-1]):
        assert isinstance(part, Tree)
        label, content = part.children if part.data == "member" else (part, part)
        name = _text(label) if part.data == "member" else str(index)
        inner = f"{path}.{name}" if path else name
        found[inner] = (_span(label), _span(content))
        _note(content, inner, found)


# From the tree


def _statements(text: str, script: Tree[Leaf]) -> list[Statement]:
    return [
        _statement(text, command)
        for line in script.children
        for command in line.children  # type: ignore[union-attr]
        if isinstance(command, Tree)
    ]


def _statement(text: str, command: Tree[Leaf]) -> Statement:
    parts = list(command.children)
    first = parts[0]
    mark = ""
    if isinstance(first, Leaf) and first.type == "MARK":
        mark = str(parts.pop(0))
    head = parts.pop(0)
    assert isinstance(head, Leaf)
    name_start, name_end = _span(head)
    start = _span(first)[0]
    if command.data == "group":
        found = [(m[0], name_start + m.start(), name_start + m.end()) for m in _HEAD.finditer(head)]
        name, *flags = [Token(Kind.WORD, *each) for each in found]
        body = _statements(text, parts[0])  # type: ignore[arg-type]
        return Statement(mark, name, flags, start, _span(command)[1], body)
    name = Token(Kind.WORD, str(head), name_start, name_end)
    arguments = [_argument(text, part) for part in parts]  # type: ignore[arg-type]
    return Statement(mark, name, arguments, start, arguments[-1].end if arguments else name_end)


_HEAD = re.compile(r"[^\s(]+")  # the words of "transaction --dry-run("


def _argument(text: str, argument: Tree[Leaf]) -> Token:
    parts = argument.children
    start, end = _span(argument)
    if argument.data == "word":
        return Token(Kind.WORD, str(parts[0]), start, end)
    key = str(parts[0])[:-1] if len(parts) == 2 else ""
    value = parts[-1]
    if isinstance(value, Leaf):
        return Token(Kind.STRING, unescape(value[1:-1]), start, end, key)
    begin = _span(value)[0]
    return Token(Kind.JSON, text[begin:end], start, end, key, _json(value, 1))


def _span(part: Tree[Leaf] | Leaf) -> Span:
    place = part.meta if isinstance(part, Tree) else part
    assert place.start_pos is not None
    assert place.end_pos is not None
    return place.start_pos, place.end_pos


def _json(value: Tree[Leaf] | Leaf, depth: int) -> Any:
    assert isinstance(value, Tree)
    if depth > MAX_DEPTH:
        raise Mistake(_span(value), "JSON is nested too deeply")
    parts = value.children
    match value.data:
        case "object":
            return _object(value, depth)
        case "array":
            return [_json(part, depth + 1) for part in parts[1:-1]]
        case "text":
            return _text(parts[0])
        case "number":
            return _number(parts[0])
        case _:
            return {"true": True, "false": False, "null": None}[str(parts[0])]


def _object(value: Tree[Leaf], depth: int) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for member in value.children[1:-1]:
        assert isinstance(member, Tree)
        label, content = member.children
        name = _text(label)
        if name in members:
            raise Mistake(_span(label), f"'{name}' is given twice")
        members[name] = _json(content, depth + 1)
    return members


_JSON_ESCAPE = re.compile(r"(?:\\u[0-9a-fA-F]{4})+|\\(.)")
_JSON_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def _text(leaf: Tree[Leaf] | Leaf) -> str:
    assert isinstance(leaf, Leaf)

    def escape(match: re.Match[str]) -> str:
        if match[1]:
            return _JSON_ESCAPES.get(match[1], match[1])
        units = bytes.fromhex(match[0].replace("\\u", ""))
        try:
            return units.decode("utf-16-be")
        except UnicodeDecodeError:
            raise Mistake(_span(leaf), f"{match[0]} is half a character") from None

    return _JSON_ESCAPE.sub(escape, leaf[1:-1])


def _number(leaf: Tree[Leaf] | Leaf) -> int | float:
    text = str(leaf)
    if any(c in ".eE" for c in text):
        return float(text)
    if len(text) > 40:
        raise Mistake(_span(leaf), "this number is too large")
    return int(text)


# From a mistake

_WORDS = {
    "NAME": "a command",
    "WORD": "an argument",
    "_NEWLINE": "the end of the command",
    "$END": "the end of the command",
    "_GROUP_END": "')'",
    "NUMBER": "a value",
    "TEXT": "a name in quotes",
    "_COLON": "':'",
    "_COMMA": "','",
    "RBRACE": "'}'",
    "RSQUARE": "']'",
}

_EXAMPLES: dict[str, list[str]] = {
    "a command is missing": ["- ; a", "!\n", "a ; ; b", "; a", "-"],
    "a member of an object begins with its name in quotes": [
        "a {1:", "a {true", "a {{", "a {[", "a {a", 'a {"a":1, 2', 'a {"a":1, true',
        'a {"a":1, {', 'a {"a":1, [', 'a {"a":1,b', "a [{1", "a [{b", "a [{true", "a [{{", "a [{[",
    ],
    "a value is missing": [
        'a {"a":}', 'a {"a":,', 'a {"a":]', "a [,", "a [1,,", "a [[,", "a [NaN", 'a {"a":NaN',
    ],
    "there is a comma too many": [
        'a {"a":1,}', "a [1,]", "a {,", 'a {"a":1,,', "a [{,",
    ],
    "a comma is missing": [
        *(f'a {{"a":1 {token}' for token in ('"b"', "2", "true", "{", "[", "b")),
        *(f"a [1 {token}" for token in ('"b"', "2", "true", "{", "[", "b")),
    ],
    "a colon is missing": [
        *(f'a {{"a" {token}' for token in ('"b"', "2", "true", "{", "[", "b", ",", "}")),
    ],
    "this bracket closes another kind": ['a {"a":1]', "a [1}", "a {]", "a [{]", "a [}", "a [[}"],
    "')' closes nothing": [")", "a )", 'a "b" )', "a {} )", "a ; )", "a []  )", "a x={} )"],
    "a blank is missing here": [
        *(f"a {value}{token}" for value in ("{}", "[]", '{"a":1}', "[1]")
          for token in ("b", '"b"', "{", "[", "}", "]")),
    ],
}  # fmt: skip


def _mistake(text: str, error: UnexpectedInput) -> Mistake:
    start = _offset(text, error)
    if start < len(text):
        lexical = _in_token(text, start)
        if lexical is not None:
            return lexical
    if start >= len(text.rstrip()):
        unclosed = _unclosed(text)
        if unclosed is not None:
            return unclosed
    state, token = _stop(error)
    labels = _labels()
    label = labels.get((state, token)) or labels.get((state, ""))
    end = _token_end(text, start)
    expected = _expected(error)
    if label is not None and label.endswith("is missing"):
        return Mistake((start, end), label)
    return Mistake(
        (start, end), label or f"unexpected {_quoted(text[start:end])}", expected=expected
    )


@functools.cache
def _labels() -> dict[tuple[int, str], str]:
    """What is wrong when the parser stops in a state at a terminal; "" is any other terminal."""
    labels: dict[tuple[int, str], str] = {}
    for label, examples in _EXAMPLES.items():
        for example in examples:
            try:
                language().parse(example, start="script")
            except UnexpectedInput as error:
                state, token = _stop(error)
                labels.setdefault((state, token), label)
                labels.setdefault((state, ""), label)
            else:
                raise AssertionError(f"{example!r} is no mistake")
    return labels


def _stop(error: UnexpectedInput) -> tuple[int, str]:
    # Lark's own match_examples takes the depth of the brackets for a part of the state.
    token = error.token.type if isinstance(error, UnexpectedToken) else "?"
    return error.state.position, token


def _offset(text: str, error: UnexpectedInput) -> int:
    if isinstance(error, UnexpectedToken) and error.token.type == "$END":
        return len(text)
    start = cast("int", error.pos_in_stream)
    after_blanks = start + len(text[start:]) - len(text[start:].lstrip(" \t\r\f\v\n"))
    return after_blanks if after_blanks < len(text) else start


_PIECE = re.compile(r'[{}\[\],:]|"(?:[^"\\\n]|\\.)*"|[^\s{}\[\],:"]+|\S|\Z|\s', re.ASCII)


def _token_end(text: str, start: int) -> int:
    match = _PIECE.match(text, start)
    return match.end() if match else start + 1


def _quoted(piece: str) -> str:
    return f"'{piece}'" if piece.strip() else "end"


def _expected(error: UnexpectedInput) -> str:
    names: Iterable[str] = ()
    if isinstance(error, UnexpectedToken):
        names = error.accepts or error.expected
    elif isinstance(error, UnexpectedCharacters):
        names = error.allowed or ()
    accepted = set(names)
    if "NUMBER" in accepted:
        accepted -= {"TEXT"}
    words = dict.fromkeys(word for name, word in _WORDS.items() if name in accepted)
    return " or ".join(words)


_BAD_ESCAPE = re.compile(r"\\[^nr\\'\"]", re.DOTALL)
_BAD_JSON_ESCAPE = re.compile(r"\\(?!u[0-9a-fA-F]{4})[^\"\\/bfnrt']", re.DOTALL)
_ANY_STRING = re.compile(r'"((?:[^"\\\n]|\\.)*)"')
_ANY_JSON_STRING = re.compile(r'(["\'])((?:(?!\1)[^\\\n]|\\.)*)\1')


def _in_token(text: str, start: int) -> Mistake | None:
    """What is wrong inside a string at ``start``, which no terminal matches."""
    inside = _open_at(text[:start])
    in_json = inside is not None and inside[0] in "{["
    if text[start] == '"' or (in_json and text[start] == "'"):
        return _in_json_string(text, start) if in_json else _in_string(text, start)
    return None


def _open_at(text: str) -> tuple[str, int] | None:
    """The innermost bracket that is open at the end of ``text``."""
    reader = Assembler()
    for line in text.split("\n"):
        reader.feed(line)
    return reader.unclosed


def _in_string(text: str, start: int) -> Mistake | None:
    match = _ANY_STRING.match(text, start)
    if match is None:
        return _never_closed(start)
    bad = _BAD_ESCAPE.search(re.sub(r"\\\\", "..", match[1]))
    if bad is not None:
        at = start + 1 + bad.start()
        return Mistake(
            (at, at + 2),
            f"unsupported escape code '{bad[0]}'",
            expected=one_of((r"\n", r"\r", r"\\", r"\"", r"\'")),
        )
    after = match.end()
    if after == len(text) or text[after].isspace():
        return None
    return Mistake((after, _token_end(text, after)), "a blank is missing after the closing quote")


def _never_closed(start: int) -> Mistake:
    return Mistake((start, start + 1), "this string is never closed", expected="a closing quote")


def _in_json_string(text: str, start: int) -> Mistake | None:
    match = _ANY_JSON_STRING.match(text, start)
    if match is None:
        return _never_closed(start)
    bad = _BAD_JSON_ESCAPE.search(re.sub(r"\\\\", "..", match[2]))
    if bad is not None:
        at = start + 1 + bad.start()
        return Mistake((at, at + 2), f"unsupported escape code '{bad[0]}'")
    if not re.search(r"[\x00-\x1f]", match[2]):
        return None
    return Mistake(match.span(), "a string in JSON holds no control characters")


_OPENED = {"(": "this group", "{": "this bracket", "[": "this bracket"}
_CLOSES = {"(": "')'", "{": "'}'", "[": "']'"}


def _unclosed(text: str) -> Mistake | None:
    inside = _open_at(text)
    if inside is None:
        return None
    what, at = inside
    return Mistake((at, at + 1), f"{_OPENED[what]} is never closed", expected=_CLOSES[what])
