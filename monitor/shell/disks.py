"""What a command line opens before anything runs, spelled as QEMU and qemu-storage-daemon spell it:
``--drive``, ``--blockdev``, ``--object``, ``--nbd-server``, ``--export``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monitor.engine.api import Engine
from monitor.engine.errors import MonitorError, RequestError
from monitor.engine.schema.base import Request


class DiskRefused(MonitorError):
    """A disk cannot be had; the text is QEMU's, behind the program's name."""

    template = "{option} {value}: {reason}"
    option: str
    value: str
    reason: str


class BadJSON(RequestError):
    template = "{reason}"
    reason: str


async def add_disks(engine: Engine, disks: Sequence[tuple[str, str]]) -> None:
    """Opens what (option, value) pairs name, in order. Raises DiskRefused at the first failure."""
    for option, value in disks:
        try:
            await engine.execute(_request(option.lstrip("-"), value))
        except MonitorError as error:
            refused = DiskRefused(option, value, error.text)
            refused.hint = await _hint(error, engine)
            raise refused from error


async def _hint(error: MonitorError, engine: Engine) -> str | None:
    """What is said below a command's error too: the nearest name, who holds the lock."""
    from monitor.language.hints import hint_for, missing_file
    from monitor.shell.files import nearest_file

    path = missing_file(error)
    return hint_for(error, engine) if path is None else await nearest_file(path)


async def setup_lines(engine: Engine, disks: Sequence[tuple[str, str]]) -> list[str]:
    """The same disks, which are open, as lines of a transcript's head, with their images."""
    from monitor.shell.imagelines import image_lines

    lines = [f"{option.lstrip('-')} {value}" for option, value in disks]
    return [*await image_lines(engine), *lines] if lines else []


def _request(option: str, value: str) -> Request:
    """Raises RequestError."""
    if option == "drive":
        from monitor.engine.schema.extra import DriveAdd

        return DriveAdd(options=value)
    if option == "nbd-server":
        from monitor.engine.schema.export import NbdServerOptions, nbd_server_start

        return nbd_server_start(_options(NbdServerOptions, value, None))
    if option == "object":
        from monitor.engine.schema.objects import ObjectAdd

        made: Request = _options(ObjectAdd, value, "qom-type")
        return made
    if option == "export":
        from monitor.engine.schema.export import BlockExportAdd

        export: Request = _options(BlockExportAdd, value, "type")
        return export
    from monitor.engine.schema.graph import BlockdevAdd

    node: Request = _options(BlockdevAdd, value, "driver")
    return node


def _options(kind: Any, value: str, implied_key: str | None) -> Any:
    """``key=value,…`` or JSON as a struct."""
    from monitor.engine.schema.decode import decode
    from monitor.engine.schema.keyval import parse_keyval

    if value.startswith("{"):
        return decode(kind, _json(value))
    return decode(kind, parse_keyval(value, implied_key), keyval=True)


def _json(text: str) -> object:
    from monitor.wire.qmpjson import JSONParseError
    from monitor.wire.qmpstream import one_value

    try:
        return one_value(text)
    except JSONParseError as error:
        raise BadJSON(str(error)) from error
