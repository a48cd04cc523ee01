"""Slots of ``set`` and ``unset``: names of settings and variables, values of settings."""

from __future__ import annotations

from monitor.commands.registry import Argument
from monitor.commands.settings import SETTINGS
from monitor.language.cursor import Cursor
from monitor.language.slots.kinds import Slot, words_of


def of_settings(argument: Argument, cursor: Cursor, what: str) -> tuple[Slot, ...]:
    """What ``set`` takes: a name, or a value of the setting that is named."""
    if argument.verb == "variable":
        words = {name: setting.help for name, setting in SETTINGS.items()}
        return (Slot("value", what, words_of(words)), Slot("variable", what))
    setting = SETTINGS.get(cursor.arguments[0].text) if cursor.arguments else None
    if setting is None:
        return (Slot("free", what),)
    return (Slot("value", what, words_of(dict(setting.choices))),)
