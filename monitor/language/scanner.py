"""Words of ordinary lines, without the weight of a parser.

``grammar.lark`` defines the language. Importing lark takes longer than parsing a thousand lines,
so ``scan`` finds the pieces of what is well formed and ordinary by regular expressions, and gives
None for anything else: that goes to the grammar, which also finds the words for what is wrong. The
tests hold both against each other: where ``scan`` has an answer it is the grammar's.

Blanks are ASCII's; any other character may be part of a word.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

from monitor.language.syntax import Kind, Statement, Token

MAX_DEPTH = 100
"""Brackets inside each other in JSON; options nest a few levels, Python's stack is limited."""

_STRING = r'"(?:[^"\\\n]|\\[nr\\\'"])*"(?!\S)'
KEY = r"[A-Za-z_][\w.-]*="
LEXER = re.compile(
    rf"""[ \t\r\f\v]*(?:
      (?P<end>(?:\#(?!\S)[^\n]*)?(?:\n|\Z) | ;(?!\S))
    | (?P<key>{KEY})?(?:(?P<string>{_STRING})|(?P<json>[{{\[]))
    | (?P<group_end>\)(?!\S))
    | (?P<word>(?!{KEY}["{{\[])[^\s"]\S*)
    )""",
    re.ASCII | re.VERBOSE,
)
# Comments and blank lines before a command; a comment is taken whole, or the rest would be a name.
_BETWEEN = r"(?:(?m:^)[ \t\r\f\v]*#[^\n]*|(?<!\S)#(?!\S)[^\n]*|\s)*+"
HEAD = re.compile(
    rf"{_BETWEEN}(?P<mark>[-!]?)[ \t\r\f\v]*"
    r'(?P<name>(?![);#](?!\S)|[A-Za-z_][\w.-]*=["{\[])[^\s"{\[!-]\S*)',
    re.ASCII,
)
BETWEEN = re.compile(_BETWEEN, re.ASCII)
_REST = re.compile(rf"{_BETWEEN}\Z", re.ASCII)
_GROUP = r"(?:[A-Za-z][\w-]*(?:[ \t]+--[\w-]+)*|transaction(?:[ \t]+--[\w-]+)*[ \t]+)\((?!\S)"
GROUP = re.compile(_GROUP, re.ASCII)
"""The head of a group, with its flags."""
GROUP_END = re.compile(rf"{_BETWEEN}\)(?!\S)", re.ASCII)
PLAIN_WORD = re.compile(rf"(?!{KEY}[\"{{\[])(?![;)#]\Z)[^\s\"{{\[-]\S*", re.ASCII)
"""What means itself wherever an argument stands."""
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r"}
_BLANK_OR_END = re.compile(r"(?!\S)", re.ASCII)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def unescape(body: str) -> str:
    """The text of a quoted string, from what stands between its quotes."""
    if "\\" not in body:
        return body
    return _ESCAPE.sub(lambda match: _ESCAPES.get(match[1], match[1]), body)


_SPECIAL = re.compile(r'["{\[(]')


def may_continue(line: str) -> bool:
    """Whether the command that ``line`` begins can go on in the next line (``assembling``)."""
    return _SPECIAL.search(line) is not None


def scan(text: str) -> list[Statement] | None:
    """The commands of ``text``; None when the grammar has to look at it."""
    if not _SYNTAX.search(text) and not _MARKED.match(text):
        return _plain(text)
    statements: list[Statement] = []
    position = 0
    while True:
        head = HEAD.match(text, position)
        if head is None:
            return statements if _REST.match(text, position) else None
        if GROUP.match(text, head.start("name")):
            return None
        start, at = head.span("name")
        name = Token(Kind.WORD, head["name"], start, at)
        found = _arguments(text, at)
        if found is None:
            return None
        arguments, position = found
        end = arguments[-1].end if arguments else at
        mark = head["mark"]
        statements.append(
            Statement(mark, name, arguments, head.start("mark") if mark else start, end)
        )


_SYNTAX = re.compile(r'["{\[#;()\n]')
_MARKED = re.compile(r"\s*[-!]", re.ASCII)
_WORD = re.compile(r"\S+", re.ASCII)


def _plain(text: str) -> list[Statement]:
    """The command of a line of nothing but words."""
    words = [Token(Kind.WORD, m[0], m.start(), m.end()) for m in _WORD.finditer(text)]
    if not words:
        return []
    return [Statement("", words[0], words[1:], words[0].start, words[-1].end)]


def _arguments(text: str, position: int) -> tuple[list[Token], int] | None:
    """Arguments from ``position`` to the end of the command, and where the next one may begin."""
    found: list[Token] = []
    match_at = LEXER.match
    while True:
        match = match_at(text, position)
        if match is None:
            return None
        what, position = match.lastgroup, match.end()
        if what == "word":
            start, end = match.span("word")
            found.append(Token(Kind.WORD, match["word"], start, end))
            continue
        if what == "end":
            return found, position
        token = None
        if what == "string":
            token = string_token(match)
        elif what == "json":
            token = json_token(text, match)
        if token is None:
            return None
        found.append(token)
        position = token.end


def string_token(match: re.Match[str]) -> Token:
    """The quoted string that ``LEXER`` has matched."""
    key = (match["key"] or "")[:-1]
    start = match.start("key") if key else match.start("string")
    return Token(Kind.STRING, unescape(match["string"][1:-1]), start, match.end(), key)


class _Unusual(ValueError):
    """JSON that the standard decoder takes otherwise than QMP's."""


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _Unusual
    return members


def _no_constants(name: str) -> None:
    raise _Unusual(name)


@functools.cache
def _decoder() -> Callable[[str, int], tuple[Any, int]]:
    """The standard decoder, which reads one value wherever it begins. Few lines have JSON."""
    import json

    decoder = json.JSONDecoder(object_pairs_hook=_no_duplicates, parse_constant=_no_constants)
    return decoder.raw_decode


def json_token(text: str, match: re.Match[str]) -> Token | None:
    """The JSON value that begins where ``LEXER`` has matched; None for what is unusual."""
    begin = match.start("json")
    try:
        data, end = _decoder()(text, begin)
    except (ValueError, RecursionError):
        return None
    if text.count("[", begin, end) + text.count("{", begin, end) > MAX_DEPTH:
        return None
    if not _BLANK_OR_END.match(text, end) or _SURROGATE.search(text, begin, end):
        return None
    key = (match["key"] or "")[:-1]
    start = match.start("key") if key else begin
    return Token(Kind.JSON, text[begin:end], start, end, key, data)
