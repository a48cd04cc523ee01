"""Where a drive sits on its bus: ``if``, ``index``, ``bus`` and ``unit`` of ``-drive``.

A machine's buses look for their drives there. There is no machine here, so all that a place does is
to be free or taken; QEMU checks the same of drives without a device.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, NamedTuple

from monitor.engine.errors import RequestError
from monitor.engine.schema.drive import INTERFACES
from monitor.engine.schema.mistakes import NumberExpected
from monitor.engine.schema.scalars import parse_uint64

UNITS: Final = {"ide": 2, "scsi": 7}
"""How many drives a bus of that kind holds; the others have no limit."""


class UnsupportedBus(RequestError):
    template = "unsupported bus type '{value}'"
    value: str


class IndexAndUnit(RequestError):
    template = "index cannot be used with bus and unit"


class UnitTooBig(RequestError):
    template = "unit {unit} too big (max is {maximum})"
    unit: int
    maximum: int


class PlaceTaken(RequestError):
    template = "drive with bus={bus}, unit={unit} (index={index}) exists"
    bus: int
    unit: int
    index: int


class Place(NamedTuple):
    interface: str
    bus: int
    unit: int


def take_place(flat: dict[str, Any], taken: Collection[Place]) -> Place:
    """Takes the options out of ``flat``. Without a unit it is the first that is free."""
    interface = flat.pop("if", "none")
    numbers = {option: _number(flat, option) for option in ("index", "bus", "unit")}
    flat.pop("addr", None)
    if interface not in INTERFACES:
        raise UnsupportedBus(interface)
    index, bus, unit = numbers["index"], numbers["bus"] or 0, numbers["unit"]
    limit = UNITS.get(interface)
    if index is not None:
        if bus or unit is not None:
            raise IndexAndUnit()
        bus, unit = divmod(index, limit) if limit else (0, index)
    if unit is None:
        bus, unit = _first_free(interface, bus, limit, taken)
    if limit and unit >= limit:
        raise UnitTooBig(unit, limit - 1)
    place = Place(interface, bus, unit)
    if place in taken:
        raise PlaceTaken(bus, unit, -1 if index is None else index)
    return place


def _number(flat: dict[str, Any], option: str) -> int | None:
    text = flat.pop(option, None)
    if text is None:
        return None
    value = parse_uint64(text)
    if value is None:
        raise NumberExpected(option)
    return value


def _first_free(
    interface: str, bus: int, limit: int | None, taken: Collection[Place]
) -> tuple[int, int]:
    unit = 0
    while Place(interface, bus, unit) in taken:
        unit += 1
        if limit and unit >= limit:
            bus, unit = bus + 1, 0
    return bus, unit
