"""The second pass for human commands: tokens -> typed arguments, as the declaration directs.

The rules are HMP's: a pattern's arguments in order, flags where the pattern has them. Three
things go beyond it and take nothing away: neighbouring flags may be typed in any order or joined
(``-nv``), options in words (``--timeout 5``) stand anywhere, sizes may be written ``64KiB``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from monitor import sizes
from monitor.commands.registry import Argument, Command
from monitor.engine.schema.scalars import parse_int64
from monitor.language.syntax import Kind, Mistake, Span, Statement, Token, one_of
from monitor.nearest import nearest, suggestion

EXPECTED = {
    "B": "a drive or a node",
    "X": "an export",
    "N": "a node",
    "D": "a drive",
    "J": "a job",
    "F": "a file name",
    "s": "a word, or text in quotes",
    "S": "text",
    "i": "a whole number",
    "o": sizes.EXPECTED,
    "z": sizes.EXPECTED,
    "b": "on or off",
    "T": "a time in seconds, such as 5, 0.5 or 20ms",
    "O": "options, such as if=none,id=d0,file=a.img",
    "K": "FIELD=VALUE",
}
"""What stands at an argument of each kind, for errors and for help."""

_HMP_MISSING = {
    **dict.fromkeys("BNDJ", "{name}: block device name expected"),
    **dict.fromkeys("sSO", "{name}: string expected"),
    "F": "{name}: filename expected",
    "o": "invalid size",
    "z": "invalid size",
    "i": "unexpected end of expression",
    "b": "Expected 'on' or 'off'",
    "T": "{name}: string expected",
    "X": "{name}: string expected",
    "e": "{name}: string expected",
}


def expected(argument: Argument) -> str:
    """In words, what ``argument`` takes."""
    if argument.kind == "e":
        return one_of(argument.choices)
    if argument.kind == "s" and argument.verb == "file":
        return EXPECTED["F"]
    return " or ".join((EXPECTED[argument.kind], *argument.choices))


class Bound:
    """Typed arguments by name, and the place of each."""

    __slots__ = ("spans", "values")

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.spans: dict[str, Span] = {}


def split_option(token: Token) -> tuple[str, str | None]:
    """``--word=value`` taken apart; ("", None) for what cannot be an option."""
    if token.kind is not Kind.WORD:
        return "", None
    if not token.text.startswith("--"):
        return token.text, None
    word, equals, value = token.text.partition("=")
    return word, value if equals else None


def bind(command: Command, statement: Statement, text: str) -> Bound:
    """The arguments of ``command`` from those of ``statement``. Raises ``Mistake``."""
    return _Binder(command, statement, text).bind()


class _Binder:
    def __init__(self, command: Command, statement: Statement, text: str) -> None:
        self.command = command
        self.statement = statement
        self.text = text
        words = command.name.count(" ")  # ``info block``: the second word names the command too
        self.tokens = statement.arguments[words:]
        self.at = 0
        self.bound = Bound()

    def bind(self) -> Bound:
        bound, arguments = self.bound, self.command.arguments
        for argument in arguments:
            bound.values[argument.name] = _absent(argument)
        options = {a.option: a for a in arguments if a.option}
        if options:
            self._take_options(options)
        flags: dict[str, Argument] = {}
        for index, argument in enumerate(arguments):
            if argument.option:
                continue
            if argument.flag is None:
                self._take(argument)
                continue
            flags[argument.kind[1:]] = argument
            if index + 1 == len(arguments) or arguments[index + 1].flag is None:
                self._take_flags(flags)
                flags = {}
        if self.at < len(self.tokens):
            raise self._extraneous(self.tokens[self.at])
        return bound

    # Flags and options

    def _take_flags(self, flags: dict[str, Argument]) -> None:
        while self.at < len(self.tokens):
            token = self.tokens[self.at]
            if token.kind is not Kind.WORD or token.text[0] != "-":
                return
            for offset, letter in enumerate(token.text[1:] or " ", 1):
                span = (token.start, token.end) if len(token.text) < 3 else (
                    token.start + offset, token.start + offset + 1
                )  # fmt: skip
                argument = flags.get(letter)
                if argument is None:
                    raise self._unknown_flag(token, span, letter, flags)
                if argument.name in self.bound.spans:
                    raise self._repeated_flag(span, letter, flags)
                self.bound.values[argument.name] = True
                self.bound.spans[argument.name] = span
            self.at += 1

    def _repeated_flag(self, span: Span, letter: str, flags: dict[str, Argument]) -> Mistake:
        """HMP looks for each flag once, in its order: what comes again is none of those that may
        come yet, or it is taken for the first word."""
        *_, last = flags
        hmp = "extraneous characters at the end of line"
        if letter != last:
            hmp = f"unsupported option -{letter}"
        return self._mistake(span, f"-{letter} is given twice", hmp=f"{{name}}: {hmp}")

    def _unknown_flag(
        self, token: Token, span: Span, letter: str, flags: dict[str, Argument]
    ) -> Mistake:
        hint = suggestion(f"-{letter}", [f"-{known}" for known in flags])
        typed = f"-{letter.strip()}"
        if letter == "-":  # a flag in words, where it has one letter
            names = {argument.name: f"-{known}" for known, argument in flags.items()}
            meant = nearest(token.text[2:], names) or token.text[2:]
            span, typed = token.span, token.text
            hint = f"did you mean '{names[meant]}'?" if meant in names else None
        return self._mistake(
            span,
            f"unsupported option {typed}",
            expected=one_of([f"-{known}" for known in flags]),
            hint=hint,
            hmp=f"{{name}}: unsupported option -{letter}",
        )

    def _take_options(self, options: dict[str, Argument]) -> None:
        left: list[Token] = []
        tokens = iter(self.tokens)
        for token in tokens:
            word, glued = split_option(token)
            argument = options.get(word)
            if argument is None and not self._looks_like_option(word, options):
                left.append(token)
                continue
            span = (token.start, token.start + len(word))
            if argument is None:
                raise self._mistake(
                    span,
                    f"unknown option {word}",
                    expected=one_of(list(options)),
                    hint=suggestion(word, options),
                )
            if argument.name in self.bound.spans:
                raise self._mistake(span, f"{word} is given twice")
            self._set_option(argument, token, tokens, glued)
        self.tokens = left

    def _looks_like_option(self, word: str, options: dict[str, Argument]) -> bool:
        if len(word) < 2 or word[0] != "-":
            return False
        if word.startswith("--"):
            return True
        flags = {a.kind[1:] for a in self.command.arguments if a.flag}
        return not set(word[1:]) & flags and any(option[:2] != "--" for option in options)

    def _set_option(self, argument: Argument, token: Token, rest: Any, glued: str | None) -> None:
        if argument.kind == "--":
            if glued is not None:
                raise self._mistake(token.span, f"{argument.option} takes no value")
            self.bound.values[argument.name] = True
            self.bound.spans[argument.name] = token.span
            return
        value = next(rest, None) if glued is None else Token(
            Kind.WORD, glued, token.end - len(glued), token.end
        )  # fmt: skip
        if value is None:
            raise self._mistake(
                (token.end, token.end + 1),
                f"{argument.option} needs a value",
                expected=expected(argument),
            )
        self._set(argument, value)

    # Positional arguments

    def _take(self, argument: Argument) -> None:
        if argument.kind == "S":
            self._take_rest(argument)
        elif argument.kind == "K":
            self._take_keywords(argument)
        elif argument.many:
            self._take_many(argument)
        elif self.at < len(self.tokens):
            self._set(argument, self.tokens[self.at])
            self.at += 1
        elif not argument.optional and not self._asks():
            raise self._missing(argument)

    def _asks(self) -> bool:
        return self.command.asks is not None and self.command.asks(self.bound.values)

    def _set(self, argument: Argument, token: Token) -> None:
        self.bound.values[argument.name] = self._typed(argument, token)
        self.bound.spans[argument.name] = token.span

    def _typed(self, argument: Argument, token: Token) -> Any:
        return _READERS[argument.kind](self, argument, token)

    def _take_many(self, argument: Argument) -> None:
        tokens = self.tokens[self.at :]
        self.at = len(self.tokens)
        self.bound.values[argument.name] = [self._typed(argument, token) for token in tokens]
        for index, token in enumerate(tokens):
            self.bound.spans[f"{argument.name}.{index}"] = token.span
        if tokens:
            self.bound.spans[argument.name] = (tokens[0].start, tokens[-1].end)

    def _take_rest(self, argument: Argument) -> None:
        if self.at == len(self.tokens):
            if not argument.optional:
                raise self._missing(argument)
            return
        span = (self.tokens[self.at].start, self.statement.end)
        self.at = len(self.tokens)
        self.bound.values[argument.name] = self.text[slice(*span)]
        self.bound.spans[argument.name] = span

    def _take_keywords(self, argument: Argument) -> None:
        from monitor.language.fields import collect

        tree = collect(self.tokens[self.at :])
        self.at = len(self.tokens)
        self.bound.values[argument.name] = tree.values()
        self.bound.spans.update(tree.spans(argument.name))

    # Mistakes

    def _missing(self, argument: Argument) -> Mistake:
        end = self.statement.end
        return self._mistake(
            (end, end + 1),
            f"{argument.name} is missing",
            expected=expected(argument),
            hmp=_HMP_MISSING.get(argument.kind, ""),
        )

    def _extraneous(self, token: Token) -> Mistake:
        hint = None
        flags = {a.kind[1:] for a in self.command.arguments if a.flag}
        if token.kind is Kind.WORD and token.text[:1] == "-" and set(token.text[1:]) & flags:
            hint = f"flags go before the other arguments: {self.command.name} {self.command.params}"
        return self._mistake(
            (token.start, token.end),
            f"'{token.whole}' is too much",
            expected="the end of the command",
            hint=hint,
            hmp="{name}: extraneous characters at the end of line",
        )

    def wrong(
        self,
        token: Token,
        argument: Argument,
        message: str,
        *,
        hmp: str = "",
        hint: str | None = None,
        span: Span | None = None,
    ) -> Mistake:
        """``message`` about ``token``, with what ``argument`` takes."""
        place = span or (token.start, token.end)
        return self._mistake(place, message, expected=expected(argument), hint=hint, hmp=hmp)

    def _mistake(
        self,
        span: Span,
        message: str,
        *,
        expected: str = "",
        hint: str | None = None,
        hmp: str = "",
    ) -> Mistake:
        if hmp:
            # HMP's own table has "quit|q"; "help" is advised with the word that was typed.
            command = self.command
            name = "|".join((command.name.split(" ")[-1], *command.aliases))
            typed = command.name if " " in command.name else self.statement.name.text
            hmp = f'{hmp.format(name=name)}\nTry "help {typed}" for more information'
        return Mistake(span, message, expected=expected, hint=hint, hmp_text=hmp)


def _absent(argument: Argument) -> Any:
    if argument.flag or argument.kind == "--":
        return False
    if argument.kind == "K":
        return {}
    return [] if argument.many else None


# Values of each kind


def _read_text(_binder: _Binder, _argument: Argument, token: Token) -> str:
    return token.whole


def _read_name(binder: _Binder, argument: Argument, token: Token) -> str:
    if token.kind is Kind.JSON or not token.text:
        raise binder.wrong(token, argument, f"'{token.whole}' is no name")
    return token.whole


def _read_size(binder: _Binder, argument: Argument, token: Token) -> int:
    unit = "M" if argument.kind == "o" else "B"
    text = token.whole
    size = sizes.read_size(text, unit) if token.kind is Kind.WORD else None
    if size is not None:
        return size
    extraneous = "{name}: extraneous characters at the end of line"
    at = sizes.bad_unit(text)
    if at is not None and token.kind is Kind.WORD:
        raise binder.wrong(
            token,
            argument,
            f"unknown unit '{text[at:]}'",
            hint="units are b, k, M, G, T, P and E",
            hmp=extraneous,
            span=(token.start + at, token.end),
        )
    raise binder.wrong(token, argument, f"invalid size '{text}'", hmp="invalid size")


def _read_integer(binder: _Binder, argument: Argument, token: Token) -> int:
    text = token.whole
    number = parse_int64(text) if token.kind is Kind.WORD else None
    if number is not None:
        return number
    bad = next((c for c in text if c not in "0123456789+-*/%&|^~() \t"), "")
    hmp = f"invalid char '{bad}' in expression" if bad else "unexpected end of expression"
    hmp = hmp.replace("{", "{{").replace("}", "}}")
    raise binder.wrong(token, argument, f"'{text}' is no whole number", hmp=hmp)


_SECONDS = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(s|ms|us|ns)?", re.ASCII)
_PARTS = {None: 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


def _read_seconds(binder: _Binder, argument: Argument, token: Token) -> float:
    match = _SECONDS.fullmatch(token.whole)
    if match is None or token.kind is not Kind.WORD or len(match[1]) > 30:
        raise binder.wrong(token, argument, f"'{token.whole}' is no time")
    return float(match[1]) * _PARTS[match[2]]


def _read_switch(binder: _Binder, argument: Argument, token: Token) -> bool:
    if token.whole in ("on", "off"):
        return token.whole == "on"
    raise binder.wrong(
        token,
        argument,
        f"'{token.whole}' is neither on nor off",
        hmp="Expected 'on' or 'off'",
    )


def _read_choice(binder: _Binder, argument: Argument, token: Token) -> str:
    word = token.whole
    if word in argument.choices:
        return word
    raise binder.wrong(
        token,
        argument,
        f"unknown {argument.name} '{word}'",
        hint=suggestion(word, argument.choices),
    )


_READERS: dict[str, Callable[[_Binder, Argument, Token], Any]] = {
    **dict.fromkeys("BNDJX", _read_name),
    **dict.fromkeys("FsO", _read_text),
    **dict.fromkeys("oz", _read_size),
    "i": _read_integer,
    "T": _read_seconds,
    "b": _read_switch,
    "e": _read_choice,
}
