"""Pieces of a command line, with their places, and what is said about a mistake in one.

Places are ``(start, end)`` offsets in characters into the text that was parsed. Lines and columns,
which count from one, are worked out only when there is something to complain about.
"""

from __future__ import annotations

import unicodedata
from enum import Enum
from typing import Any, NamedTuple

import msgspec

from monitor.engine.errors import MonitorError, RequestError

Span = tuple[int, int]


class Kind(Enum):
    """What an argument looks like, before anything is known of its meaning."""

    WORD = "word"
    STRING = "string"
    JSON = "json"


class Token(NamedTuple):
    """A word, a quoted string or a JSON value, perhaps behind ``KEY=`` without a blank between.

    ``text`` is the value as meant: escapes of a string resolved, a word as it stands (a word's
    ``key=`` included), JSON as typed. ``data`` is the JSON decoded. ``key`` is "" where there
    is none, else the key without its ``=``.
    """

    kind: Kind
    text: str
    start: int
    end: int
    key: str = ""
    data: Any = None

    @property
    def span(self) -> Span:
        return self.start, self.end

    @property
    def whole(self) -> str:
        """The argument as one text: what a command without keys of its own is given."""
        return f"{self.key}={self.text}" if self.key else self.text


class Statement(NamedTuple):
    """One command as typed: ``mark`` is "", "-" (may fail) or "!" (must fail).

    ``body`` holds the commands of a group (``transaction(`` … ``)``), None where there is none.
    """

    mark: str
    name: Token
    arguments: list[Token]
    start: int
    end: int
    body: list[Statement] | None = None


class ParseError(RequestError):
    """A mistake in what was typed, with its place.

    ``source`` and ``line`` are where the text came from; ``column`` and ``length`` count
    characters in ``text_line``, the line of the mistake without its end. ``expected`` says in
    words what could have stood there. ``hmp_text`` is what QEMU's human monitor prints for the
    same mistake, "" where it has none.
    """

    template = "{message}"

    message: str
    source: str
    line: int
    column: int
    length: int
    text_line: str
    expected: str = ""
    hmp_text: str = ""
    hint: str | None = None

    @property
    def place(self) -> str:
        return f"{self.source}:{self.line}:{self.column}"

    def caret(self, width: int | None = None) -> str:
        """The line and, below it, a caret under each character of the mistake.

        Of a line wider than ``width`` columns (None for no limit), the part around the mistake
        is shown. Tabs and wide characters move the carets as they move the text.
        """
        start = min(self.column - 1, len(self.text_line))
        line, end = self.text_line, start + max(self.length, 1)
        if width is not None and columns_of(line) > width:
            line, start, end = _excerpt(line, start, end, width)
        before = "".join(_padding(c) for c in line[:start])
        under = sum(columns_of(c) for c in line[start:end]) or 1
        return f"{_visible(line)}\n{before}{'^' * under}"


class ScriptErrors(MonitorError):
    """Every mistake that parsing a script met; nothing of the script has run."""

    template = "{0.summary}"

    errors: list[ParseError]

    @property
    def summary(self) -> str:
        return "\n".join(f"{e.place}: {e.text}" for e in self.errors)


class SourceText(msgspec.Struct, frozen=True):
    """A text with the place that it came from; makes errors about parts of it."""

    text: str
    source: str
    line: int = 1

    def position(self, offset: int) -> tuple[int, int]:
        """Line (in the source) and column of ``offset``, both from one."""
        before = self.text.count("\n", 0, offset)
        return self.line + before, offset - (self.text.rfind("\n", 0, offset) + 1) + 1

    def error(
        self,
        span: Span,
        message: str,
        *,
        expected: str = "",
        hint: str | None = None,
        hmp_text: str = "",
    ) -> ParseError:
        start, end = span
        line, column = self.position(start)
        line_start = start - (column - 1)
        line_end = self.text.find("\n", start)
        text_line = self.text[line_start : line_end if line_end >= 0 else len(self.text)]
        length = max(1, min(end, line_start + len(text_line)) - start)
        if expected:
            message = f"{message}: expected {expected}"
        shown = text_line.rstrip("\r")
        error = ParseError(message, self.source, line, column, length, shown, expected, hmp_text)
        error.hint = hint
        return error


class Mistake(Exception):
    """A mistake at a place, before the text around it is known: ``placed`` makes it an error."""

    def __init__(
        self,
        span: Span,
        message: str,
        *,
        expected: str = "",
        hint: str | None = None,
        hmp_text: str = "",
    ) -> None:
        super().__init__(message)
        self.span = span
        self.details: dict[str, Any] = {"expected": expected, "hint": hint, "hmp_text": hmp_text}
        self.message = message
        self.others: list[Mistake] = []
        """Further mistakes in the same command, in the order in which they are told."""

    def placed(self, text: SourceText) -> ParseError:
        return text.error(self.span, self.message, **self.details)


class NoField(Mistake):
    """A word by itself among a request's fields."""


def one_of(words: list[str] | tuple[str, ...]) -> str:
    """``one of: full, top, none``; a single word stands alone."""
    return words[0] if len(words) == 1 else "one of: " + ", ".join(words)


# Columns on a terminal


def columns_of(text: str) -> int:
    """Columns that ``text`` takes on a terminal."""
    return sum(_width(c) for c in text)


def _width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _padding(character: str) -> str:
    return "\t" if character == "\t" else " " * _width(character)


def _visible(text: str) -> str:
    """Control characters as one visible character each: an error never drives the terminal."""
    return "".join(c if c.isprintable() or c == "\t" else "�" for c in text)


def _excerpt(line: str, start: int, end: int, width: int) -> tuple[str, int, int]:
    """The ``width`` columns of ``line`` around ``start``, and the span within them."""
    if columns_of(line) > len(line):
        width //= 2  # characters then, which may all be wide
    end = min(end, start + width // 2)
    first = max(0, min(start - (width - (end - start)) // 2, len(line) - width))
    shown = line[first : first + width]
    if first:
        shown = "…" + shown[1:]
    if first + width < len(line):
        shown = shown[:-1] + "…"
    return shown, start - first, end - first
