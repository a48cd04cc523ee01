"""Options that leave things open, as ``-drive`` and backing links do: the driver may be missing.

Loose options are a tree of option strings (``{"driver": "qcow2", "file": {"locking": "off"}}``).
They are settled from the bottom up: the file is opened, its first bytes say the format where none
is given, and then the format's struct is decoded with its file already open. ``blockdev-add`` never
comes here.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

from monitor.engine.drivers import registry
from monitor.engine.drivers.base import DriverKind, OpenFlags
from monitor.engine.errors import Refused, RequestError
from monitor.engine.graph.flags import flags_of, for_file
from monitor.engine.graph.node import Node
from monitor.engine.schema import blockdev
from monitor.engine.schema.decode import UnexpectedParameter, check_nesting
from monitor.engine.schema.mistakes import UnsupportedOption, UnsupportedProtocolOption
from monitor.engine.schema.optionstrings import decode_node_options

if TYPE_CHECKING:
    from monitor.engine.graph.opening import Opening

RAW_WARNING = (
    "WARNING: Image format was not specified for '{filename}' and probing guessed raw.\n"
    "         Automatically detecting the format is dangerous for raw images, write operations on "
    "block 0 will be restricted.\n"
    "         Specify the 'raw' format explicitly to remove the restrictions."
)


async def open_loose(
    opening: Opening,
    loose: dict[str, Any],
    filename: str | None,
    *,
    inherit: OpenFlags | None,
    follow_backing: bool,
) -> Node:
    """Settles and opens ``loose``; ``filename`` is the image's name where one was given apart.

    Raises RequestError in QEMU's words for unknown drivers and options.
    """
    check_nesting(loose)
    tree = dict(loose)
    driver = tree.pop("driver", None)
    if driver is not None and "file" not in _roles(driver):
        if filename is not None:
            tree |= _named(filename, driver, tree)
        return await opening.open(_settle(driver, tree), inherit=inherit)
    if driver is None and filename is None and "file" not in tree:
        raise Refused("Must specify either driver or file")
    file = await _open_file(opening, tree, filename, inherit)
    probed = driver is None
    if driver is None:
        driver = await opening.probe(file)
    if "file" in _roles(driver):
        tree["file"] = file.name
    backing = _take_backing(driver, tree)
    options = _settle(driver, tree)
    node = await opening.open(
        options,
        inherit=inherit,
        given={"file": file},
        follow_backing=follow_backing and backing is None,
    )
    if probed:
        _mark_probed(opening, node)
    if backing is not None:
        await opening.open_loose_backing(node, backing)
    return node


def _take_backing(driver: str, tree: dict[str, Any]) -> dict[str, Any] | None:
    """The backing image's own options, which may be as loose as its overlay's."""
    backing = tree.get("backing")
    if not isinstance(backing, dict) or not registry.driver_class(driver).supports_backing:
        return None
    del tree["backing"]
    return backing


async def _open_file(
    opening: Opening, tree: dict[str, Any], filename: str | None, inherit: OpenFlags | None
) -> Node:
    below = tree.pop("file", None)
    if isinstance(below, str) and filename is None:
        return opening.graph.find(below)
    own = dict(below) if isinstance(below, dict) else {}
    driver = own.pop("driver", None)
    if filename is None and isinstance(own.get("filename"), str) and driver is None:
        driver = await _host_driver(opening, own["filename"])  # an option's value has no protocol
    implied = driver is None
    if filename is not None:
        own |= _named(filename, driver, own)
        driver = driver or own["driver"]
        if driver == "file" and own.get("filename") == filename and implied:
            driver = await _host_driver(opening, filename)
    if driver is None:
        raise Refused('A block device must be specified for "file"')
    own.pop("driver", None)
    flags = for_file(flags_of(_settle_general(tree), inherit))
    if "file" in _roles(driver):
        loose = own | {"driver": driver}
        return await open_loose(opening, loose, None, inherit=flags, follow_backing=True)
    return await opening.open(_settle(driver, own), inherit=flags)


async def _host_driver(opening: Opening, filename: str) -> str:
    """A plain name may be a block device's: ``host_device`` takes it then, as in QEMU. A character
    device is left to who names that driver: opening one may act (a tape rewinds)."""

    def look() -> str:
        try:
            mode = os.stat(filename).st_mode
        except (OSError, ValueError):
            return "file"  # which says what is wrong
        return "host_device" if stat.S_ISBLK(mode) else "file"

    return await opening.graph.in_worker(look)


def _named(filename: str, driver: str | None, options: dict[str, Any]) -> dict[str, Any]:
    """The options that a file name stands for; an explicit protocol driver reads it as it is.
    Raises FileNamedTwice where ``options`` have a name already."""
    if "filename" in options:
        raise FileNamedTwice()
    if driver in ("file", "host_device"):
        return {"filename": filename.removeprefix(f"{driver}:")}
    if driver == "blkdebug" and not filename.startswith("blkdebug:"):
        return {"image": registry.protocol_options(filename)}
    named: dict[str, Any] = registry.protocol_options(filename)
    return named


def _roles(driver: str) -> tuple[str, ...]:
    return registry.driver_class(driver).child_roles


_STRUCTS: dict[str, type[blockdev.BlockdevOptions]] = {
    str(struct.__struct_config__.tag): struct
    for struct in (
        blockdev.BlockdevOptionsBlkdebug,
        blockdev.BlockdevOptionsCopyBeforeWrite,
        blockdev.BlockdevOptionsCopyOnRead,
        blockdev.BlockdevOptionsFile,
        blockdev.BlockdevOptionsHostDevice,
        blockdev.BlockdevOptionsNbd,
        blockdev.BlockdevOptionsNullAio,
        blockdev.BlockdevOptionsNullCo,
        blockdev.BlockdevOptionsQcow2,
        blockdev.BlockdevOptionsRaw,
    )
}

_GENERAL = (
    "discard",
    "cache",
    "read-only",
    "auto-read-only",
    "force-share",
    "detect-zeroes",
)


def _settle_general(tree: dict[str, Any]) -> blockdev.BlockdevOptions:
    """The members every driver has, to know what the file inherits before the format is known."""
    general = {key: tree[key] for key in _GENERAL if key in tree}
    if not isinstance(general.get("cache"), dict):
        general.pop("cache", None)  # for the format to refuse
    any_driver = blockdev.BlockdevOptionsNullCo
    settled: blockdev.BlockdevOptions = decode_node_options(
        any_driver, {"driver": "null-co", **general}
    )
    return settled


def _settle(driver: str, tree: dict[str, Any]) -> Any:
    """The driver's own struct; unknown options are refused as QEMU's block layer does."""
    kind = registry.driver_class(driver).kind
    if driver in ("file", "host_device"):
        tree = {"filename": "", **tree}  # the driver has a sentence for none
    try:
        return decode_node_options(_STRUCTS[driver], {"driver": driver, **tree})
    except UnexpectedParameter as error:
        refusal = UnsupportedProtocolOption if kind is DriverKind.PROTOCOL else UnsupportedOption
        raise refusal(driver, _first_option(tree, error.path)) from error


def _first_option(tree: dict[str, Any], path: str) -> str:
    """The option of a flat list that ``path``, which may have members, comes from."""
    below: Any = tree.get(path)
    while isinstance(below, dict) and below:
        name = next(iter(below))
        path, below = f"{path}.{name}", below[name]
    return path


class FileNamedTwice(RequestError):
    template = "Can't specify 'file' and 'filename' options at the same time"


def _mark_probed(opening: Opening, node: Node) -> None:
    node.driver.probed = True
    if node.driver.name != "raw":
        return
    node.wire()  # a guessed raw guards its first sector: no request goes past it
    if not node.read_only:
        text = RAW_WARNING.format(filename=node.filename)
        opening.graph.emit("X_BLKMON_NOTE", {"text": text})


__all__ = ["FileNamedTwice", "open_loose"]
