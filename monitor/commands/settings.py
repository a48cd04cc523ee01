"""``set``: variables for the lines that follow, and settings of the session."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from typing import Protocol

import msgspec

from monitor.commands.forms import FORMATS
from monitor.commands.registry import Answer, Session, command
from monitor.engine.errors import RequestError
from monitor.nearest import suggestion


class Setting(msgspec.Struct, frozen=True):
    """``choices`` are its values and what each means; ``other`` says in words what else it takes,
    "" for nothing."""

    help: str
    default: str
    choices: Mapping[str, str]
    other: str = ""


_SWITCH = {"on": "", "off": ""}

SETTINGS: dict[str, Setting] = {
    "on-error": Setting(
        "what a command that fails does to its script, or to the rest of its line",
        "stop",
        {"stop": "it ends", "continue": "the next command runs; the first failure is the status"},
    ),
    "events": Setting(
        "which events are told at the prompt",
        "on",
        {"on": "all that matter", "off": "none"},
        "names of events, such as JOB_*,BLOCK_IO_ERROR",
    ),
    "format": Setting("the form of output, where --output= does not say", "text", FORMATS),
    "timing": Setting(
        "after each command, the time that the engine took and that the text took",
        "off",
        _SWITCH,
    ),
    "pager": Setting(
        "whether output that is taller than the screen goes through $PAGER",
        "auto",
        {"auto": "only on a terminal, and only what does not fit", "off": "never"},
    ),
    "confirm": Setting(
        "whether commands that lose data ask first, and are refused where nobody can be asked",
        "on",
        _SWITCH,
    ),
    "vi": Setting("vi's keys in place of emacs'", "off", _SWITCH),
    "enter": Setting(
        "what Enter does while a candidate of the menu is chosen",
        "take",
        {"take": "takes it; the next Enter runs the line", "run": "runs the line with it"},
    ),
    "tab": Setting(
        "what Tab does",
        "menu",
        {"menu": "goes through the candidates", "common": "types what all of them begin with"},
    ),
    "right": Setting(
        "what → does at the end of the line",
        "suggestion",
        {"suggestion": "takes the grey suggestion", "word": "takes its next word"},
    ),
}
"""Names that are the session's own: no variable is called so."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_FILTER = re.compile(r"[A-Za-z0-9_*?,\[\]!-]+", re.ASCII)


class NoSuchSetting(RequestError):
    """No name of a variable (letters, digits and _), and no setting."""

    template = "unknown setting '{value}'"
    value: str
    choices = tuple(SETTINGS)


class BadSetting(RequestError):
    template = "'{name}' cannot be '{value}': expected {expected}"
    name: str
    value: str
    expected: str
    choices: tuple[str, ...] = ()


class NotSet(RequestError):
    template = "undefined variable '{value}'"
    value: str
    choices: tuple[str, ...] = ()


class Settings:
    """The settings of a session. ``changed`` is called with a name after each change."""

    def __init__(self, **values: str) -> None:
        self._values = {name: setting.default for name, setting in SETTINGS.items()}
        self._values |= {name.replace("_", "-"): value for name, value in values.items()}
        self.listeners: list[SettingListener] = []

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __setitem__(self, name: str, value: str) -> None:
        self._values[name] = value
        for listener in self.listeners:
            listener.setting_changed(name)

    def is_on(self, name: str) -> bool:
        return self._values[name] == "on"

    @property
    def keeps_going(self) -> bool:
        return self._values["on-error"] == "continue"

    def tells(self, event: str) -> bool:
        """Whether an event of that name is told."""
        wanted = self._values["events"]
        if wanted in ("on", "off"):
            return wanted == "on"
        return any(fnmatch.fnmatchcase(event, pattern) for pattern in wanted.split(","))


class SettingListener(Protocol):
    """Someone who acts when a setting changes."""

    def setting_changed(self, name: str) -> None: ...


def check_set(name: str | None, value: str | None) -> None:
    """Raises NoSuchSetting or BadSetting."""
    if name is None:
        return
    setting = SETTINGS.get(name)
    if setting is None:
        if not _NAME.fullmatch(name):
            raise NoSuchSetting(name)
        return
    if value is None or value in setting.choices:
        return
    if setting.other and _FILTER.fullmatch(value):
        return
    words = [*setting.choices, *([setting.other] if setting.other else [])]
    error = BadSetting(name, value, f"one of: {', '.join(words)}", tuple(setting.choices))
    error.hint = suggestion(value, setting.choices)
    raise error


@command(
    "set",
    "name:s/variable?,value:s/value?",
    help="set a variable or a setting, or list them",
    params="[name [value]]",
    hmp=False,
    details="$NAME and ${NAME} stand for a variable's value in the lines that follow, in quotes\n"
    "too; $$ is a dollar. A value with blanks is quoted, and stays one word. Without a value\n"
    "one is shown, without a name all are. Settings:\n"
    + "\n".join(
        f"  {name:9} {'|'.join(setting.choices)}{'|…' if setting.other else ''}: {setting.help}"
        for name, setting in SETTINGS.items()
    ),
    example='set size 64M\nset image "my disk.qcow2"\nset on-error continue\nset',
    check=check_set,
)
async def set_(session: Session, name: str | None, value: str | None) -> Answer | None:
    check_set(name, value)
    if name is None:
        return _listing(session)
    if value is None:
        return _one(session, name)
    (session.settings if name in SETTINGS else session.variables)[name] = value
    return None


def _one(session: Session, name: str) -> Answer:
    if name in SETTINGS:
        value = session.settings[name]
    elif name in session.variables:
        value = session.variables[name]
    else:
        known = (*session.variables, *SETTINGS)
        error = NotSet(name, known)
        error.hint = suggestion(name, known)
        raise error
    return Answer({"name": name, "value": value}, lambda: value)


def _listing(session: Session) -> Answer:
    rows = [
        {"name": name, "value": session.settings[name], "kind": "setting", "help": setting.help}
        for name, setting in SETTINGS.items()
    ]
    rows += [
        {"name": name, "value": value, "kind": "variable", "help": ""}
        for name, value in sorted(session.variables.items())
    ]
    return Answer(rows, lambda: "\n".join(map(_line, rows)), prose=True)


def _line(row: dict[str, str]) -> str:
    text = f"{row['name']} = {row['value']}"
    return f"{text:30}  # {row['help']}" if row["help"] else text


@command(
    "unset",
    "name:s/variable",
    help="forget a variable",
    hmp=False,
    details="A setting goes back to what it is at a start.",
    example="set size 64M\nunset size",
)
async def unset(session: Session, name: str) -> None:
    if name in SETTINGS:
        session.settings[name] = SETTINGS[name].default
        return
    if session.variables.pop(name, None) is None:
        error = NotSet(name, tuple(session.variables))
        error.hint = suggestion(name, session.variables)
        raise error
