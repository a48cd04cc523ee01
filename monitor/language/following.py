"""What a command does to the meaning of the lines after it: ``set``, named commands, ``source``.

Only those few change a ``Scope``. While a script is parsed each is followed at its place, so that
the next line is read as it will be when it runs. Files and named commands are looked into; their
own mistakes are the script's with ``Scope.strict`` (``--check``), else they show when they run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from monitor.engine.errors import MonitorError, RequestError
from monitor.language.syntax import ParseError, ScriptErrors
from monitor.language.variables import Scope, hidden

if TYPE_CHECKING:
    from monitor.language.parser import Invocation, Language


def follow(language: Language, invocation: Invocation, scope: Scope) -> list[ParseError]:
    """Changes ``scope`` as ``invocation`` will; the mistakes that this finds."""
    command, given = invocation.command, invocation.arguments
    assert command is not None
    check = command.check
    if check is None and scope.strict:
        from monitor.language.checks import CHECKS

        check = CHECKS.get(command.name)
    if check is not None:
        try:
            check(**given)
        except RequestError as error:
            return [_placed(error, invocation)]
    match command.name:
        case "set":
            _set(given, scope)
        case "unset":
            scope.variables.pop(given["name"], None)
        case "macro":
            from monitor.commands.macros import macro_of

            macro = macro_of(given)
            if macro is not None:
                scope.macros[macro.name] = macro
        case "source":
            return _follow_file(language, invocation, scope)
        case name if name in scope.macros and scope.macros[name].command is command:
            return _follow_macro(language, invocation, scope)
    return []


def _set(given: dict[str, Any], scope: Scope) -> None:
    from monitor.commands.settings import SETTINGS

    name, value = given["name"], given["value"]
    if value is not None and name not in SETTINGS:
        scope.variables[name] = value


def _follow_file(language: Language, invocation: Invocation, scope: Scope) -> list[ParseError]:
    if scope.read is None:
        return []
    path = invocation.arguments["file"]
    try:
        text = scope.read(path)
    except MonitorError as error:
        return [invocation.error_at("file", error.text)] if scope.strict else []
    return _follow_text(language, text, path, scope)


def _follow_macro(language: Language, invocation: Invocation, scope: Scope) -> list[ParseError]:
    macro = scope.macros[invocation.name]
    with hidden(scope.variables, macro.values(invocation.arguments)):
        return _follow_text(language, macro.body, macro.source, scope)


def _follow_text(language: Language, text: str, source: str, scope: Scope) -> list[ParseError]:
    with scope.inside(source) as fresh:
        if not fresh:
            return []  # running it is refused
        try:
            language.parse_script(text, source, 1, scope)
        except ScriptErrors as found:
            return found.errors if scope.strict else []
    return []


def _placed(error: RequestError, invocation: Invocation) -> ParseError:
    """What a check refuses, at the word that it is about."""
    from monitor.language.hints import explain

    explain(error, invocation, _Nothing())
    if isinstance(error.mark, ParseError):
        placed = error.mark
    else:
        last = max(invocation.spans.items(), key=lambda item: item[1], default=("", (0, 0)))[0]
        placed = invocation.error_at(last, error.text)
    placed.hint = error.hint
    return placed


class _Nothing:
    """Without an engine nothing exists."""

    def names(self, kind: str, verb: str = "", of: str = "") -> Iterator[Any]:
        return iter(())
