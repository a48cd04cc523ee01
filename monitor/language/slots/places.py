"""What may stand where the cursor is: the second pass (``arguments``, ``fields``), left unfinished.

A ``Place`` has the text to be completed and the slots it may fill; a slot says what kind of thing
goes there, not which of them exist. Every place of the language is one of the kinds below; "free"
is a slot in which anything may be typed, such as a new name or a number.
"""

from __future__ import annotations

from monitor.commands.registry import Argument, Command
from monitor.language.arguments import EXPECTED, expected, split_option
from monitor.language.cursor import Cursor, locate
from monitor.language.parser import Language
from monitor.language.slots.kinds import Place, Slot, choice_words, summary, words_of
from monitor.language.slots.outputs import OUTPUT_SLOT, in_output
from monitor.language.slots.requests import in_request
from monitor.language.syntax import Kind, Mistake, Statement, Token


def place_at(text: str, language: Language) -> Place | None:
    """What may stand at the end of ``text``; None where nothing can be said (in a comment)."""
    cursor = locate(text)
    if cursor is None:
        return None
    if cursor.name is None:
        slot = actions_slot(language) if cursor.group else commands_slot(language)
        return Place(cursor.text, cursor.start, (slot,))
    if (cursor.arguments or cursor.text.startswith("--")) and not cursor.json:
        behind = in_output(cursor)
        if behind is not None:
            return behind
    if cursor.name.text in language.prefixes and not cursor.arguments:
        return Place(cursor.text, cursor.start, (_below(language, cursor.name.text),))
    statement = Statement("", cursor.name, cursor.arguments, cursor.name.start, cursor.start)
    human = language.human.get(cursor.name.text)
    request = language.requests.get(cursor.name.text)
    if human is not None and request is not None and not cursor.arguments and not cursor.json:
        key, equals, _ = cursor.text.partition("=")
        if equals and not cursor.quoted and key.replace("-", "").isalnum():
            return in_request(request, cursor)
        of_human, of_request = _in_command(human, cursor, language), in_request(request, cursor)
        return Place(cursor.text, cursor.start, of_human.slots + of_request.slots)
    try:
        what = language.find(statement)
    except Mistake:
        return None
    if isinstance(what, Command):
        return _in_command(what, cursor, language)
    return in_request(what, cursor)


def commands_slot(language: Language) -> Slot:
    """Everything that a line may begin with; of ``info block`` the first word."""
    words: dict[str, str] = {}
    for name, command in language.human.items():
        first, blank, _ = name.partition(" ")
        if not blank or first not in language.human:
            words.setdefault(first, command.help.split("\n")[0])
    for name, request in language.requests.items():
        words.setdefault(name, summary(request))
    return Slot("command", "a command", words_of(dict(sorted(words.items()))))


def actions_slot(language: Language) -> Slot:
    """What may stand in ``transaction(``."""
    from monitor.engine.schema.transaction import ACTIONS

    words = {
        name: summary(language.requests.get(name) or action)
        for name, action in sorted(ACTIONS.items())
    }
    return Slot("command", "an action of the transaction", words_of(words))


CREATED = ("qcow2", "raw")
"""What ``create`` makes."""


def _below(language: Language, prefix: str) -> Slot:
    words = {
        second: language.human[f"{prefix} {second}"].help.split("\n")[0]
        for second in language.below(prefix)
    }
    return Slot("command", f"what to show with {prefix}", words_of(words))


# Human commands


def _in_command(command: Command, cursor: Cursor, language: Language) -> Place:
    arguments = cursor.arguments[command.name.count(" ") :]
    options = {a.option: a for a in command.arguments if a.option}
    given: set[str] = set()
    rest: list[Token] = []
    pending: Argument | None = None
    for token in arguments:
        if pending is not None:
            pending = None
            continue
        word, glued = split_option(token)
        option = options.get(word)
        if option is None:
            rest.append(token)
            continue
        given.add(option.name)
        pending = option if option.kind != "--" and glued is None else None
    if pending is not None:
        return _value_of(command, pending, cursor, language, ())
    key, equals, _ = cursor.text.partition("=")
    if equals and key in options and key.startswith("--") and not cursor.quoted:
        value = Cursor(
            cursor.name, cursor.arguments, cursor.text[len(key) + 1 :], cursor.start + len(key) + 1
        )
        return _value_of(command, options[key], value, language, ())
    flags, positional = _next(command, rest)
    slots: list[Slot] = []
    words = {f: help_of(command, a) for f, a in flags.items()}
    words |= {o: help_of(command, a) for o, a in options.items() if a.name not in given}
    if words and not cursor.quoted:
        slots.append(Slot("flag", "an option", words_of(words)))
    if cursor.text.startswith("--"):
        slots.append(OUTPUT_SLOT)
    if positional is None or (cursor.text.startswith("-") and slots):
        return Place(cursor.text, cursor.start, tuple(slots))
    taken = tuple(token.whole for token in rest) if positional.many else ()
    place = _value_of(command, positional, cursor, language, taken)
    return Place(
        place.text, place.start, place.slots + tuple(slots), place.commas, place.quoted
    )  # fmt: skip


def _next(command: Command, tokens: list[Token]) -> tuple[dict[str, Argument], Argument | None]:
    """The flags and the positional argument that may follow ``tokens``."""
    arguments = [a for a in command.arguments if not a.option]
    at = 0
    flags: dict[str, Argument] = {}
    for index, argument in enumerate(arguments):
        if argument.flag is not None:
            flags[argument.kind] = argument
            following = arguments[index + 1] if index + 1 < len(arguments) else None
            if following is not None and following.flag is not None:
                continue
            while at < len(tokens) and tokens[at].kind is Kind.WORD and tokens[at].text[0] == "-":
                for letter in tokens[at].text[1:]:
                    flags.pop(f"-{letter}", None)
                at += 1
            if at == len(tokens):
                return flags, following
            flags = {}
        elif argument.many or argument.kind in ("S", "K") or at == len(tokens):
            return {}, argument
        else:
            at += 1
    return {}, None


def help_of(command: Command, argument: Argument) -> str:
    """A few words on an argument."""
    told = command.arguments_help.get(argument.name)
    return told if told is not None else argument.name.replace("_", " ")


_NAMED = {"B": "device", "N": "node", "D": "drive", "J": "job", "F": "file", "X": "export"}


def _value_of(
    command: Command, argument: Argument, cursor: Cursor, language: Language, taken: tuple[str, ...]
) -> Place:
    kind = argument.kind
    if kind == "O":
        from monitor.language.slots.optionstrings import in_option_string

        return in_option_string(cursor, creating=argument.verb == "create")
    if argument.verb == "qemu-io":
        from monitor.language.slots.qemuio import in_io_command

        return in_io_command(cursor)
    what = f"{help_of(command, argument)}: {expected(argument)}"
    if argument.verb == "command":
        slots: tuple[Slot, ...] = _commands_by_name(language, cursor)
    elif argument.verb in ("variable", "value"):
        from monitor.language.slots.settings import of_settings

        slots = of_settings(argument, cursor, what)
    elif argument.verb == "macro":
        slots = (Slot("macro", what),)
    elif argument.verb == "format":
        slots = (Slot("value", what, choice_words("format", CREATED)),)
    elif argument.verb == "layer":
        device = next((token.text for token in cursor.arguments if token.text[:1] != "-"), "")
        slots = (Slot("layer", what, of=device),)
    elif kind in _NAMED or argument.verb in ("file", "snapshot"):
        named = _NAMED.get(kind, argument.verb)
        slots = (Slot(named, what, verb=argument.verb, exclude=frozenset(taken)),)
        if argument.choices:
            slots += (Slot("value", what, choice_words(argument.name, argument.choices)),)
    elif kind == "b":
        slots = (Slot("value", what, choice_words(argument.name, ("on", "off"))),)
    elif kind == "e":
        slots = (Slot("value", what, choice_words(argument.name, argument.choices)),)
    else:
        slots = (Slot("free", what),)
    return Place(cursor.text, cursor.start, slots, quoted=cursor.quoted)


def _commands_by_name(language: Language, cursor: Cursor) -> tuple[Slot, ...]:
    """What ``help`` takes: a command, or its two words."""
    before = [token.text for token in cursor.arguments]
    if not before:
        from monitor.commands.topics import TOPICS

        topics = words_of({name: title for name, (title, _) in TOPICS.items()})
        return (commands_slot(language), Slot("value", "a topic", topics))
    if len(before) == 1 and before[0] in language.prefixes:
        return (_below(language, before[0]),)
    return (Slot("free", EXPECTED["S"]),)
