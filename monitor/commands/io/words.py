"""qemu-io's little language: words between blanks, flags as getopt takes them, sizes, patterns.

Every mistake is an ``IoMistake`` with the text that qemu-io prints.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from monitor.commands.errors import Verbatim
from monitor.engine.schema.scalars import INT64_MAX, parse_size

MAX_REQUEST = 2147483136
"""The longest request of QEMU's block layer, bytes: BDRV_REQUEST_MAX_BYTES."""

_SIZE = re.compile(r"[0-9]+(\.[0-9]*(?=[kmgtpe])|(?!\.))[bkmgtpe]?|0x[0-9a-f]+[bkmgtpe]?", re.I)


class IoMistake(Verbatim):
    """The command for qemu-io makes no sense; nothing was done."""


@dataclass(frozen=True)
class Usage:
    """What qemu-io says of one of its commands; ``options`` are getopt's letters."""

    name: str
    arguments: str
    summary: str
    options: str = ""
    least: int = 0
    most: int | None = None  # None: any number

    @property
    def line(self) -> str:
        return f"{self.name} {self.arguments} -- {self.summary}"

    def check_count(self, words: Sequence[str]) -> None:
        """Refuses a number of words (options are counted too) that can not be right."""
        count = len(words)
        if count >= self.least and (self.most is None or count <= self.most):
            return
        if self.most is None:
            expected = f"at least {self.least} arguments"
        elif self.least == self.most:
            expected = f"{self.least} arguments"
        else:
            expected = f"between {self.least} and {self.most} arguments"
        raise IoMistake(f"bad argument count {count} to {self.name}, expected {expected}")


@dataclass
class Arguments:
    """The words of one command, taken apart. ``flags`` are the letters given."""

    usage: Usage
    flags: set[str] = field(default_factory=set)
    pattern: int | None = None
    start: int = 0  # of the part that the pattern is compared with
    length: int | None = None
    words: list[str] = field(default_factory=list)  # in the places after the options

    def misused(self) -> IoMistake:
        return IoMistake(self.usage.line)


def split(text: str) -> list[str]:
    """Words; qemu-io knows no quotes, and no blank but the space."""
    return [word for word in text.split(" ") if word]


def parse_arguments(usage: Usage, words: Sequence[str]) -> Arguments:
    """Takes the words behind a command's name apart. The first mistake is raised, as qemu-io
    meets it: option by option."""
    usage.check_count(words)
    arguments = Arguments(usage)
    values: dict[str, Callable[[str], None]] = {
        "P": lambda value: setattr(arguments, "pattern", parse_pattern(value)),
        "l": lambda value: setattr(arguments, "length", parse_number(value)),
        "s": lambda value: setattr(arguments, "start", parse_number(value)),
    }
    if usage.name == "write":
        del values["s"]  # the name of a file there
    for letter, value in _options(usage, words, arguments.words):
        arguments.flags.add(letter)
        if letter in values:
            values[letter](value)
    return arguments


def _options(usage: Usage, words: Sequence[str], rest: list[str]) -> Iterator[tuple[str, str]]:
    """getopt: letter and value of each option; other words, wherever they stand, go to ``rest``."""
    queue = list(words)
    while queue:
        word = queue.pop(0)
        if word == "--":
            rest += queue
            return
        if len(word) < 2 or word[0] != "-":
            rest.append(word)
            continue
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            place = usage.options.find(letter) if letter != ":" else -1
            if place < 0:
                raise IoMistake(f"{usage.name}: invalid option -- '{letter}'\n{usage.line}")
            value = ""
            if usage.options[place + 1 : place + 2] == ":":
                if not letters and not queue:
                    raise IoMistake(
                        f"{usage.name}: option requires an argument -- '{letter}'\n{usage.line}"
                    )
                value, letters = letters or queue.pop(0), ""
            yield letter, value


def parse_number(text: str) -> int:
    """An offset or a length: bytes, or with a unit."""
    value = parse_size(text)
    if value is not None and value <= INT64_MAX:
        return value
    if value is None and not _SIZE.fullmatch(text):
        raise IoMistake(
            "Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- " + text
        )
    raise IoMistake(f"Parsing error: argument too large -- {text}")


def parse_pattern(text: str) -> int:
    """A byte in C's notation: 97, 0x61, 0141."""
    match = re.fullmatch(r"\s*[+-]?(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)", text)
    if match is not None:
        digits = match[1]
        octal = len(digits) > 1 and digits[0] == "0" and digits[1] not in "xX"
        value = int(digits, 8 if octal else 0)
        if value <= 255 and ("-" not in text or value == 0):
            return value
    raise IoMistake(f"{text} is not a valid pattern byte")
