"""``-drive`` and ``drive_add`` option strings -> what a drive is to be.

The legacy keys (``if``, ``index``, ``media``, ``cache`` …) are taken out here; everything else is
the image's business and stays as loose options (graph/loose.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, get_args

from monitor.engine.drive_limits import take_limits
from monitor.engine.drive_place import UNITS, Place, take_place
from monitor.engine.drive_statistics import Statistics, take_intervals, take_statistics
from monitor.engine.errors import RequestError
from monitor.engine.names import NotAnIdentifier, well_formed
from monitor.engine.schema.blockdev import AioOptions, DetectZeroes
from monitor.engine.schema.decode import WrongParameterValue
from monitor.engine.schema.drive import (
    CACHE_MODES,
    LIMIT_ALIASES,
    WITH_ERROR_ACTIONS,
    choices,
)
from monitor.engine.schema.keyval import parse_opts, short_forms
from monitor.engine.schema.mistakes import InvalidOptionValue
from monitor.engine.schema.olderwords import InvalidDiscardOption
from monitor.engine.schema.optionstrings import nest
from monitor.engine.schema.scalars import parse_bool
from monitor.engine.throttle import Limits


class InvalidCacheOption(RequestError):
    template = "invalid cache option"
    value: str


class InvalidAioOption(RequestError):
    template = "invalid aio option"
    value: str


class InvalidMedia(RequestError):
    template = "'{value}' invalid media"
    value: str


class NodeNameNeeded(RequestError):
    template = "'node-name' needs to be specified"


class DriverAndFormat(RequestError):
    template = "Cannot specify both 'driver' and 'format'"


class AliasConflict(RequestError):
    template = "'{name}' and its alias '{alias}' can't be used at the same time"
    name: str
    alias: str


class DuplicateDrive(RequestError):
    template = "Duplicate ID '{id}' for drive"
    id: str


class IdTaken(RequestError):
    template = "Device with id '{id}' already exists"
    id: str


class NoErrorActions(RequestError):
    template = "{option} is not supported by this bus type"
    option: str


class InvalidErrorAction(RequestError):
    template = "'{value}' invalid {direction} error action"
    value: str
    direction: str


@dataclass
class DriveSpec:
    """A drive to be made. ``loose`` empty and no ``filename``: an empty drive."""

    id: str
    place: Place
    filename: str | None = None
    read_only: bool = False
    media: str = "disk"
    detect_zeroes: DetectZeroes = "off"
    copy_on_read: bool = False
    snapshot: bool = False
    """Whether what is written goes to an overlay that nobody keeps."""
    statistics: Statistics = field(default_factory=Statistics)
    limits: Limits | None = None
    group: str | None = None
    """Whose members have their limits together; None for a group of its own."""
    writeback: bool = True  # False: every write is on disk when it ends
    loose: dict[str, Any] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        return not self.filename and not self.loose


def _switch(flat: dict[str, Any], option: str, default: bool = False) -> bool:
    """Takes out an on/off option."""
    value = parse_bool(flat.pop(option, "on" if default else "off"))
    if value is None:
        raise WrongParameterValue(option, "'on' or 'off'")
    return value


Tell = Callable[[str], None]
"""Hears a warning."""


def parse_drive(
    text: str,
    taken: Collection[str],
    places: Collection[Place] = (),
    tell: Tell = lambda text: None,
) -> DriveSpec:
    """One option string. ``taken`` are the ids in use, ``places`` the places on buses.
    Raises RequestError in QEMU's words."""
    flat = dict(parse_opts(text))
    identifier = flat.pop("id", None)
    if identifier is not None and not well_formed(identifier):
        raise NotAnIdentifier(identifier)
    if identifier in taken:
        raise DuplicateDrive(identifier)
    _warn_of_short_forms(text, tell)
    _aliases(flat)
    _cache(flat)
    media = _media(flat)
    place = take_place(flat, places)
    if identifier is None:
        identifier = _id_by_place(place, media)
        if identifier in taken:
            raise IdTaken(identifier)
    spec = DriveSpec(identifier, place, media=media)
    spec.read_only = _switch(flat, "read-only") or media == "cdrom"
    spec.copy_on_read = _switch(flat, "copy-on-read")
    if spec.read_only and spec.copy_on_read:
        spec.copy_on_read = False
        tell("warning: disabling copy-on-read on read-only drive")
    spec.filename = flat.pop("file", None)
    actions = _take_actions(flat, spec.place.interface)
    spec.snapshot = _switch(flat, "snapshot")
    spec.statistics = take_statistics(flat, _switch)
    limits, spec.group = take_limits(flat)
    spec.statistics.given = take_intervals(flat)
    _check_aio(flat)
    limits.check()
    spec.limits = limits if limits.any else None
    _detect_zeroes(spec, flat)
    _driver(flat)
    _check_actions(actions)
    _image_options(spec, flat)
    return spec


def parse_node(text: str, tell: Tell) -> dict[str, Any]:
    """The option string of a node (``drive_add -n``), as a tree. Raises RequestError."""
    _warn_of_short_forms(text, tell)
    flat = dict(parse_opts(text))
    if "node-name" not in flat:
        raise NodeNameNeeded
    defaults = {"cache.direct": "off", "cache.no-flush": "off", "read-only": "off"}
    return nest(defaults | flat)


def _aliases(flat: dict[str, Any]) -> None:
    for alias, name in (LIMIT_ALIASES | {"readonly": "read-only"}).items():
        if alias in flat:
            if name in flat:
                raise AliasConflict(name, alias)
            flat[name] = flat.pop(alias)


def _id_by_place(place: Place, media: str) -> str:
    """The id of a drive that was given none."""
    what = {"cdrom": "-cd"}.get(media, "-hd") if place.interface in ("ide", "scsi") else ""
    bus = place.bus if place.interface in UNITS else ""
    return f"{place.interface}{bus}{what}{place.unit}"


def _warn_of_short_forms(text: str, tell: Tell) -> None:
    for word in short_forms(text):
        if word in ("help", "?"):
            continue
        meant = f"{word[2:]}=off" if word.startswith("no") else f"{word}=on"
        tell(f"warning: short-form boolean option '{word}' deprecated\nPlease use {meant} instead")


def _media(flat: dict[str, Any]) -> str:
    media = str(flat.pop("media", "disk"))
    if media not in choices("media"):
        raise InvalidMedia(media)
    return media


def _take_actions(flat: dict[str, Any], interface: str) -> dict[str, str | None]:
    given = {option: flat.pop(option, None) for option in ("werror", "rerror")}
    for option, value in given.items():
        if value is not None and interface not in WITH_ERROR_ACTIONS:
            raise NoErrorActions(option)
    return given


def _check_actions(given: dict[str, str | None]) -> None:
    for option, direction in (("werror", "write"), ("rerror", "read")):
        value = given[option]
        if value is not None and value not in choices(option):
            raise InvalidErrorAction(value, direction)


def _driver(flat: dict[str, Any]) -> None:
    if "format" in flat:
        if "driver" in flat:
            raise DriverAndFormat()
        flat["driver"] = flat.pop("format")


def _cache(flat: dict[str, Any]) -> None:
    """A mode's name stands for three switches, of which one that is given itself wins."""
    cache = flat.pop("cache", None)
    if cache is not None:
        if cache not in CACHE_MODES:
            raise InvalidCacheOption(cache)
        direct, no_flush, writeback = CACHE_MODES[cache]
        flat.setdefault("cache.direct", "on" if direct else "off")
        flat.setdefault("cache.no-flush", "on" if no_flush else "off")
        flat.setdefault("cache.writeback", "on" if writeback else "off")


def _image_options(spec: DriveSpec, flat: dict[str, Any]) -> None:
    """discard= and the rest, as a tree; QEMU's defaults for drives filled in."""
    flat.setdefault("cache.writeback", "on")
    spec.writeback = _switch(flat, "cache.writeback")
    discard = flat.pop("discard", None)
    if discard is not None:
        if discard not in choices("discard"):
            raise InvalidDiscardOption(discard)
        flat["discard"] = "unmap" if discard in ("unmap", "on") else "ignore"
    _aio(flat)
    tree = nest(flat)
    if not spec.filename and not tree:
        return
    tree["read-only"] = "on" if spec.read_only or spec.snapshot else "off"
    tree.setdefault("auto-read-only", "on")
    spec.loose = tree


def _detect_zeroes(spec: DriveSpec, flat: dict[str, Any]) -> None:
    """Set once the image is open, without its look at ``discard``: as QEMU has it, a drive with
    ``unmap`` and no ``discard=unmap`` writes zeroes and unmaps nothing."""
    value = flat.pop("detect-zeroes", None)
    if value is None:
        return
    if value not in get_args(DetectZeroes):
        raise InvalidOptionValue(value)
    spec.detect_zeroes = value


def _check_aio(flat: dict[str, Any]) -> None:
    value = flat.get("aio")
    if value is not None and value not in get_args(AioOptions):
        raise InvalidAioOption(value)


def _aio(flat: dict[str, Any]) -> None:
    """``aio`` is the file's business, wherever the image's options have it."""
    if "aio" in flat and flat.get("driver") != "file":
        flat.setdefault("file.aio", flat.pop("aio"))
