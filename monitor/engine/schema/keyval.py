"""Option strings -> dictionaries, with the place of every key and value.

Two syntaxes, as QEMU has two. ``parse_keyval`` is the newer one (``--blockdev``): dotted keys nest
(``file.driver=null-co``), indices make lists (``children.0=a``), every name is checked.
``parse_opts`` is the older one (``-drive``, ``drive_add``): keys are taken as they come, dots and
all, and a word alone is a switch. In both, a comma in a value is written twice, and a key given
twice has its last value.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from monitor.engine.errors import RequestError, state

__all__ = [
    "HelpNotAvailable",
    "InconsistentParameters",
    "InvalidParameter",
    "MissingElement",
    "OptionSpans",
    "OptionsError",
    "ParameterTooLong",
    "ParsedOptions",
    "ValueExpected",
    "parse_keyval",
    "parse_opts",
    "short_forms",
]

_NAME = re.compile(r"(?:__[a-zA-Z0-9.-]+_)?[a-zA-Z][a-zA-Z0-9_-]*")
_INDEX = re.compile(r"[0-9]+")
_KEY_END = re.compile(r"[=,]|\Z")
_VALUE = re.compile(r"(?:[^,]|,,)*", re.DOTALL)

MAX_FRAGMENT = 127
"""Characters of one name between dots."""


class OptionSpans(NamedTuple):
    """Where an option stands in its text: (start, end) of its key and of its value.

    The key of an implied option and the value of a switch are empty: start and end are equal.
    """

    key: tuple[int, int]
    value: tuple[int, int]


class ParsedOptions(dict[str, Any]):
    """The options, and ``spans``: the full name of each (``children.0.driver``) -> its place.

    The names are those of ``ParameterError.path``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.spans: dict[str, OptionSpans] = {}


class OptionsError(RequestError):
    """The text is no list of options. ``span`` is the offending part of it."""

    span: tuple[int, int] = state(default=(0, 0), init=False)

    def at(self, start: int, end: int) -> OptionsError:
        self.span = (start, end)
        return self


class InvalidParameter(OptionsError):
    template = "Invalid parameter '{parameter}'"
    parameter: str


class ParameterTooLong(OptionsError):
    template = "Parameter{fragment} '{parameter}' is too long"
    parameter: str
    fragment: str = ""


class ValueExpected(OptionsError):
    template = "Expected '=' after parameter '{parameter}'"
    parameter: str


class InconsistentParameters(OptionsError):
    """A key is a value here and has members there, or has members and elements."""

    template = "Parameters '{parameter}.*' used inconsistently"
    parameter: str


class MissingElement(OptionsError):
    template = "Parameter '{parameter}' missing"
    parameter: str


class HelpNotAvailable(OptionsError):
    template = "Help is not available for this option"


def parse_keyval(text: str, implied_key: str | None = None) -> ParsedOptions:
    """``a=b,c.d=e`` as nested dictionaries, lists and strings.

    A first word without ``=`` is the value of ``implied_key``; no comma can be in it.
    Raises ``OptionsError``.
    """
    parser = _KeyvalParser(text)
    while parser.position < len(text):
        parser.option(implied_key)
        implied_key = None
    if parser.help is not None:
        raise HelpNotAvailable().at(*parser.help)
    for name in parser.options:
        parser.options[name] = parser.listify(parser.options[name], name)
    return parser.options


class _KeyvalParser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.options = ParsedOptions()
        self.help: tuple[int, int] | None = None

    def option(self, implied_key: str | None) -> None:
        """One ``key=value`` and the comma after it."""
        start = self.position
        end = _key_end(self.text, start)
        word = self.text[start:end]
        if word and self.text[end : end + 1] != "=":
            if word in ("help", "?"):
                self.help = (start, end)
                self.position = end + 1
                return
            if implied_key is not None:
                self.options[implied_key] = word
                self.options.spans[implied_key] = OptionSpans((start, start), (start, end))
                self.position = end + 1
                return
        fragments = self._fragments(start, end)
        if self.text[end : end + 1] != "=":
            raise ValueExpected(word).at(start, end)
        holder = self._holder(fragments, start)
        value, stop = _value(self.text, end + 1)
        if not isinstance(holder.get(fragments[-1], ""), str):
            raise InconsistentParameters(word).at(start, end)
        holder[fragments[-1]] = value
        name = ".".join(str(int(f)) if f.isdecimal() else f for f in fragments)
        self.options.spans[name] = OptionSpans((start, end), (end + 1, stop))
        self.position = stop + 1

    def _fragments(self, start: int, end: int) -> list[str]:
        """The names and indices between the dots of a key."""
        fragments: list[str] = []
        at = start
        while True:
            match = (fragments and _INDEX.match(self.text, at, end)) or _NAME.match(
                self.text, at, end
            )
            if not match or (match.end() < end and self.text[match.end()] != "."):
                raise InvalidParameter(self.text[start:end]).at(start, end)
            if len(match[0]) > MAX_FRAGMENT:
                whole = not fragments and match.end() == end
                raise ParameterTooLong(match[0], "" if whole else " fragment").at(*match.span())
            fragments.append(match[0])
            if match.end() == end:
                return fragments
            at = match.end() + 1

    def _holder(self, fragments: list[str], start: int) -> dict[str, Any]:
        """The dictionary that the last fragment belongs in; made on the way."""
        holder: dict[str, Any] = self.options
        end = start - 1
        for fragment in fragments[:-1]:
            end += 1 + len(fragment)
            below = holder.setdefault(fragment, {})
            if isinstance(below, str):
                raise InconsistentParameters(self.text[start:end]).at(start, end)
            holder = below
        return holder

    def listify(self, value: Any, name: str) -> Any:
        """``value`` with each dictionary of indices made a list."""
        if isinstance(value, str):
            return value
        for key in value:
            value[key] = self.listify(value[key], f"{name}.{key}")
        indices = {int(key): item for key, item in value.items() if key.isdecimal()}
        if not indices:
            return value
        if not all(key.isdecimal() for key in value):
            raise InconsistentParameters(name).at(*self._span_below(name))
        missing = next((i for i in range(len(indices)) if i not in indices), None)
        if missing is not None:
            raise MissingElement(f"{name}.{missing}").at(*self._span_below(name))
        return [indices[i] for i in range(len(indices))]

    def _span_below(self, name: str) -> tuple[int, int]:
        """The first key that begins with ``name``."""
        keys = (span.key for key, span in self.options.spans.items() if key.startswith(f"{name}."))
        return next(keys, (0, len(self.text)))


def parse_opts(text: str, implied_key: str | None = None) -> ParsedOptions:
    """``a=b,file.driver=c,flag,noother`` as a flat dictionary of strings.

    A word alone is a switch: ``flag`` is ``on``; ``noflag`` is ``flag`` with ``off``. A first word
    without ``=`` is the value of ``implied_key``. Nothing is refused: names are the caller's.
    """
    options = ParsedOptions()
    position = 0
    while position < len(text):
        end = _key_end(text, position)
        if text[end : end + 1] == "=":
            name = text[position:end]
            value, stop = _value(text, end + 1)
            spans = OptionSpans((position, end), (end + 1, stop))
        elif implied_key is not None:
            name = implied_key
            value, stop = _value(text, position)
            spans = OptionSpans((position, position), (position, stop))
        else:
            word, stop = text[position:end], end
            off = word.startswith("no")
            name, value = (word[2:], "off") if off else (word, "on")
            spans = OptionSpans((position, end), (end, end))
        options[name] = value
        options.spans[name] = spans
        implied_key = None
        position = stop + 1
    return options


def short_forms(text: str) -> list[str]:
    """The words alone in what ``parse_opts`` takes, each time that they stand there."""
    words = []
    position = 0
    while position < len(text):
        end = _key_end(text, position)
        if text[end : end + 1] == "=":
            _, end = _value(text, end + 1)
        else:
            words.append(text[position:end])
        position = end + 1
    return words


def _key_end(text: str, start: int) -> int:
    match = _KEY_END.search(text, start)
    return match.start() if match else len(text)


def _value(text: str, start: int) -> tuple[str, int]:
    """The value that begins at ``start``, its commas single again, and where it ends."""
    match = _VALUE.match(text, start)
    assert match is not None  # it matches the empty string
    return match[0].replace(",,", ","), match.end()
