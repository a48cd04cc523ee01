"""block_set_io_throttle, and the limits that drives are made with."""

from __future__ import annotations

from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import DeviceNotFound, RequestError
from monitor.engine.graph.drive import Drive
from monitor.engine.handlers import handles
from monitor.engine.schema.base import given
from monitor.engine.schema.throttle import BlockSetIoThrottle
from monitor.engine.throttle import NAMES, Limit, Limits


class OneOfTwo(RequestError):
    template = "Need exactly one of 'device' and 'id'"


class NoMedium(RequestError):
    template = "Device has no medium"


@handles(BlockSetIoThrottle)
async def block_set_io_throttle(engine: EmbeddedEngine, request: BlockSetIoThrottle) -> None:
    graph = engine.graph
    async with graph.turn:
        drive = _drive(engine, request)
        if drive.node is None:
            raise NoMedium
        limits = _limits(request)
        limits.check()
        set_limits(engine, drive, limits, given(request.group))


def _drive(engine: EmbeddedEngine, request: BlockSetIoThrottle) -> Drive:
    device, qdev = given(request.device), given(request.id)
    if (device is None) == (qdev is None):
        raise OneOfTwo
    drive = engine.graph.drives.get(device) if device is not None else None
    if drive is None:
        raise DeviceNotFound(device or qdev or "")
    return drive


def _limits(request: BlockSetIoThrottle) -> Limits:
    def number(name: str, default: int) -> int:
        value: int = given(getattr(request, name), default)
        return value

    return Limits(
        {
            name: Limit(number(name, 0), number(f"{name}_max", 0), number(f"{name}_max_length", 1))
            for name in NAMES
        },
        number("iops_size", 0),
    )


def set_limits(
    engine: EmbeddedEngine, drive: Drive, limits: Limits, group: str | None = None
) -> None:
    """Of the drive's whole group. A drive without limits belongs to none; one that is in a group
    stays there unless ``group`` names another."""
    throttles = engine.throttles
    old = drive.throttle
    if not limits.any:
        leave(engine, drive)
        return
    if old is None or (group is not None and group != old.name):
        drive.throttle = throttles.join(group if group is not None else drive.name, drive)
        if old is not None:
            throttles.leave(old, drive)
    assert drive.throttle is not None
    drive.throttle.configure(limits)


def leave(engine: EmbeddedEngine, drive: Drive) -> None:
    """The drive has no limits from now on."""
    if drive.throttle is not None:
        engine.throttles.leave(drive.throttle, drive)
        drive.throttle = None
