"""Named commands: ``macro`` gives a name to commands with arguments, ``macros`` lists them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from monitor.commands.registry import Answer, Argument, Command, Session, command, commands
from monitor.engine.errors import RequestError, host_failure
from monitor.nearest import suggestion

_NAME = re.compile(r"[A-Za-z][\w-]*", re.ASCII)
_PLAIN = re.compile(r"[\w=.:/-]+", re.ASCII)
_PARAMETER = re.compile(r"([A-Za-z_]\w*)(?:=(.*))?", re.ASCII | re.DOTALL)

# A parameter that is called so is completed as such.
_KINDS = {"device": "B", "node": "N", "drive": "D", "job": "J", "file": "F", "image": "F"}


class Macro(msgspec.Struct, frozen=True):
    """``parameters`` in order, each with its default (None: it has to be given)."""

    name: str
    parameters: tuple[tuple[str, str | None], ...]
    body: str

    @property
    def source(self) -> str:
        """What messages call its text."""
        return f"macro {self.name}"

    @property
    def definition(self) -> str:
        """The line that makes it."""
        words = [self.name]
        for name, default in self.parameters:
            word = name if default is None else f"{name}={default}"
            words.append(word if _PLAIN.fullmatch(word) else _quoted(word))
        return f"macro {' '.join(words)} {_quoted(self.body)}"

    @property
    def command(self) -> Command:
        """What is typed to run it, for the parser, for completion and for ``help``."""
        return _command(self)

    def values(self, given: Mapping[str, Any]) -> dict[str, str]:
        """Its variables, from the arguments of a call."""
        return {
            name: str(default if given[name] is None else given[name])
            for name, default in self.parameters
        }


def _command(macro: Macro) -> Command:
    found = _COMMANDS.get(macro)
    if found is None:
        arguments = tuple(
            Argument(name, _KINDS.get(name, "s"), optional=default is not None)
            for name, default in macro.parameters
        )
        shown = [a.name if not a.optional else f"[{a.name}]" for a in arguments]
        found = _COMMANDS[macro] = Command(
            macro.name, arguments, " ".join(shown), f"run: {_first_line(macro.body)}",
            _runner(macro), details=macro.definition, hmp=False,
        )  # fmt: skip
        if len(_COMMANDS) > 1000:
            del _COMMANDS[next(iter(_COMMANDS))]
    return found


_COMMANDS: dict[Macro, Command] = {}


def _runner(macro: Macro) -> Any:
    async def run(session: Session, **arguments: Any) -> None:
        await session.run_macro(macro, macro.values(arguments))

    return run


def _first_line(text: str) -> str:
    first, newline, _ = text.partition("\n")
    return f"{first} …" if newline else first


def _quoted(text: str) -> str:
    for plain, escaped in (("\\", r"\\"), ('"', r"\""), ("\n", r"\n"), ("\r", r"\r")):
        text = text.replace(plain, escaped)
    return f'"{text}"'


class BadMacroName(RequestError):
    template = "a command cannot be named '{value}': expected a letter, then letters, digits, _, -"
    value: str


class NameIsTaken(RequestError):
    template = "'{value}' is a command already"
    value: str


class BadParameter(RequestError):
    template = "'{value}' is no name of an argument: expected NAME or NAME=DEFAULT"
    value: str


class RepeatedParameter(RequestError):
    template = "'{value}' is given twice"
    value: str


class NoBody(RequestError):
    template = "the commands are missing: expected them in quotes, behind the arguments"


class NoSuchMacro(RequestError):
    template = "there is no named command '{value}'"
    value: str
    choices: tuple[str, ...] = ()


def macro_of(given: Mapping[str, Any]) -> Macro | None:
    """What ``macro``'s arguments define; None where they ask for one that exists.

    Raises RequestError.
    """
    name, words = given["name"], given["words"]
    if not words:
        return None
    *parameters, body = words
    if not _NAME.fullmatch(name):
        raise BadMacroName(name)
    if name in commands() or _is_request(name):
        raise NameIsTaken(name)
    found: dict[str, str | None] = {}
    for word in parameters:
        match = _PARAMETER.fullmatch(word)
        if match is None:
            raise BadParameter(word)
        if match[1] in found:
            raise RepeatedParameter(match[1])
        found[match[1]] = match[2]
    if not body.strip():
        raise NoBody
    return Macro(name, tuple(found.items()), body)


def _is_request(name: str) -> bool:
    from monitor.engine.schema.base import request_type

    return request_type(name) is not None


def _check(**given: Any) -> None:
    macro_of(given)


@command(
    "macro",
    "name:s/macro,words:s*",
    help="give a name to commands, with arguments",
    params="name [argument[=default]...] commands",
    hmp=False,
    details="The commands stand in quotes, several with ; between them as a word of its own. In\n"
    "them $ARGUMENT stands for what is given. They may use other named commands. An argument\n"
    "called device, node, drive, job or file is completed as one. With a name alone its\n"
    "definition is shown: typed again with a change it replaces the first.",
    example='macro grow device size=1G "block_resize $device $size ; info block $device"\n'
    "macro grow",
    check=_check,
    raw=True,
)
async def macro(session: Session, name: str, words: list[str]) -> Answer | None:
    made = macro_of({"name": name, "words": words})
    if made is not None:
        session.macros[name] = made
        return None
    known = session.macros.get(name)
    if known is None:
        raise _unknown(session, name)
    return Answer(_row(known), lambda: known.definition)


def _unknown(session: Session, name: str) -> NoSuchMacro:
    error = NoSuchMacro(name, tuple(session.macros))
    error.hint = suggestion(name, session.macros)
    return error


def _row(macro: Macro) -> dict[str, Any]:
    return {
        "name": macro.name,
        "arguments": [{"name": n, "default": default} for n, default in macro.parameters],
        "commands": macro.body,
    }


@command(
    "macros",
    "forget:--forget=s/macro,file:F?",
    help="list the named commands, or write them to a file as a script",
    params="[--forget name] [filename]",
    hmp=False,
    details="`source` of the file makes them again; the prompt's own start with those of\n"
    "~/.config/blkmon/config. An existing file is not replaced.",
    example="macros\nmacros my.blkmon",
    arguments_help={"forget": "take a name away", "file": "a new script with the definitions"},
)
async def macros(session: Session, forget: str | None, file: str | None) -> Answer | None:
    if forget is not None:
        if session.macros.pop(forget, None) is None:
            raise _unknown(session, forget)
        return None
    known = [session.macros[name] for name in sorted(session.macros)]
    text = "\n".join(macro.definition for macro in known)
    if file is None:
        return Answer([_row(macro) for macro in known], lambda: text)
    write_new(file, text)
    return None


def write_new(path: str, text: str) -> None:
    """Writes a script that is not there yet. Raises HostFailure."""
    try:
        with open(path, "x", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text + "\n" if text else "")
    except OSError as error:
        raise host_failure(f"Could not create '{path}'", error) from error
