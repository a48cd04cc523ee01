"""Where a command's text ends that has more than one line."""

from __future__ import annotations

import re

from monitor.language.scanner import GROUP, KEY, may_continue

_OUTSIDE = re.compile(
    rf"""\s+|\#(?!\S).*|(?P<close>\)(?!\S))|(?:{KEY})?(?P<open>["{{\[])"""
    rf"""|(?P<group>{GROUP.pattern})|[-!](?={GROUP.pattern})|\S+""",
    re.ASCII,
)
_BAD_HEAD = re.compile(
    r"""[ \t]*[-!]?[ \t]*(transaction[ \t][^"{\[;#]*\()(?:[ \t]+\#.*)?\s*\Z""", re.ASCII
)
_COMMAND_PLACE = re.compile(r"(?:.*(?<!\S);)?[\s!-]*\Z", re.ASCII)
_STRING_END = re.compile(r'(?:[^"\\]|\\.)*"')
_INSIDE_JSON = re.compile(
    r"""\s+|[{}\[\]:,]|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|-?\d[\d.eE+-]*"""
    r"""|(?:true|false|null)\b""",
    re.ASCII,
)
_CLOSING = {"{": "}", "[": "]"}


class Assembler:
    """Joins physical lines to whole commands: feed lines until ``feed`` answers True.

    Open brackets (a group's, JSON's) are kept from line to line, so that feeding costs the length
    of the new line only. A string ends on its line. What can no longer be closed properly, brackets
    or a string, ends the command: there is an error to report, and nothing to wait for. Not so a
    group whose head is wrong: its lines are no commands of their own.
    """

    def __init__(self) -> None:
        self.bad_head: tuple[int, int] | None = None
        """The place of a group's head that has more than flags."""
        self._open: list[tuple[str, int]] = []
        self._lines: list[str] = []
        self._offset = 0  # of the current line

    @property
    def text(self) -> str:
        """The lines fed so far."""
        return "\n".join(self._lines)

    @property
    def unclosed(self) -> tuple[str, int] | None:
        """The innermost of what is still open (one of ``( { [``) and its offset."""
        return self._open[-1] if self._open else None

    @property
    def in_group(self) -> bool:
        """Whether a group (``transaction(``) is open, whatever is open inside it."""
        return any(what == "(" for what, _ in self._open)

    def feed(self, line: str) -> bool:
        """Takes one line (without its end); True when the command is whole."""
        self._lines.append(line)
        if (self._open or may_continue(line)) and not self._follow(line):
            self._open.clear()
        self._offset += len(line) + 1
        return not self._open

    def _follow(self, line: str) -> bool:
        """Brackets and quotes of ``line``; False when something is out of place."""
        if self._innermost in ("", "(") and line.lstrip(" \t\r\f\v").startswith("#"):
            return True
        position = self._past_bad_head(line) if not self._lines[1:] else 0
        while position < len(line):
            if self._innermost in _CLOSING:
                after = self._in_json(line, position)
            else:
                after = self._outside(line, position)
            if after is None:
                return False
            position = after
        return True

    def _past_bad_head(self, line: str) -> int:
        head = _BAD_HEAD.match(line)
        if head is None or GROUP.match(line, head.start(1)):
            return 0
        self.bad_head = head.span(1)
        self._open.append(("(", head.end(1) - 1))
        return head.end(1)

    @property
    def _innermost(self) -> str:
        return self._open[-1][0] if self._open else ""

    def _outside(self, line: str, position: int) -> int | None:
        match = _OUTSIDE.match(line, position)
        assert match is not None  # \s+ and \S+ leave nothing over
        what = match.lastgroup
        if match["open"] == '"':
            string = _STRING_END.match(line, match.end())
            return string.end() if string is not None else None
        if what == "open":
            self._open.append((match["open"], self._offset + match.start("open")))
        elif what == "close":
            if not self._open:
                return None
            self._open.pop()
        elif what == "group" and _COMMAND_PLACE.match(line, 0, position):
            self._open.append(("(", self._offset + match.end() - 1))
        return match.end()

    def _in_json(self, line: str, position: int) -> int | None:
        match = _INSIDE_JSON.match(line, position)
        if match is None:
            return None
        piece = match[0]
        if piece in _CLOSING:
            self._open.append((piece, self._offset + position))
        elif piece in "}]" and _CLOSING[self._open.pop()[0]] != piece:
            return None
        return match.end()


def is_complete(text: str) -> bool:
    """Whether no bracket and no group is open at the end of ``text``."""
    reader = Assembler()
    complete = True
    for line in text.split("\n"):
        complete = reader.feed(line)
    return complete
