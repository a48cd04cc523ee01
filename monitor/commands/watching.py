"""``watch``: a command again and again, with what changes."""

from __future__ import annotations

from monitor.commands.registry import Session, command
from monitor.engine.errors import RequestError


class BadInterval(RequestError):
    template = "{seconds:g} s are too few: expected 0.1 or more"
    seconds: float


@command(
    "watch",
    "until:--until=s,while_:--while=s,times:--times=i,every:T,command:S",
    help="run a command again and again and show what changes",
    params="[--until text] [--while text] [--times n] seconds command",
    hmp=False,
    details="On a terminal the output stays in its place and what has changed is highlighted;\n"
    "elsewhere it is printed when it has changed. It ends when the output has (--until), or\n"
    "has no longer (--while), the text, after so many times, when the command fails, or with\n"
    "Ctrl-C. The last output is printed.",
    example='watch --until "No active" 0.1 info jobs\nwatch --times 2 0.1 info block-jobs',
    arguments_help={
        "until": "end once the output has this text",
        "while_": "end once the output no longer has it",
        "times": "end after so many",
        "every": "the time between two",
        "command": "the command, to the end of the line",
    },
)
async def watch(
    session: Session,
    until: str | None,
    while_: str | None,
    times: int | None,
    every: float,
    command: str,
) -> None:
    if every < 0.1:
        raise BadInterval(every)

    def ended(text: str, count: int) -> bool:
        return (
            (until is not None and until in text)
            or (while_ is not None and while_ not in text)
            or (times is not None and count >= times)
        )

    await session.watch(command, every, ended)
