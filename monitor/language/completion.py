"""What can be typed next: ``suggest(text before the cursor, catalogue) -> candidates``.

Pure: no terminal, no disk, no waiting. ``slots.places`` says what may stand at the cursor, the
catalogue (an engine) which names exist now, ``ranking`` in which order they are offered. Files are
the one thing that takes a look at a disk; a ``FileSlot`` asks whoever draws the menu to do that.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from monitor.engine.api import Name, NameList
from monitor.language.parser import Language
from monitor.language.ranking import rank
from monitor.language.scanner import PLAIN_WORD
from monitor.language.slots.kinds import Place, Slot, Word
from monitor.language.slots.places import place_at


class Catalogue(Protocol):
    """Names that exist now; an ``Engine`` is one."""

    def names(self, kind: str, verb: str = "", of: str = "") -> Iterable[Name]:
        """Of a kind ("node", "drive", "device", "job", "bitmap", "snapshot", "layer", "export",
        "object"); jobs and bitmaps that accept ``verb``, bitmaps of the node ``of``, layers below
        it, and nodes below it for the verb "below"."""


class Candidate(NamedTuple):
    """``text`` replaces what stands from ``start_position`` (<= 0) to the cursor.

    ``meta`` is a few words about it; ``kind`` is "command", "flag", "key", "value", "node",
    "drive", "device", "job", "bitmap" or "export".
    """

    text: str
    start_position: int
    meta: str
    kind: str


class FileSlot(NamedTuple):
    """A file may be named here: ``prefix`` is the path as far as typed, without any escapes.

    ``spell`` turns a whole path into what replaces the text from ``start_position`` on.
    """

    prefix: str
    start_position: int
    meta: str
    commas: bool
    quoted: bool
    kind: str = "file"

    def spell(self, path: str) -> str:
        """``path`` as it has to be typed here."""
        return spell(path, commas=self.commas, quoted=self.quoted)


MOST = 200
"""Candidates that are worth having: nobody reads on, they type on."""


def suggest(
    text_before_cursor: str, catalogue: Catalogue, language: Language | None = None
) -> list[Candidate | FileSlot]:
    """What may stand at the cursor, best first, at most ``MOST``.

    [] where nothing can be listed: in a comment, for a new name, for a number.
    """
    if "$" in text_before_cursor:
        variables = _variables(text_before_cursor, catalogue)
        if variables is not None:
            return variables
    place = place_at(text_before_cursor, language or whole_language())
    if place is None:
        return []
    start = place.start - len(text_before_cursor)
    found: list[Candidate | FileSlot] = []
    texts: list[str] = []
    slots: list[tuple[int, int, Slot, Sequence[Word | Name]]] = []  # with the place of its words
    for slot in place.slots:
        if slot.kind == "file":
            quoted = place.quoted or place.json
            found.append(FileSlot(place.text, start, slot.what, place.commas, quoted))
            continue
        words = _words(slot, catalogue)
        first = len(texts)
        texts += words.texts if isinstance(words, NameList) else [word.text for word in words]
        slots.append((first, len(texts), slot, words))
    for index in rank(place.text, texts, MOST):
        first, slot, words = next((f, s, w) for f, end, s, w in slots if index < end)
        spelled = _spelled(texts[index], slot, place)
        found.append(Candidate(spelled, start, words[index - first].meta, slot.kind))
    return found


@functools.cache
def whole_language() -> Language:
    """All that is declared."""
    return Language()


def _variables(text: str, catalogue: Catalogue) -> list[Candidate | FileSlot] | None:
    """Candidates for a ``$NAME`` that is being typed; None where none is, or none is known."""
    from monitor.language.slots.outputs import in_variable

    found = in_variable(text)
    known = list(catalogue.names("variable")) if found is not None else []
    if found is None or not known:
        return None
    typed, start, closing = found
    order = rank(typed, [name.text for name in known], MOST)
    return [
        Candidate(known[i].text + closing, start - len(text), known[i].meta, "variable")
        for i in order
    ]


_FROM_CATALOGUE = frozenset(
    (
        "node",
        "drive",
        "device",
        "job",
        "bitmap",
        "snapshot",
        "layer",
        "export",
        "object",
        "variable",
        "macro",
    )
)


def _words(slot: Slot, catalogue: Catalogue) -> Sequence[Word | Name]:
    if slot.kind not in _FROM_CATALOGUE:
        return slot.words
    names = catalogue.names(slot.kind, slot.verb, slot.of)
    if slot.exclude:
        return [name for name in names if name.text not in slot.exclude]
    return names if isinstance(names, NameList) else list(names)


def _spelled(text: str, slot: Slot, place: Place) -> str:
    if slot.kind not in _FROM_CATALOGUE:
        return text
    if place.json:
        return json.dumps(text)[1:-1] if place.quoted else json.dumps(text)
    return spell(text, commas=place.commas, quoted=place.quoted)


def spell(text: str, *, commas: bool = False, quoted: bool = False) -> str:
    """``text`` as one word: commas doubled in an option string, quoted where it has to be."""
    if commas:
        text = text.replace(",", ",,")
    if not quoted and (PLAIN_WORD.fullmatch(text) or commas):
        return text
    for plain, escaped in (("\\", r"\\"), ('"', r"\""), ("\n", r"\n"), ("\r", r"\r")):
        text = text.replace(plain, escaped)
    return text if quoted else f'"{text}"'
