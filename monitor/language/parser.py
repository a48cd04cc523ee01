"""A line -> what it asks for: an ``Invocation`` with typed values and the places of all of them.

Three steps: find the words (``scanner``, or ``grammar`` where the line is unusual), find the
command that the first of them names, type the rest as its declaration says (``arguments`` for
human commands, ``fields`` for requests). Nothing here needs an engine or knows what exists;
mistakes in names of nodes and jobs show when the command runs, and ``Invocation.error_at`` then
puts the caret.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from monitor.commands.registry import Command, commands
from monitor.engine.schema.base import Request, request_types
from monitor.language import scanner
from monitor.language.arguments import bind
from monitor.language.fields import only_field, read_request
from monitor.language.syntax import (
    Kind,
    Mistake,
    NoField,
    ParseError,
    ScriptErrors,
    SourceText,
    Span,
    Statement,
    Token,
    one_of,
)
from monitor.nearest import suggestion

if TYPE_CHECKING:
    from monitor.language.outputs import Output
    from monitor.language.variables import Scope

__all__ = [
    "Invocation",
    "Language",
    "ParseError",
    "ScriptErrors",
    "parse_line",
    "parse_script",
]


_NOWHERE = SourceText("", "")


_Read = tuple[Command | Request, dict[str, Any], dict[str, Span]]
"""A command or request, the command's arguments, and the places of all."""


class Invocation(msgspec.Struct, frozen=True):
    """One command, ready to run.

    Either ``command`` (a human command, with ``arguments`` by name) or ``request`` is set. ``mark``
    is "" or "-" (may fail) or "!" (must fail). ``text`` is the command as typed, without its mark,
    beginning on line ``line`` (from one) of ``source``. ``spans`` has the place of each argument in
    ``text`` by name, of nested ones by full name (``file.filename``), of lists' elements by number.
    ``output`` is where its output goes, None for where all output goes.
    """

    text: str
    source: str
    line: int
    mark: str = ""
    command: Command | None = None
    arguments: dict[str, Any] = msgspec.field(default_factory=dict)
    request: Request | None = None
    spans: Mapping[str, Span] = msgspec.field(default_factory=dict)
    origin: SourceText = _NOWHERE
    offset: int = 0
    output: Output | None = None

    @property
    def name(self) -> str:
        """The command's name, as help lists it."""
        if self.command is not None:
            return self.command.name
        return self.request.qmp_name() if self.request is not None else ""

    def error_at(self, argument: str, message: str, hint: str | None = None) -> ParseError:
        """``message`` with the caret under an argument (under the command where it has none)."""
        start, end = self.spans.get(argument, (0, len(self.text)))
        span = (start + self.offset, end + self.offset)
        return self.origin.error(span, message, hint=hint)


def parse_line(text: str, source: str = "<stdin>", line: int = 1) -> Invocation | None:
    """The one command of ``text``; None where there is none (blank, or a comment).

    Raises ``ParseError``: also for a second command behind ``;``, for which ``parse_script`` is.
    """
    return Language().parse_line(text, source, line)


def parse_script(
    text: str, source: str, line: int = 1, scope: Scope | None = None
) -> list[Invocation]:
    """Every command of ``text``. Raises ``ScriptErrors`` with all mistakes, in order of their
    lines.

    With a ``scope`` it is this shell's language, which has variables, named commands and ways for
    the output; without one QEMU's human monitor's. The scope follows what the text defines.
    """
    return Language().parse_script(text, source, line, scope)


class Language:
    """What can be typed: human commands and requests, by default all that are declared."""

    def __init__(
        self,
        human: Mapping[str, Command] | None = None,
        requests: Mapping[str, type[Request]] | None = None,
    ) -> None:
        self.human = commands() if human is None else human
        self.requests = request_types() if requests is None else requests
        self.prefixes = frozenset(name.split(" ")[0] for name in self.human if " " in name)

    def parse_line(self, text: str, source: str = "<stdin>", line: int = 1) -> Invocation | None:
        """As the function of the same name."""
        origin = SourceText(text, source, line)
        statements = _statements(origin)
        if len(statements) > 1:
            second = statements[1]
            raise origin.error((second.start, second.end), "one command at a time is expected here")
        if not statements:
            return None
        try:
            return self._invocation(statements[0], origin)
        except Mistake as mistake:
            raise mistake.placed(origin) from None

    def parse_script(
        self, text: str, source: str, line: int = 1, scope: Scope | None = None
    ) -> list[Invocation]:
        """As the function of the same name."""
        found: list[Invocation] = []
        errors: list[ParseError] = []
        followed: list[ParseError] = []
        for origin, statements in self._pieces(text.split("\n"), source, line, errors):
            for statement in statements:
                try:
                    invocation = self._invocation(statement, origin, scope)
                except Mistake as mistake:
                    errors += (each.placed(origin) for each in (mistake, *mistake.others))
                    continue
                found.append(invocation)
                if scope is not None and invocation.command is not None:
                    from monitor.language.following import follow

                    followed += follow(self, invocation, scope)
        if errors or followed:
            # What a sourced file has wrong comes after it all, in that file's own order.
            errors += (error for error in followed if error.source == source)
            errors.sort(key=lambda error: error.line)
            raise ScriptErrors(errors + [e for e in followed if e.source != source])
        return found

    # From lines to statements

    def _pieces(
        self, lines: list[str], source: str, first: int, errors: list[ParseError]
    ) -> Iterator[tuple[SourceText, list[Statement]]]:
        """Commands of one or several lines; what is no command goes to ``errors``.

        After a mistake, reading goes on at the next line that begins with a known command.
        """
        at = 0
        while at < len(lines):
            if not scanner.may_continue(lines[at]):
                after = at + 1
                origin = SourceText(lines[at], source, first + at)
            else:
                origin, after, bad_head = self._whole(lines, at, source, first)
                if bad_head is not None:
                    from monitor.language.grouping import told_of_head

                    errors.append(told_of_head(origin, bad_head))
                    at = after
                    continue
            try:
                yield origin, _statements(origin)
            except ParseError as error:
                errors.append(error)
                after = self._next_command(lines, at + 1, after)
            at = after

    def _whole(
        self, lines: list[str], at: int, source: str, first: int
    ) -> tuple[SourceText, int, Span | None]:
        """The command that begins at line ``at`` to its end, the line after it, and the place of
        a head for which all of it is refused."""
        from monitor.language.assembling import Assembler

        reader = Assembler()
        after = at
        while after < len(lines):
            after += 1
            if reader.feed(lines[after - 1]):
                break
        return SourceText(reader.text, source, first + at), after, reader.bad_head

    def _next_command(self, lines: list[str], start: int, end: int) -> int:
        for at in range(start, end):
            word = re.match(r"[-!]?[ \t]*([^\s(]+)", lines[at], re.ASCII)
            if word and self._knows(word[1]) and not lines[at][0].isspace():
                return at
        return end

    def _knows(self, word: str) -> bool:
        return word in self.human or word in self.requests or word in self.prefixes

    # From statements to invocations

    def _invocation(
        self, statement: Statement, origin: SourceText, scope: Scope | None = None
    ) -> Invocation:
        start = statement.name.start
        text = origin.text[start : statement.end]
        line = origin.line
        if start and "\n" in origin.text:
            line = origin.position(start)[0]
        if statement.body is not None:
            from monitor.language.grouping import read_group

            output = None
            read: _Read = read_group(self, statement, origin.text, scope)
        elif scope is None or not _SHELLS_OWN.search(text):
            read = self._read(statement, origin.text, scope)
            output = None
        else:
            read, output = self._read_with(scope, statement, origin.text)
        what, values, spans = read
        command, request = (what, None) if isinstance(what, Command) else (None, what)
        return Invocation(
            text, origin.source, line, statement.mark, command, values, request,
            _moved(spans, start), origin, start, output,
        )  # fmt: skip

    def _read(self, statement: Statement, text: str, scope: Scope | None) -> _Read:
        """The command with its arguments, or the request, and the places of them."""
        what = self.find(statement, scope)
        if isinstance(what, Command):
            bound = bind(what, statement, text)
            return what, bound.values, bound.spans
        if what.qmp_name() == "transaction":
            from monitor.language.grouping import rehearsal

            what, statement = rehearsal(statement)
        try:
            made, spans = read_request(what, statement)
        except NoField as mistake:
            human = what.qmp_name().replace("-", "_")  # which takes words as they come
            if human in self.human:
                mistake.details["hint"] = f"did you mean '{human}'?"
            elif mistake.span[0] == statement.arguments[0].start and (only := only_field(what)):
                word = text[slice(*mistake.span)]
                mistake.details["hint"] = f"did you mean '{only}={word}'?"
            raise
        return made, {}, spans

    def _read_with(
        self, scope: Scope, statement: Statement, text: str
    ) -> tuple[_Read, Output | None]:
        """The same where something may be this shell's own, beyond QEMU's language."""
        from monitor.language.outputs import split_output
        from monitor.language.variables import shifted

        statement, output = split_output(statement, text, lambda t: scope.expanded(t, text))
        human = self.human.get(statement.name.text)
        if human is not None and human.raw:
            return self._read(statement, text, scope), output
        statement, changed = scope.expand(statement, text)
        try:
            what, values, spans = self._read(statement, text, scope)
        except Mistake as mistake:
            raise shifted(mistake, changed) from None
        if isinstance(what, Command):
            for argument in what.arguments:
                if argument.kind == "S" and changed and values[argument.name]:
                    values[argument.name] = scope.text(values[argument.name])
        return (what, values, spans), output

    def find(self, statement: Statement, scope: Scope | None = None) -> Command | type[Request]:
        """What the first word (for ``info``: the first two) names. Raises ``Mistake``."""
        word = statement.name.text
        human, request = self.human.get(word), self.requests.get(word)
        if request is not None and (human is None or _has_fields(statement.arguments)):
            return request
        if word in self.prefixes and statement.arguments:
            return self._second_word(statement)
        if human is not None:
            return human
        if word in self.prefixes:
            raise self._incomplete(statement)
        macros = scope.macros if scope is not None else {}
        if word in macros:
            return macros[word].command
        names = [*self.human, *self.requests, *macros]
        raise Mistake(
            statement.name.span,
            f"unknown command: '{word}'",
            hint=suggestion(word, names),
            hmp_text=f"unknown command: '{word}'",
        )

    def _second_word(self, statement: Statement) -> Command:
        word, second = statement.name.text, statement.arguments[0]
        found = self.human.get(f"{word} {second.text}")
        if found is not None:
            return found
        known = self.below(word)
        raise Mistake(
            second.span,
            f"unknown command: '{word} {second.whole}'",
            expected=one_of(known),
            hint=suggestion(second.text, known),
            hmp_text=f"unknown command: '{word} {second.whole}'",
        )

    def _incomplete(self, statement: Statement) -> Mistake:
        word, end = statement.name.text, statement.end
        return Mistake(
            (end, end + 1), f"'{word}' alone is no command", expected=one_of(self.below(word))
        )

    def below(self, prefix: str) -> list[str]:
        """The second words after ``prefix``: what ``info`` can show."""
        return sorted(
            name[len(prefix) + 1 :] for name in self.human if name.startswith(prefix + " ")
        )


_SHELLS_OWN = re.compile(r"\$|(?<!\S)(?:\||>>?|&)(?!\S)|(?<!\S)--output(?![^\s=])", re.ASCII)
"""What QEMU's language does not have: variables, ways for the output (``outputs``)."""

_FIELD = re.compile(r"[A-Za-z_][\w.-]*=", re.ASCII)


def _has_fields(arguments: list[Token]) -> bool:
    """Whether arguments are a request's, in a name that both languages have."""
    if not arguments:
        return False
    first = arguments[0]
    if first.kind is Kind.WORD:
        return _FIELD.match(first.text) is not None
    return bool(first.key) or (first.kind is Kind.JSON and len(arguments) == 1)


def _moved(spans: dict[str, Span], start: int) -> dict[str, Span]:
    if not start:
        return spans
    return {name: (a - start, b - start) for name, (a, b) in spans.items()}


def _statements(origin: SourceText) -> list[Statement]:
    """The commands of a text, whose words the grammar defines. Raises ``ParseError``."""
    found = scanner.scan(origin.text)
    if found is not None:
        return found
    from monitor.language import grammar

    try:
        return grammar.parse(origin.text)
    except Mistake as mistake:
        raise mistake.placed(origin) from None
