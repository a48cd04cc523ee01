"""What the options of qemu-io's commands mean, in a few words."""

from __future__ import annotations

from monitor.commands.io.words import Usage

_READ = {
    "C": "report for programs",
    "P": "compare what is read with this byte",
    "b": "from the image's state area",
    "i": "invalid request, for accounting",
    "l": "length of the part that is compared",
    "p": "ignored, as in qemu-io",
    "q": "no report",
    "s": "start of the part that is compared",
    "v": "show the bytes read",
}
_WRITE = {
    "C": "report for programs",
    "P": "write this byte (default 0xcd)",
    "b": "to the image's state area",
    "c": "write compressed",
    "f": "the write is on disk when it ends",
    "i": "invalid request, for accounting",
    "n": "zero only if that is fast (with -z)",
    "p": "ignored, as in qemu-io",
    "q": "no report",
    "s": "write what this file holds",
    "u": "may unmap (with -z)",
    "z": "write zeroes",
}


def flags_of(usage: Usage) -> dict[str, str]:
    """The flags of a command (``-P``) and what they do."""
    meanings = _READ if "read" in usage.name else _WRITE
    return {f"-{letter}": meanings[letter] for letter in usage.options if letter != ":"}


def takes_value(usage: Usage, flag: str) -> bool:
    """Whether the flag is followed by a value."""
    place = usage.options.find(flag[1:])
    return place >= 0 and usage.options[place + 1 : place + 2] == ":"
