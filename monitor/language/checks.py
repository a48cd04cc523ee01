"""What ``--check`` finds inside arguments that only running the command would take apart: option
strings of drives and of new images, commands for qemu-io.

Names of options and values that are a choice of words are looked at; whether files, nodes and
drives exist is not, since the script itself may make them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from monitor.engine.errors import RequestError


class UnknownOption(RequestError):
    template = "{what} has no option '{value}'"
    what: str
    value: str
    choices: tuple[str, ...] = ()


def _drive_add(node: bool, opts: str, **_: Any) -> None:
    from monitor.engine.schema.keyval import parse_opts

    if node:
        _node_add(opts)
        return
    from monitor.engine.schema.base import fields_of
    from monitor.engine.schema.drive import LIMIT_ALIASES, PLACE, DriveOptions
    from monitor.engine.schema.mistakes import UnacceptedValue
    from monitor.language.hints import image_keys

    known = {*image_keys(), *PLACE, *LIMIT_ALIASES}
    accepted = {member.name: member.choices for member in fields_of(DriveOptions)}
    for name, value in parse_opts(opts).items():
        last = name.rpartition(".")[2]
        if not last.isdigit() and last not in known:
            raise UnknownOption("a drive", name, tuple(known))
        words = accepted.get(name, ())
        if words and value not in words and name != "if":  # other buses are refused with reasons
            raise UnacceptedValue(name, value, words)


def _node_add(opts: str) -> None:
    """What is not there may be found by looking at files, as a format is."""
    from monitor.engine.schema.blockdev import AnyBlockdevOptions
    from monitor.engine.schema.keyval import parse_opts
    from monitor.engine.schema.mistakes import MissingParameter
    from monitor.engine.schema.optionstrings import decode_node_options, nest

    with contextlib.suppress(MissingParameter):
        decode_node_options(AnyBlockdevOptions, nest(parse_opts(opts)))


def _create(options: str | None, format: str | None, **_: Any) -> None:
    from monitor.engine.schema.imageopts import asks_for_help, image_options
    from monitor.engine.schema.keyval import parse_opts

    if asks_for_help(options):
        return
    known = image_options(format or "raw")
    for name in parse_opts(options or ""):
        if name not in known:
            raise UnknownOption(f"a {format or 'raw'} image", name, tuple(known))


def _qemu_io(command: str, **_: Any) -> None:
    from monitor.commands.io.usage import SHORT, USAGES
    from monitor.commands.io.words import IoMistake, parse_arguments, split

    words = split(command)
    if not words:
        return
    name = SHORT.get(words[0], words[0])
    if name == "help":
        return
    if name not in USAGES:
        raise IoMistake(f'command "{words[0]}" not found')
    parse_arguments(USAGES[name], words[1:])


CHECKS: dict[str, Callable[..., None]] = {
    "drive_add": _drive_add,
    "create": _create,
    "qemu-io": _qemu_io,
}
"""By the command's name. Each raises RequestError."""
