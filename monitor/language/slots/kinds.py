"""What a place takes: kinds of things, and the words among which it chooses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from monitor.engine.schema.meanings import meaning


@dataclass(frozen=True, slots=True)
class Word:
    """A word of the language that may stand somewhere, and what it means."""

    text: str
    meta: str = ""


@dataclass(frozen=True, slots=True)
class Slot:
    """``kind`` is "node", "drive", "device", "job" or "bitmap" (that accepts ``verb``; of the node
    ``of``), "layer" (below ``of``), "snapshot", "export", "object", "variable", "macro", "file" or
    "free"; with the ``words`` that may stand there it is "command", "flag", "key" or "value"."""

    kind: str
    what: str
    words: tuple[Word, ...] = ()
    verb: str = ""
    exclude: frozenset[str] = frozenset()
    of: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """The unfinished ``text``, which begins at offset ``start``, and what it may become.

    ``commas`` says that it lies in an option string, where a comma is typed twice; ``quoted`` that
    it lies in a quoted string, ``json`` that a name is quoted as JSON quotes it.
    """

    text: str
    start: int
    slots: tuple[Slot, ...]
    commas: bool = False
    quoted: bool = False
    json: bool = False


def summary(documented: type) -> str:
    """The first line of a docstring."""
    return (documented.__doc__ or "").strip().split("\n")[0]


def choice_words(field: str, choices: Iterable[str]) -> tuple[Word, ...]:
    """The values of an enumeration, each with what it means."""
    return tuple(Word(choice, meaning(field, choice)) for choice in choices)


def words_of(words: dict[str, str]) -> tuple[Word, ...]:
    return tuple(Word(text, meta) for text, meta in words.items())
