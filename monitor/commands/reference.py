"""docs/commands.md, from the declarations: ``python -m monitor.commands.reference`` prints it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator

from monitor.commands.help import argument_table
from monitor.commands.registry import Command, commands
from monitor.commands.requesthelp import arguments, synopsis, table
from monitor.engine.schema.base import Request, fields_of, request_types
from monitor.engine.schema.events import EventData, event_types

HEAD = """\
# Commands

Made from the declarations by `python -m monitor.commands.reference > docs/commands.md`; a test
compares. `help NAME` says the same at the prompt.

A name that both languages have (`block_resize`, `quit`) is a request when its first argument is
`FIELD=`, else a human command."""

HUMAN = """\
## Human commands

As in QEMU's human monitor, unless a command says that it is not there. A size without a unit
counts MiB, except where bytes are said."""

REQUESTS = """\
## Requests

QMP's, typed as in `qmp-shell`: `NAME key=value…`, dotted keys for nested members, JSON where a
value begins with `{` or `[`. Numbers are bytes without a unit. Those named `x-blkmon-…` are not in
QMP."""

EVENTS = """\
## Events

What QMP clients hear. Those named `X_BLKMON_…` are heard at the prompt and in scripts only."""


def reference() -> str:
    """The whole file: human commands, requests, events, each in alphabetical order."""
    parts = [HEAD, HUMAN]
    human = {declared.name: declared for declared in commands().values()}
    for name in sorted(human):
        parts += _human(human[name])
    parts.append(REQUESTS)
    for name, request in sorted(request_types().items()):
        parts += _request(name, request)
    parts.append(EVENTS)
    for name, event in sorted(event_types().items()):
        parts += _event(name, event)
    return "\n\n".join(parts) + "\n"


def _human(declared: Command) -> Iterator[str]:
    yield f"### {declared.name}"
    names = "|".join((declared.name, *declared.aliases))
    yield _fence(f"{names} {' '.join(declared.params.split())}".rstrip())
    about = " ".join(declared.help.split())
    yield about if declared.hmp else f"{about}. (Not in QEMU's monitor.)"
    if declared.details:
        yield _fence(declared.details) if "\n  " in declared.details else declared.details
    if declared.arguments_help:
        yield _fence(argument_table(declared))
    if declared.example:
        yield f"Example:\n\n{_fence(declared.example)}"


def _request(name: str, request: type[Request]) -> Iterator[str]:
    yield f"### {name}"
    yield _fence(synopsis(request))
    yield inspect.getdoc(request) or ""
    yield from map(_fence, arguments(request))
    if request.example:
        yield f"Example:\n\n{_fence(request.example)}"


def _event(name: str, event: type[EventData]) -> Iterator[str]:
    yield f"### {name}"
    yield inspect.getdoc(event) or ""
    yield _fence(table(fields_of(event)))


def _fence(text: str) -> str:
    return f"```text\n{text}\n```"


if __name__ == "__main__":
    sys.stdout.write(reference())
