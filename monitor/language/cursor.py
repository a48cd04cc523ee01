"""The text before the cursor -> the words of the command being typed, and the unfinished one.

The same words as ``scanner`` finds, but nothing here is an error: what is open (a string, JSON, a
group) is where the cursor is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from monitor.language import scanner
from monitor.language.syntax import Kind, Token


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where the next character goes.

    ``name`` is the command's first word, None while that is being typed. ``arguments`` are the
    words that are whole. ``text`` is the unfinished word (of a string: behind its quote), which
    begins at offset ``start``. ``key`` stands before an unfinished string (``key="…``). ``quoted``
    and ``json`` say what it is, if not a plain word. ``group`` is the head of the group that is
    open (``transaction``), "" outside of one.
    """

    name: Token | None
    arguments: list[Token]
    text: str
    start: int
    key: str = ""
    quoted: bool = False
    json: bool = False
    group: str = ""


def locate(text: str) -> Cursor | None:
    """The cursor at the end of ``text``; None inside a comment, where nothing is offered."""
    position = 0
    group = ""
    while True:
        closing = scanner.GROUP_END.match(text, position)
        if closing is not None:
            position, group = closing.end(), ""
            continue
        head = scanner.HEAD.match(text, position)
        if head is None or head.end() == len(text):
            in_name = _in_name(text, position)
            return None if in_name is None else replace(in_name, group=group)
        opening = scanner.GROUP.match(text, head.start("name"))
        if opening is not None:
            position, group = opening.end(), opening[0].split()[0].rstrip("(")
            continue
        start, at = head.span("name")
        found = _in_arguments(text, at, Token(Kind.WORD, head["name"], start, at))
        if not isinstance(found, int):
            return found
        position = found
        if text[position - 1] == ")":
            group = ""


def _in_name(text: str, position: int) -> Cursor | None:
    between = scanner.BETWEEN.match(text, position)
    start = between.end() if between is not None else position
    if "#" in text[position:start].rpartition("\n")[2]:
        return None
    if text[start : start + 1] in ("-", "!"):
        start += 1
    start += len(text[start:]) - len(text[start:].lstrip(" \t\r\f\v"))
    return Cursor(None, [], text[start:], start)


def _in_arguments(text: str, position: int, name: Token) -> Cursor | int | None:
    """The cursor, if it is in the arguments from ``position``; else where they end."""
    arguments: list[Token] = []
    while True:
        match = scanner.LEXER.match(text, position)
        if match is None:
            return _in_string(text, position, name, arguments)
        what = match.lastgroup
        if what == "end":
            if match.end() < len(text) or match[0].endswith((";", "\n")):
                return match.end()
            in_comment = "#" in match[0]
            return None if in_comment else Cursor(name, arguments, "", len(text))
        if what == "group_end":
            return match.end()
        if what == "word":
            if match.end() == len(text):
                return Cursor(name, arguments, match["word"], match.start("word"))
            arguments.append(Token(Kind.WORD, match["word"], *match.span("word")))
            position = match.end()
            continue
        token = scanner.string_token(match) if what == "string" else scanner.json_token(text, match)
        if token is None:
            key = (match["key"] or "")[:-1]
            start = match.start("json")
            return Cursor(name, arguments, text[start:], start, key, json=True)
        arguments.append(token)
        position = token.end
        if position == len(text):  # the next thing can only be a blank
            return None


def _in_string(text: str, position: int, name: Token, arguments: list[Token]) -> Cursor | None:
    """The cursor in a string that is still open; None where the line is wrong before it."""
    start = position + len(text[position:]) - len(text[position:].lstrip(" \t\r\f\v"))
    key, quote, body = text[start:].partition('"')
    if not quote or "\n" in body or '"' in body.replace('\\"', "") or (key and key[-1] != "="):
        return None
    value = scanner.unescape(body)
    return Cursor(name, arguments, value, len(text) - len(body), key[:-1], quoted=True)
