"""What a person can type: every human command, declared once.

A declaration gives a command's name, aliases, argument pattern, HMP's parameter text and help
line, a longer help with an example, and its handler. The parser types arguments by the pattern;
completion, ``help`` and the reference in docs/ read the same declaration.

The pattern is a comma separated list of arguments in order, in the letters of QEMU's HMP::

    nodes:-n,verbose:-v,device:B?     info block [-n] [-v] [device]

    -x   a flag (``name`` is true when given)
    B    a drive or node             N   a node              D   a drive
    J    a job (``J/complete``: one that accepts the verb now; ``J/block-complete``: a block job
         that does)
    F    a file name                 s   a word or a quoted string
    X    an export
    S    the rest of the line as it stands
    i    an integer                  o   a size; without a unit it counts MiB
    z    a size; without a unit it counts bytes
    b    on or off                   e(a|b|c)  one of the listed words
    T    a time in seconds, or with a unit (500ms)
    O    an option string as -drive takes it (key=value,…), kept as text
    O/create   the same with the options of a new image
    K    any number of key=value words (dotted keys, JSON values), a dict
    s/file   a word that names a file, where HMP takes any string; s/format: an image format
    s/qemu-io   a command for qemu-io;  s/variable: a variable or setting;  s/macro: a named command
    s/snapshot  the name of an internal snapshot
    S/command   the rest of the line, which names a command
    J(all)   one of the listed words, or what the letter says
    --word   a flag in words, taken anywhere;  --word=i  one that is followed by a value
    -x=s     the same with one letter
    …?   optional                    …*  any number of them, a list (last positional only)

Handlers run on the control loop, see requests and results only, and return what to print.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from monitor.bytopic import ByTopic
from monitor.commands import COMMANDS
from monitor.engine.api import Engine

if TYPE_CHECKING:
    from monitor.commands.macros import Macro
    from monitor.commands.settings import Settings


class Answer(msgspec.Struct, frozen=True):
    """A command's output: the data (for --json) and the text a person reads, made on demand."""

    data: Any
    render: Callable[[], str]
    columns: tuple[str, ...] = ()
    """What a table shows of the data, by dotted names; () for everything."""
    prose: bool = False
    """Whether the text may be folded at blanks to fit a terminal."""


class Session(Protocol):
    """What a handler may use of the front end it runs in."""

    engine: Engine
    interactive: bool
    """Whether a person can be asked."""
    plain: bool
    """Whether a program reads the answers that expects QEMU's own texts and no more."""
    settings: Settings
    variables: dict[str, str]
    macros: dict[str, Macro]

    def print(self, text: str) -> None:
        """A line of output now, before the command has ended."""

    async def ask(self, question: str) -> bool:
        """Yes or no; False at once when not interactive."""

    async def run_file(self, path: str) -> None:
        """Runs the commands of a script file in this session (``source``)."""

    async def run_macro(self, macro: Macro, values: Mapping[str, str]) -> None:
        """Runs a named command with values for its arguments."""

    def history(self) -> list[str]:
        """What was typed so far, the newest last: this command."""

    async def type_again(self, text: str) -> None:
        """Shows a line and runs it. Raises what its commands raise."""

    async def watch(self, text: str, every: float, ended: Callable[[str, int], bool]) -> None:
        """Runs a line every so many seconds until ``ended(output, count)``, or until a person has
        seen enough. Raises what its commands raise."""

    async def confirm(self, question: str) -> bool:
        """Whether to do what loses data: asks, where a person is there and wants to be asked."""

    def record(self, path: str | None) -> None:
        """Records the session as a transcript from the next command on; None ends that."""

    def request_quit(self) -> None:
        """The session ends after this command."""


Handler = Callable[..., Awaitable["Answer | str | None"]]


class Argument(msgspec.Struct, frozen=True):
    """One argument of a pattern."""

    name: str
    kind: str  # the letter(s): "B", "o", "-f", "e"; "--" is a flag in words
    optional: bool = False
    many: bool = False
    choices: tuple[str, ...] = ()
    verb: str = ""
    option: str = ""
    """``--word``; ``kind`` is then that of its value, or "--" when it takes none."""

    @property
    def flag(self) -> str | None:
        """``-x``, or None for what is no flag of one letter."""
        return self.kind if self.kind.startswith("-") and not self.option else None


class Command(msgspec.Struct, frozen=True):
    """One human command. ``name`` may hold a blank: ``info block``."""

    name: str
    arguments: tuple[Argument, ...]
    params: str
    help: str
    handler: Handler
    aliases: tuple[str, ...] = ()
    details: str = ""
    example: str = ""
    hmp: bool = True  # QEMU's HMP has it, under this name
    arguments_help: Mapping[str, str] = msgspec.field(default_factory=dict)
    """What ``help`` says of an argument, by its name."""
    status: str = ""
    """Exit statuses that it gives a script, where those of all commands do not tell."""
    check: Callable[..., None] | None = None
    """Looks at the arguments when they are parsed, as the handler will be given them; raises
    RequestError."""
    asks: Callable[[Mapping[str, Any]], bool] | None = None
    """Whether with these options it is a question that needs no further arguments."""
    raw: bool = False
    """``$NAME`` stands for itself in the arguments."""


_COMMANDS = ByTopic[Command]("monitor.commands", COMMANDS)


def command(
    name: str,
    pattern: str = "",
    *,
    help: str,
    params: str | None = None,
    aliases: tuple[str, ...] = (),
    details: str = "",
    example: str = "",
    hmp: bool = True,
    arguments_help: Mapping[str, str] = MappingProxyType({}),
    status: str = "",
    check: Callable[..., None] | None = None,
    asks: Callable[[Mapping[str, Any]], bool] | None = None,
    raw: bool = False,
) -> Callable[[Handler], Handler]:
    """Declares the decorated coroutine function as the command ``name``.

    Its handler is called as ``handler(session, **arguments)``; optional arguments that were not
    given are passed as None (flags as False, many as []).
    """
    arguments = parse_pattern(pattern)

    def declare(handler: Handler) -> Handler:
        shown = _params(arguments) if params is None else params
        declared = Command(
            name=name,
            arguments=arguments,
            params=shown,
            help=help,
            handler=handler,
            aliases=aliases,
            details=details,
            example=example,
            hmp=hmp,
            arguments_help=arguments_help,
            status=status,
            check=check,
            asks=asks,
            raw=raw,
        )
        for key in (name, *aliases):
            _COMMANDS.declare(key, declared)
        return handler

    return declare


def parse_pattern(pattern: str) -> tuple[Argument, ...]:
    """The arguments of a pattern; see the module's docstring."""
    return tuple(_argument(item) for item in pattern.split(",") if item)


def _argument(item: str) -> Argument:
    name, _, kind = item.partition(":")
    option = ""
    if kind.startswith("--") or (kind.startswith("-") and "=" in kind):
        option, _, kind = kind.partition("=")
        option, kind = option.rstrip("?"), kind.rstrip("?") + "?" if kind else "--?"
    optional, many = kind.endswith("?"), kind.endswith("*")
    kind = kind.rstrip("?*")
    kind, _, verb = kind.partition("/")
    choices: tuple[str, ...] = ()
    if kind.endswith(")"):
        kind, _, words = kind[:-1].partition("(")
        choices = tuple(words.split("|"))
    return Argument(name, kind, optional or many, many, choices, verb, option)


def _params(arguments: tuple[Argument, ...]) -> str:
    words = []
    for argument in arguments:
        text = argument.flag or argument.name
        if argument.many:
            text += "..."
        if argument.option:
            text = argument.option + ("" if argument.kind == "--" else f" {argument.name}")
        words.append(f"[{text}]" if argument.flag or argument.optional else text)
    return " ".join(words)


def commands() -> Mapping[str, Command]:
    """Every command by name and alias; a topic's file is imported when one is looked at."""
    return _COMMANDS
