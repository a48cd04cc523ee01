"""Slots inside the command for qemu-io: its commands, their flags, then offsets and lengths."""

from __future__ import annotations

from monitor.commands.io.flags import flags_of, takes_value
from monitor.commands.io.usage import SHORT, USAGES
from monitor.language.cursor import Cursor
from monitor.language.slots.kinds import Place, Slot, Word


def in_io_command(cursor: Cursor) -> Place:
    """The place at the end of an unfinished command, whose words stand between spaces."""
    *before, typed = cursor.text.split(" ")
    start = cursor.start + len(cursor.text) - len(typed)
    return Place(typed, start, _slots([w for w in before if w], typed), quoted=cursor.quoted)


def _slots(before: list[str], typed: str) -> tuple[Slot, ...]:
    if not before or before == ["help"]:
        words = [Word(name, usage.summary) for name, usage in USAGES.items()]
        if not before:
            words.append(Word("help", "what there is, or how a command is written"))
        return (Slot("command", "a command of qemu-io", tuple(words)),)
    usage = USAGES.get(SHORT.get(before[0], before[0]))
    if usage is None:
        return ()
    if len(before) > 1 and takes_value(usage, before[-1]):
        return (Slot("free", "the value of " + before[-1]),)
    flags = {f: meaning for f, meaning in flags_of(usage).items() if f not in before[1:]}
    if not flags or not (typed == "" or typed.startswith("-")):
        return (Slot("free", usage.arguments),)
    return (Slot("flag", usage.arguments, tuple(Word(f, m) for f, m in flags.items())),)
