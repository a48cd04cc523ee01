"""What a command line asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from monitor.servers.door import Door


class Options:
    """The options of a command line, with what holds where one is not given."""

    def __init__(self, **given: Any) -> None:
        self.files: list[str] = []
        self.commands: list[str] = []
        self.disks: list[tuple[str, str]] = []  # (option, value), in the order given
        self.variables: list[tuple[str, str]] = []
        self.yes = False
        self.check = False
        self.checkpoint: str | None = None
        self.resume = False
        self.progress: int | None = None
        self.keep_going = False
        self.json = False
        self.qmp: list[Door] = []
        self.record: str | None = None
        self.replay = False
        self.update = False
        vars(self).update(given)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Options) and vars(self) == vars(other)

    def __repr__(self) -> str:
        return f"Options({vars(self)})"

    def contradiction(self) -> str | None:
        """What is wrong with having all of these; None when nothing is."""
        scripted = bool(self.files or self.commands)
        if self.replay and not self.files:
            return "--replay needs a FILE"
        if self.update and not self.replay:
            return "--update goes with --replay"
        if self.check and self.replay:
            return "--check and --replay do not go together"
        if self.replay and (self.commands or self.disks or self.record or self.json):
            return "--replay takes its commands and disks from the FILEs alone"
        if self.resume and not self.checkpoint:
            return "--resume goes with --checkpoint"
        if self.checkpoint and (not scripted or "-" in self.files or self.check):
            return "--checkpoint is for scripts in FILEs and -c"
        if self.checkpoint and (self.replay or self.record):
            return "--checkpoint does not go with --replay and --record"
        if self.qmp and (scripted or self.check or self.replay or self.record):
            return "--qmp serves a program: it takes no commands, and records nothing"
        return None


def parse_arguments(arguments: Sequence[str]) -> Options:
    """The options of a command line; a wrong one ends the process with status 2."""
    options = usual_options(arguments)
    if options is not None:
        return options
    from monitor.usage import parse_all

    return parse_all(arguments)


_SWITCHES = {"-y": "yes", "--yes": "yes", "--json": "json", "--keep-going": "keep_going"}


def usual_options(arguments: Sequence[str]) -> Options | None:
    """The options of most starts; None where there are others, or a mistake.

    ``monitor.usage`` says what all of them mean, and reads them the same way
    (``tests/unit/test_options.py``); but argparse takes as long to load as a bare interpreter.
    """
    options = Options()
    words = iter(arguments)
    for word in words:
        if word in _SWITCHES:
            setattr(options, _SWITCHES[word], True)
        elif not word.startswith("-"):
            options.files.append(word)
        elif (value := next(words, "-")).startswith("-"):
            return None
        elif word in ("-c", "--command"):
            options.commands.append(value)
        elif word in ("--drive", "--blockdev"):
            options.disks.append((word, value))
        elif word == "--qmp" and value == "stdio":
            from monitor.servers.door import STDIO

            options.qmp.append(STDIO)
        else:
            return None
    return options if options.contradiction() is None else None
