"""``help``: what can be typed, in HMP's lines, and one command at length."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from monitor.commands.errors import UnknownHumanCommand, Verbatim
from monitor.commands.registry import Answer, Command, Session, command, commands
from monitor.commands.topics import TOPICS
from monitor.nearest import suggestion

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
        if _listed(declared, prefix)
    }
    return "\n".join(shown[name] for name in sorted(shown))


def _listed(declared: Command, prefix: str) -> bool:
    name = declared.name
    return name.startswith(prefix) if prefix else not name.startswith(INFO)


def manual(declared: Command) -> str:
    """One command at length, in sections."""
    names = ", ".join((declared.name, *declared.aliases))
    params = " ".join(declared.params.split())
    parts = [
        ("NAME", f"{names} - {' '.join(declared.help.split())}"),
        ("SYNOPSIS", f"{declared.name} {params}".rstrip()),
        ("DESCRIPTION", declared.details),
        ("OPTIONS", options_table(declared)),
        ("EXAMPLES", declared.example),
        ("EXIT STATUS", declared.status or STATUS),
    ]
    if not declared.hmp:
        parts.append(("NOTES", "Not in QEMU's human monitor."))
    return "\n\n".join(section(title, text) for title, text in parts if text)


def section(title: str, text: str) -> str:
    """A title, and the text below it, moved to the right."""
    return "\n".join([title, *(f"    {line}".rstrip() for line in text.split("\n"))])


STATUS = """\
0  it was done
1  it was refused or failed, for the reason told
3  the line does not parse; of a script nothing ran"""
"""What a script that consists of a command ends with."""


def options_table(declared: Command) -> str:
    """Every argument, a line each, with what is said of it and what it takes."""
    rows = []
    for argument in declared.arguments:
        told = declared.arguments_help.get(argument.name, "")
        takes = "" if argument.flag or argument.kind == "--" else KINDS.get(argument.kind, "")
        if argument.kind == "e" or argument.choices:
            takes = "|".join([*([takes] if takes and argument.kind != "e" else []),
                              *argument.choices])  # fmt: skip
        said = "; ".join(part for part in (told, takes) if part)
        rows.append((_shown(declared, argument.name), said))
    rows.append(("--output=FORM", "table, vertical, json, jsonl or csv (help output)"))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:{width}}  {said}".rstrip() for name, said in rows)


KINDS = {
    "B": "a drive or a node",
    "N": "a node",
    "D": "a drive",
    "J": "a job",
    "F": "a file name",
    "S": "text, to the end of the line",
    "i": "a whole number",
    "o": "a size; MiB without a unit",
    "z": "a size; bytes without a unit",
    "b": "on or off",
    "T": "a time in seconds, or with a unit: 500ms",
    "O": "key=value,…",
    "K": "FIELD=VALUE…",
}
"""In words, what an argument of a kind takes."""


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
    """HMP looks at the first word only, and at a second one after ``info``. Who expects HMP's own
    text is given its line, and nothing of what people are told besides."""
    words = (name or "").replace('"', " ").split()
    if not words:
        return Answer(_listing(), lambda: _overview(session), prose=True)
    declared = find(words)
    if declared is None and words[0] in session.macros:
        declared = session.macros[words[0]].command
    if declared is None:
        if len(words) == 1 and words[0] in _firsts():
            return _group(f"{words[0]} ")
        return _request_help(words[0]) or _topic(words[0]) or _refuse(words)
    if declared.name == "info" and len(words) == 1:
        return _group(INFO)
    show = summary if session.plain else manual
    told = {"name": declared.name, "help": declared.help}
    return Answer(told, lambda: show(declared), prose=True)


def _group(prefix: str) -> Answer:
    """The commands whose first word is the same, ``prefix`` with its blank."""
    return Answer(_listing(prefix), lambda: summaries(prefix), prose=True)


def _overview(session: Session) -> str:
    if session.plain:
        return summaries()
    topics = ", ".join(TOPICS)
    return (
        f"{summaries()}\n\n"
        "Requests of QMP (transaction, blockdev-add, query-jobs, ...) can be typed as well: "
        "query-commands lists them.\n"
        f"help COMMAND tells more of one; apropos WORD finds them. Other topics: {topics}."
    )


def _topic(name: str) -> Answer | None:
    if name not in TOPICS:
        return None
    title, text = TOPICS[name]
    told = {"name": name, "help": title}
    return Answer(told, lambda: f"{name}: {title}\n\n{text}", prose=True)


def find(words: list[str]) -> Command | None:
    """The command that ``words`` begin with."""
    if words[0] in _firsts() and len(words) > 1:
        return commands().get(" ".join(words[:2]))
    return commands().get(words[0])


def _firsts() -> set[str]:
    """First words of commands that have two: info, …"""
    return {name.split(" ")[0] for name in commands() if " " in name}


def _refuse(words: list[str]) -> Answer:
    typed = words[:2] if words[0] in _firsts() else words[:1]
    error = UnknownHumanCommand(" ".join(typed))
    if INFO + words[0] in commands():  # as block-jobs may be asked for
        error.hint = f"did you mean '{INFO}{words[0]}'?"
    raise error


def _listing(prefix: str = "") -> list[dict[str, str]]:
    return [
        {"name": name, "params": declared.params, "help": declared.help}
        for name, declared in sorted(commands().items())
        if name == declared.name and _listed(declared, prefix)
    ]


def _request_help(name: str) -> Answer | None:
    """What is known of a request of QMP; None when there is none of that name."""
    from monitor.engine.schema.base import request_type

    request = request_type(name)
    if request is None:
        return None
    from monitor.commands.requesthelp import request_manual

    told = {"name": name, "help": request.__doc__}
    return Answer(told, lambda: request_manual(request), prose=True)


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
    return _group(INFO)


@command(
    "apropos",
    "word:S",
    help="find commands, requests and topics that have to do with a word",
    params="word...",
    hmp=False,
    details="Names, options and texts are looked through; each word has to be found, in any order\n"
    "and in capitals or not. What has it in its name comes first.",
    example="apropos snapshot\napropos read only",
)
async def apropos(session: Session, word: str) -> Answer:
    words = word.lower().replace('"', " ").split()
    found = [entry for entry in _entries(session) if entry.has(words)]
    if not found:
        error = NothingFound(word)
        error.hint = suggestion(words[-1] if words else "", _vocabulary(session))
        raise error
    found.sort(key=lambda entry: (not entry.named(words), entry.name))
    rows = [{"name": entry.name, "kind": entry.kind, "help": entry.help} for entry in found]
    return Answer(rows, lambda: _found(rows), prose=True)


def _found(rows: list[dict[str, str]]) -> str:
    width = max(len(row["name"]) for row in rows)
    return "\n".join(f"{row['name']:{width}}  {row['kind']:7}  {row['help']}" for row in rows)


_AS_ALL = section("EXIT STATUS", STATUS)
"""What every manual says: nobody looks for it."""


class NothingFound(Verbatim):
    template = "nothing has to do with '{message}'"


class _Entry(NamedTuple):
    """Something that ``help`` knows; ``text`` is all that is said of it, in small letters."""

    name: str
    kind: str
    help: str
    text: str

    def has(self, words: list[str]) -> bool:
        return all(word in self.text for word in words)

    def named(self, words: list[str]) -> bool:
        return any(word in self.name.lower() for word in words)


def _entries(session: Session) -> Iterator[_Entry]:
    macros = {name: macro.command for name, macro in session.macros.items()}
    for name, declared in {**commands(), **macros}.items():
        if name == declared.name:
            text = f"{summary(declared)} {manual(declared)}".replace(_AS_ALL, "")
            yield _Entry(name, "command", _first_sentence(declared.help), text.lower())
    from monitor.commands.requesthelp import request_manual
    from monitor.engine.schema.base import request_types

    for name, request in request_types().items():
        first = (request.__doc__ or "").strip().split("\n")[0]
        text = request_manual(request).replace(_AS_ALL, "")
        yield _Entry(name, "request", first, text.lower())
    for name, (title, told) in TOPICS.items():
        yield _Entry(name, "topic", title, f"{name} {title} {told}".lower())


def _first_sentence(help: str) -> str:
    """Of a help text of HMP, which may be many lines, what the command does."""
    return re.split(r"\.\s", " ".join(help.split()))[0].removesuffix(".")


def _vocabulary(session: Session) -> set[str]:
    """Words that would find something."""
    return {
        word for entry in _entries(session) for word in re.findall(r"[a-z][a-z-]{2,}", entry.text)
    }
