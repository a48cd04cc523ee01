"""``$NAME`` and ``${NAME}``: what names mean while a text is parsed.

A script is parsed whole before anything of it runs, and there is nothing in the language that runs
a command sometimes. So the values of variables are known while parsing: a ``Scope`` begins with
what the session has, follows each ``set`` in the text and in the files and named commands that it
runs, and puts values where ``$NAME`` stands. That makes an unknown variable a mistake with a place,
which ``--check`` lists, and lets values be typed as any other argument.

A value is one word, whatever is in it: it is never split or read again. ``$$`` is a dollar; a
dollar before anything else than a name is one too (``a$5.img``). Words, strings in quotes and
strings inside JSON are looked through; names of commands are not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from monitor.language.syntax import Kind, Mistake, Span, Statement, Token
from monitor.nearest import suggestion

if TYPE_CHECKING:
    from monitor.commands.macros import Macro

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
"""What a variable may be called."""

_USE = re.compile(r"\$(?:(\$)|([A-Za-z_][A-Za-z0-9_]*)|\{([^}\s]*)\}|(\{))", re.ASCII)

MAX_NESTING = 50
"""Files and named commands inside each other that are followed."""


@contextmanager
def hidden(variables: dict[str, str], values: Mapping[str, str]) -> Iterator[None]:
    """While ``values`` (a named command's arguments) hide variables of the same names."""
    before = {name: variables.get(name) for name in values}
    variables.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                variables.pop(name, None)
            else:
                variables[name] = value


class Scope:
    """Variables and named commands while a text is parsed; ``set`` in the text changes only this.

    ``read`` gives the text of a file that ``source`` runs (it raises what opening raises); None
    follows no files. With ``strict``, mistakes in what is followed are this text's mistakes.
    """

    def __init__(
        self,
        variables: Mapping[str, str] | None = None,
        macros: Mapping[str, Macro] | None = None,
        read: Callable[[str], str] | None = None,
        *,
        strict: bool = False,
    ) -> None:
        self.variables = dict(variables or {})
        self.macros = dict(macros or {})
        self.read = read
        self.strict = strict
        self._inside: list[str] = []

    @contextmanager
    def inside(self, what: str) -> Iterator[bool]:
        """While ``what`` is followed; False when it is already, or others inside it too deeply."""
        fresh = what not in self._inside and len(self._inside) < MAX_NESTING
        self._inside.append(what)
        try:
            yield fresh
        finally:
            self._inside.pop()

    def expand(self, statement: Statement, text: str) -> tuple[Statement, list[Token]]:
        """``statement`` with values for variables, and the tokens that have changed.

        Places stay those of what was typed. Raises ``Mistake``.
        """
        if "$" not in text:
            return statement, []
        changed: list[Token] = []
        arguments = []
        for token in statement.arguments:
            if "$" in text[token.start : token.end]:
                token = self.expanded(token, text)
                changed.append(token)
            arguments.append(token)
        return statement._replace(arguments=arguments), changed

    def text(self, raw: str) -> str:
        """``raw`` with values for variables. Raises ``Mistake`` with places in ``raw``."""
        return _USE.sub(lambda match: self._value(match, match.span()), raw)

    def expanded(self, token: Token, text: str) -> Token:
        """One token of ``text`` with values for variables. Raises ``Mistake``."""

        def value(match: re.Match[str]) -> str:
            # A string's text has lost its escapes: the place is looked for where it was typed.
            at = text.find(match[0], token.start, token.end)
            return self._value(match, (at, at + len(match[0])))

        if token.kind is Kind.JSON:
            return token._replace(data=_in_strings(token.data, lambda s: _USE.sub(value, s)))
        return token._replace(text=_USE.sub(value, token.text))

    def _value(self, match: re.Match[str], span: Span) -> str:
        dollar, plain, braced, opened = match.groups()
        if dollar:
            return "$"
        if opened or (braced is not None and not NAME.fullmatch(braced)):
            raise Mistake(
                span, f"'{match[0]}' names no variable", expected="${NAME}, or $$ for a dollar"
            )
        name = plain or braced
        known = self.variables.get(name)
        if known is None:
            raise Mistake(
                span,
                f"undefined variable '{name}'",
                hint=suggestion(name, self.variables) or "$$ means a dollar",
            )
        return known


def _in_strings(value: Any, change: Callable[[str], str]) -> Any:
    """JSON with each of its strings changed."""
    if isinstance(value, str):
        return change(value) if "$" in value else value
    if isinstance(value, list):
        return [_in_strings(part, change) for part in value]
    if isinstance(value, dict):
        return {name: _in_strings(part, change) for name, part in value.items()}
    return value


def shifted(mistake: Mistake, changed: list[Token]) -> Mistake:
    """``mistake`` with the place of the whole word where it lies in one that has been filled in:
    inside, places are those of a value that is not in the text."""
    start, end = mistake.span
    for token in changed:
        if token.start <= start < token.end or end == token.end:
            mistake.span = token.span
            said, value = mistake.details["hint"], f"it stands for '{token.whole}'"
            mistake.details["hint"] = f"{said}\n{value}" if said else value
            break
    for other in mistake.others:
        shifted(other, changed)
    return mistake
