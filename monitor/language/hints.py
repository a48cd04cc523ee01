"""What a person is told beside a failed command's error: did you mean, and the place in the line.

An error that says what does not exist gets the nearest name of its kind, and a caret under the
word that named it. It goes by the error's text, which an attached engine's errors have too. All of
it is for people: nothing here reaches QMP or ``human-monitor-command``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Protocol

from monitor.engine.api import Name, texts_of
from monitor.engine.errors import MonitorError
from monitor.engine.schema.mistakes import UnacceptedValue, UnexpectedParameter
from monitor.language.parser import Invocation
from monitor.language.syntax import ParseError
from monitor.nearest import suggestion


class Names(Protocol):
    """Where the names are that exist; an ``Engine`` is one."""

    def names(self, kind: str, verb: str = "", of: str = "") -> Iterable[Name]:
        """Of a kind: "node", "drive", "device", "job", "export", "object", "bitmap" (of the
        node ``of``)."""


def missing_file(error: MonitorError) -> str | None:
    """The file that does not exist, where that is what ``error`` says and no hint is there yet: it
    takes a look at a disk to find the nearest."""
    unknown = _unknown(error)
    return unknown[1] if unknown is not None and unknown[0] == "file" and not error.hint else None


def missing_device(error: MonitorError) -> str | None:
    """The drive or node that does not exist, where no hint is there yet: a file may be meant."""
    unknown = _unknown(error)
    if unknown is None or unknown[0] not in ("device", "node") or error.hint:
        return None
    return unknown[1]


def explain(error: MonitorError, invocation: Invocation, engine: Names) -> None:
    """Gives ``error``, which ``invocation`` has met, the hint and the mark that help a person."""
    if isinstance(error, ParseError):
        return
    unknown = _unknown(error)
    error.hint = (
        hint_for(error, engine) or _request_meant(unknown, invocation) or _full(error, invocation)
    )
    if error.failed_action is not None:
        _explain_action(error, error.failed_action, unknown, invocation)
    elif unknown is not None:
        error.mark = _place(unknown, invocation, error)


def _explain_action(
    error: MonitorError, number: int, unknown: _Unknown | None, invocation: Invocation
) -> None:
    """Which of a transaction's actions failed: the caret goes under the name in it that is not
    known, or under all of it."""
    place = f"actions.{number}"
    if place not in invocation.spans:  # JSON, or a request that is a transaction of its own
        actions: list[Any] = getattr(invocation.request, "actions", [])
        if number < len(actions):
            kind = actions[number].__struct_config__.tag
            where = f"in action {number + 1}, {kind}: all is undone"
            error.hint = f"{where}\n{error.hint}" if error.hint else where
        elif unknown is not None:
            error.mark = _place(unknown, invocation, error)
        return
    start, end = invocation.spans[place]
    for argument, (low, high) in invocation.spans.items():
        typed = invocation.text[low:high].rpartition("=")[2].strip('"')
        if argument.startswith(place + ".") and unknown is not None and typed == unknown[1]:
            place = argument
    error.mark = invocation.error_at(place, error.text)
    action = invocation.text[start:end].split(maxsplit=1)[0]
    line = invocation.error_at(f"actions.{number}", "").line
    where = f"in action {number + 1}, {action} (line {line}): all is undone"
    error.hint = f"{where}\n{error.hint}" if error.hint else where


def _request_meant(unknown: _Unknown | None, invocation: Invocation) -> str | None:
    """``block_stream device=d0``: the human command has a request beside it, which has fields."""
    from monitor.language.completion import whole_language
    from monitor.language.fields import arguments_type, members

    key, equals, _ = (unknown or ("", ""))[1].partition("=")
    name = invocation.name.replace("_", "-")
    request = whole_language().requests.get(name) if equals and invocation.command else None
    fits = request is not None and key in members(arguments_type(request))
    return f"did you mean '{name}'?" if fits else None


_ALL_OF_IT = dict.fromkeys(("drive_backup", "drive_mirror"), "-f") | dict.fromkeys(
    ("drive-backup", "drive-mirror"), "sync=full"
)
"""What has a job copy the backing images too."""


def _full(error: MonitorError, invocation: Invocation) -> str | None:
    """A copy has a backing file unless told, which most formats cannot name."""
    word = _ALL_OF_IT.get(str(invocation.name))
    needs_none = error.text.startswith("Backing file not supported for file format")
    return f"{word} copies all, into an image without one" if word and needs_none else None


def hint_for(error: MonitorError, engine: Names) -> str | None:
    """The error's own hint, or the nearest name to the one that it does not know."""
    unknown = _unknown(error)
    if error.hint is not None or unknown is None:
        return error.hint
    known = list(_known(error, unknown[0], engine))
    near = suggestion(unknown[1], known)
    return _those_there_are(known) if near is None and unknown[0] == "job" else near


_A_FEW = 5


def _those_there_are(jobs: list[str]) -> str:
    """Of jobs there are few, and their names are often as short as unlike."""
    if not jobs:
        return "there are no jobs now"
    if len(jobs) > _A_FEW:
        return "info jobs shows those that there are"
    names = ", ".join(f"'{job}'" for job in jobs)
    return f"there is job {names}" if len(jobs) == 1 else f"there are jobs {names}"


_UNKNOWN = (
    (re.compile(r"Failed to find node with node-name='(?P<name>[^']+)'"), "node"),
    (re.compile(r"Cannot find node '?(?P<name>[^' ]+)'?"), "node"),
    (re.compile(r"Cannot find device='(?P<name>[^']+)' nor node-name="), "device"),
    (re.compile(r"Cannot find device='' nor node-name='(?P<name>[^']+)'"), "node"),
    (re.compile(r"Device '(?P<name>[^']+)' not found"), "device"),
    (re.compile(r"Node '(?P<name>[^']+)' not found"), "node"),
    (re.compile(r"Dirty bitmap '(?P<name>[^']+)' not found"), "bitmap"),
    (re.compile(r"Bitmap '(?P<name>[^']+)' could not be found"), "bitmap"),
    (re.compile(r"Block job '(?P<name>[^']+)' not found"), "job"),
    (
        re.compile(r"Snapshot (?:with id '[^']*' and name )?'(?P<name>[^']+)' does not exist"),
        "snapshot",
    ),
    (re.compile(r"Could not open '(?P<name>[^']+)': No such file or directory"), "file"),
    (re.compile(r"Can't find '(?P<name>[^']+)' in the backing chain"), "layer"),
    (re.compile(r"Top image file (?P<name>.+) not found"), "layer"),
    (re.compile(r"Export '(?P<name>[^']+)' is not found"), "export"),
    (re.compile(r"object '(?P<name>[^']+)' not found"), "object"),
    (re.compile(r"No (?:secret|TLS credentials) with id '(?P<name>[^']+)'"), "object"),
    (re.compile(r"Unknown (?:driver|file format) '(?P<name>[^']+)'"), "format"),
    (re.compile(r"unknown command: '(?P<name>[^']+)'"), "command"),
    (re.compile(r'command "?(?P<name>[^" ]+)"? not found'), "qemu-io"),
    (re.compile(r"Block \w+ '\S+' does(?:n't| not) support the option '(?P<name>[^']+)'"), "key"),
    (re.compile(r"Invalid parameter '(?P<name>[^']+)'"), "create"),
)
"""What an engine says of a name that it does not know, and the kind of thing that was named."""

_DRIVES = re.compile(r"[Ii]nvalid (cache|discard) option|'[^']*' invalid media")
"""What is said of a drive's options that choose among words, without the word."""

_Unknown = tuple[str, str]  # the kind, and the name


def _unknown(error: MonitorError) -> _Unknown | None:
    """What the error does not know; None where it is about something else."""
    mistake = _mistake(error)
    if isinstance(mistake, UnacceptedValue):
        return "value", mistake.value
    if isinstance(mistake, UnexpectedParameter):
        return "key", mistake.path
    if getattr(error, "choices", ()):
        return "value", str(getattr(error, "value", ""))
    for pattern, kind in _UNKNOWN:
        match = pattern.match(error.text)
        if match is not None:
            return kind, match["name"]
    option = _DRIVES.match(error.text)
    if option is not None and isinstance(value := getattr(mistake, "value", None), str):
        return f"drive {option[1] or 'media'}", value
    job = getattr(error, "job", None)
    if isinstance(job, str) and error.text.endswith("not found"):
        return "job", job
    return None


def _mistake(error: MonitorError) -> BaseException:
    """The error, or the one that it repeats in other words: drive_add's of an option string."""
    cause = error.__cause__
    return cause if isinstance(cause, MonitorError) and cause.text == error.text else error


def _known(error: MonitorError, kind: str, engine: Names) -> Iterable[str]:
    """The names of a kind, or what else could have stood there."""
    mistake = _mistake(error)
    match kind:
        case "node" | "device" | "job" | "bitmap" | "export" | "object" | "snapshot":
            return texts_of(engine.names(kind))
        case "value":
            return getattr(mistake, "choices", ())
        case "key":
            return mistake.known if isinstance(mistake, UnexpectedParameter) else image_keys()
        case "file" | "layer":
            return ()
        case "drive cache" | "drive discard" | "drive media":
            from monitor.engine.schema.drive import choices

            return choices(kind.removeprefix("drive "))
        case "command":
            from monitor.commands.topics import TOPICS
            from monitor.language.completion import whole_language

            return [*whole_language().human, *whole_language().requests, *TOPICS]
        case "qemu-io":
            from monitor.commands.io.usage import USAGES

            return [*USAGES, "help"]
        case "create":
            from monitor.engine.schema.imageopts import image_options

            return image_options("qcow2")
        case _:
            from monitor.language.fields import image_formats

            return image_formats()


def image_keys() -> set[str]:
    """Everything that an option string of a drive may hold, by its last name."""
    from monitor.engine.schema.blockdev import AnyBlockdevOptions
    from monitor.engine.schema.drive import DriveOptions
    from monitor.language.fields import members, structs_of

    structs = (DriveOptions, *structs_of(AnyBlockdevOptions))
    return {name.rpartition(".")[2] for struct in structs for name in members(struct)}


def _place(unknown: _Unknown, invocation: Invocation, error: MonitorError) -> ParseError | None:
    """``error`` under the argument that is the name, else under the name inside of one."""
    kind, name = unknown
    text = invocation.text
    for argument, (start, end) in invocation.spans.items():
        if text[start:end].strip('"') == name:
            return invocation.error_at(argument, error.text)
    if kind in ("key", "create"):
        name = name.rpartition(".")[2]
        match = re.search(rf"(?<![\w-]){re.escape(name)}(?==)", text)
    else:
        match = re.search(rf"""(?<![^\s,="]){re.escape(name)}(?![^\s,"])""", text)
    if match is None:
        return None
    start = match.start() + invocation.offset
    return invocation.origin.error((start, start + len(name)), error.text)
