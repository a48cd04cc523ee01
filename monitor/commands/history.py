"""What was typed before: ``info history``, ``history``, ``rerun``."""

from __future__ import annotations

import re

from monitor.commands.macros import write_new
from monitor.commands.registry import Answer, Session, command
from monitor.engine.errors import RequestError
from monitor.nearest import suggestion


class NotInHistory(RequestError):
    template = "nothing in the history is '{value}'"
    value: str


class OnlyOthers(RequestError):
    """A rerun of a rerun may have no end."""

    template = "'{value}' runs another line: rerun that"
    value: str


@command(
    "info history",
    help="show the command line history",
    details="Each line with its number, which `rerun` takes.",
    example="info history",
)
async def info_history(session: Session) -> Answer:
    lines = session.history()
    return Answer(
        lines, lambda: "\n".join(f"{number}: '{line}'" for number, line in enumerate(lines))
    )


@command(
    "history",
    "export:--export=F,count:i?",
    help="list the last lines that were typed, or write them to a file as a script",
    params="[--export filename] [count]",
    hmp=False,
    details="Without a count, the last 20; a script is made of all unless there is a count. It\n"
    "leaves out lines that only looked at the history. An existing file is not replaced.",
    example="history\nhistory 5\nhistory --export session.blkmon",
    arguments_help={"count": "how many, from the last one back", "export": "a new script"},
)
async def history(session: Session, export: str | None, count: int | None) -> Answer | None:
    numbered = list(enumerate(session.history()))
    if count is not None:
        numbered = numbered[-count:] if count > 0 else []
    if export is not None:
        kept = [line for _, line in numbered if not _looks_back(line)]
        write_new(export, "\n".join(kept))
        return None
    if count is None:
        numbered = numbered[-20:]
    width = len(str(numbered[-1][0])) if numbered else 1
    rows = [{"number": number, "line": line} for number, line in numbered]
    return Answer(
        rows, lambda: "\n".join(f"{row['number']:{width}}  {row['line']}" for row in rows)
    )


@command(
    "rerun",
    "which:S?",
    help="run a line of the history again: by its number, or the last that begins so",
    params="[number|beginning]",
    hmp=False,
    details="Without an argument, the last line. The line is shown before it runs.",
    example="echo one\nrerun echo\nrerun 0",
)
async def rerun(session: Session, which: str | None) -> None:
    lines = session.history()[:-1]  # the last is this one
    line = _found(lines, (which or "").strip())
    if re.match(r"\s*[-!]?\s*rerun\b", line):
        raise OnlyOthers(line)
    await session.type_again(line)


def _found(lines: list[str], which: str) -> str:
    if which.isdigit():
        if int(which) >= len(lines):
            raise NotInHistory(which)
        return lines[int(which)]
    others = [line for line in lines if not _looks_back(line)]
    for line in reversed(others):
        if line.startswith(which):
            return line
    error = NotInHistory(which)
    error.hint = suggestion(which, [line.split(" ")[0] for line in others])
    raise error


def _looks_back(line: str) -> bool:
    return re.match(r"\s*[-!]?\s*(?:rerun|history|info\s+history)\b", line) is not None
