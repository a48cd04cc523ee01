"""``help``: what can be typed, in HMP's lines, and one command at length."""

from __future__ import annotations

from monitor.commands.errors import UnknownHumanCommand
from monitor.commands.registry import Answer, Command, Session, command, commands

INFO = "info "


def summary(declared: Command) -> str:
    """HMP's line (or lines) about a command: ``name|alias params -- help``."""
    prefix = INFO if declared.name.startswith(INFO) else ""
    names = "|".join(name.removeprefix(INFO) for name in (declared.name, *declared.aliases))
    return f"{prefix}{names} {declared.params} -- {declared.help}"


def summaries(prefix: str = "") -> str:
    """The commands that begin with ``prefix``, sorted by name; with none, all but ``info``'s."""
    shown = {
        declared.name: summary(declared)
        for declared in commands().values()
        if declared.name.startswith(prefix) and (prefix or " " not in declared.name)
    }
    return "\n".join(shown[name] for name in sorted(shown))


def manual(declared: Command) -> str:
    """HMP's line, then what it means, its arguments and an example."""
    parts = [summary(declared)]
    if declared.details:
        parts.append(declared.details)
    if declared.arguments_help:
        parts.append(argument_table(declared))
    if declared.example:
        parts.append("\n".join(f"Example: {line}" for line in declared.example.splitlines()))
    return "\n\n".join(parts)


def argument_table(declared: Command) -> str:
    """What is said of its arguments, a line each."""
    shown = {_shown(declared, name): text for name, text in declared.arguments_help.items()}
    width = max(map(len, shown))
    return "\n".join(f"  {name:{width}}  {text}" for name, text in shown.items())


def _shown(declared: Command, name: str) -> str:
    """An argument as the person types it: ``-f``, ``--timeout S``, ``device``."""
    argument = next(a for a in declared.arguments if a.name == name)
    if argument.option:
        return argument.option + ("" if argument.kind == "--" else f" {_placeholder(name)}")
    return argument.flag or name.replace("_", "-")


def _placeholder(name: str) -> str:
    return name.replace("_", "-").upper()


@command(
    "help",
    "name:S/command?",
    help="show the help",
    params="[cmd]",
    aliases=("?",),
    details="Without an argument, every command in a line; with one, that command at length.\n"
    "Requests of QMP are typed as `NAME key=value…`: `query-commands` lists them.",
    example="help block_stream",
)
async def help_(session: Session, name: str | None) -> Answer:
    """HMP looks at the first word only, and at a second one after ``info``."""
    words = (name or "").replace('"', " ").split()
    if not words:
        return Answer(_listing(), summaries)
    declared = find(words)
    if declared is None:
        return _request_help(words[0]) or _refuse(words)
    if declared.name == "info" and len(words) == 1:
        return Answer(_listing(INFO), lambda: summaries(INFO))
    return Answer({"name": declared.name, "help": declared.help}, lambda: manual(declared))


def find(words: list[str]) -> Command | None:
    """The command that ``words`` begin with."""
    if words[0] == "info" and len(words) > 1:
        return commands().get(f"info {words[1]}")
    return commands().get(words[0])


def _refuse(words: list[str]) -> Answer:
    typed = words[:2] if words[0] == "info" else words[:1]
    raise UnknownHumanCommand(" ".join(typed))


def _listing(prefix: str = "") -> list[dict[str, str]]:
    return [
        {"name": name, "params": declared.params, "help": declared.help}
        for name, declared in sorted(commands().items())
        if name.startswith(prefix) and name == declared.name and (prefix or " " not in name)
    ]


def _request_help(name: str) -> Answer | None:
    """What is known of a request of QMP; None when there is none of that name."""
    from monitor.engine.schema.base import request_type

    request = request_type(name)
    if request is None:
        return None
    from monitor.commands.requesthelp import request_manual

    return Answer({"name": name, "help": request.__doc__}, lambda: request_manual(request))


@command(
    "info",
    "item:S?",
    help="show various information about the system state",
    params="[subcommand]",
    details="Without an argument, what there is to know.",
    example="info",
)
async def info(session: Session, item: str | None) -> Answer:
    if item:
        raise UnknownHumanCommand(f"info {item.split()[0]}")
    return Answer(_listing(INFO), lambda: summaries(INFO))
