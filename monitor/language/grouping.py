"""``transaction(`` … ``)``: requests, one a line, read as one request that has them as actions.

transaction --grouped(                  jobs end together (completion-mode=grouped)
  blockdev-snapshot-sync device=d0 snapshot-file=a.qcow2
  block-dirty-bitmap-add node=n0 name=b0
)
transaction --dry-run( … )              says what would change, and changes nothing
transaction --dry-run actions=[…]       the same, typed as JSON
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from monitor.engine.schema.base import Request
from monitor.engine.schema.transaction import (
    ACTIONS,
    Abort,
    RehearseTransaction,
    Transaction,
    TransactionProperties,
)
from monitor.language.fields import read_request
from monitor.language.syntax import (
    Kind,
    Mistake,
    ParseError,
    SourceText,
    Span,
    Statement,
    one_of,
)
from monitor.nearest import suggestion

if TYPE_CHECKING:
    from monitor.language.parser import Language
    from monitor.language.variables import Scope

DRY_RUN = "--dry-run"
GROUPED = "--grouped"
FLAGS = {
    DRY_RUN: "say what would change, and change nothing",
    GROUPED: "its jobs end together: all well, or none",
}


def read_group(
    language: Language, statement: Statement, text: str, scope: Scope | None
) -> tuple[Request, dict[str, Any], dict[str, Span]]:
    """The request that a group is, and the places in it: ``actions.0`` is all of the first action,
    ``actions.0.data.node`` a value of it. Raises ``Mistake``, all of the group's together."""
    name = statement.name
    if name.text != Transaction.qmp_name():
        language.find(statement, scope)  # an unknown command is told as one
        raise Mistake(name.span, f"'{name.text}' takes no commands in brackets")
    flags = set()
    for token in statement.arguments:
        if token.text not in FLAGS:
            known = one_of(tuple(FLAGS))
            hint = suggestion(token.text, list(FLAGS))
            raise Mistake(token.span, f"no such flag: {token.text}", expected=known, hint=hint)
        flags.add(token.text)
    actions: list[Any] = []
    spans: dict[str, Span] = {}
    mistakes: list[Mistake] = []
    for number, inner in enumerate(statement.body or []):
        try:
            action, places = _action(language, inner, text, scope)
        except Mistake as mistake:
            mistakes += [mistake, *mistake.others]
            continue
        actions.append(action)
        spans[f"actions.{number}"] = inner.start, inner.end
        spans |= {f"actions.{number}.data.{field}": place for field, place in places.items()}
    if mistakes:
        mistakes[0].others = mistakes[1:]
        raise mistakes[0]
    properties = TransactionProperties(completion_mode="grouped") if GROUPED in flags else UNSET
    kind = RehearseTransaction if DRY_RUN in flags else Transaction
    return kind(actions=actions, properties=properties), {}, spans


_AS_A_FLAG = f"transaction {GROUPED}( makes the jobs that it begins end together"


def told_of_head(text: SourceText, head: Span) -> ParseError:
    """The mistake of a group whose head, at ``head``, has more than flags: it is told alone, since
    nobody knows what its lines were to be."""
    start, end = head
    words = re.finditer(r"[^\s(]+", text.text[start : end - 1], re.ASCII)
    word = next((word for word in words if word[0] not in (Transaction.qmp_name(), *FLAGS)), None)
    span = (end - 1, end) if word is None else (start + word.start(), start + word.end())
    named = text.text[slice(*span)]
    return text.error(
        span,
        f"no such flag: {named}",
        expected=one_of(tuple(FLAGS)),
        hint="nothing up to its ')' is run",
    )


def _action(
    language: Language, statement: Statement, text: str, scope: Scope | None
) -> tuple[Any, dict[str, Span]]:
    """One line of the group."""
    name = statement.name
    if statement.mark:
        span = (statement.start, statement.start + 1)
        raise Mistake(span, "the actions of a transaction fail together: no mark is possible here")
    kind: Any = ACTIONS.get(name.text)
    if kind is None or statement.body is not None:
        grouped = name.text.startswith("properties.")
        raise Mistake(
            name.span,
            f"'{name.text}' can be no action of a transaction",
            expected=one_of(tuple(ACTIONS)),
            hint=_AS_A_FLAG if grouped else suggestion(name.text, list(ACTIONS)),
        )
    if name.text == "abort":
        if statement.arguments:
            raise Mistake(statement.arguments[0].span, "'abort' takes no arguments")
        return kind(data=Abort()), {}
    changed = None
    if scope is not None and "$" in text[statement.start : statement.end]:
        statement, changed = scope.expand(statement, text)
    try:
        data, places = read_request(language.requests[name.text], statement)
    except Mistake as mistake:
        if changed is None:
            raise
        from monitor.language.variables import shifted

        raise shifted(mistake, changed) from None
    return kind(data=data), places


def rehearsal(statement: Statement) -> tuple[type[Request], Statement]:
    """What ``transaction`` without brackets is, with or without ``--dry-run``."""
    rest = [t for t in statement.arguments if t.kind is not Kind.WORD or t.text != DRY_RUN]
    if len(rest) == len(statement.arguments):
        return Transaction, statement
    return RehearseTransaction, statement._replace(arguments=rest)


__all__ = ["FLAGS", "read_group", "rehearsal"]
