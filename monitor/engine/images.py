"""Creating image files, for snapshots, ``create`` and blockdev-create alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from monitor.engine import permissions
from monitor.engine.drivers.registry import driver_class, protocol_options
from monitor.engine.errors import RequestError, host_failure
from monitor.engine.graph.client import Client
from monitor.engine.graph.graph import Graph
from monitor.engine.graph.opening import Opening
from monitor.engine.schema.blockdev import BlockdevOptionsFile


@dataclass(eq=False)
class UnknownFormat(RequestError):
    template = "Unknown file format '{format}'"
    format: str


@dataclass(eq=False)
class NoCreation(RequestError):
    template = "Format driver '{format}' does not support image creation"
    format: str


@dataclass(eq=False)
class BackingNotSupported(RequestError):
    template = "Backing file not supported for file format '{format}'"
    format: str


@dataclass(eq=False)
class SizeMissing(RequestError):
    template = "Image creation needs a size parameter"


@dataclass(eq=False)
class OptionNotSupported(RequestError):
    template = "Invalid parameter '{option}'"
    option: str


@dataclass(frozen=True)
class NewImage:
    """An image to be created; ``size`` in bytes, ``options`` as option strings (-o)."""

    filename: str
    format: str
    size: int
    backing_file: str | None = None
    backing_format: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


def check_creatable(format: str, backing_file: str | None) -> None:
    """Whether images of this format can be made, and with a backing file if there is one."""
    try:
        driver = driver_class(format)
    except RequestError as error:
        raise UnknownFormat(format) from error
    if driver.name not in ("qcow2", "raw", "file"):
        raise NoCreation(format)
    if backing_file is not None and not driver.supports_backing:
        raise BackingNotSupported(format)


async def create(graph: Graph, image: NewImage) -> None:
    """Makes the file and formats it. A file that exists is truncated, unless somebody holds its
    locks. Raises RequestError; a file half made is left as it is, as qemu-img does."""
    check_creatable(image.format, image.backing_file)
    is_format = driver_class(image.format).name == "qcow2"
    path = protocol_options(image.filename).get("filename", image.filename)
    options = dict(image.options)
    preallocation = "off" if is_format else str(options.pop("preallocation", "off"))
    if not is_format and options:
        raise OptionNotSupported(next(iter(options)))
    await graph.in_worker(_make_file, path, 0 if is_format else image.size, preallocation)
    if is_format:
        await format_file(graph, path, image)


def _make_file(path: str, size: int, preallocation: str) -> None:
    from monitor.engine.drivers.file.create import create_file

    create_file(path, size, preallocation)


async def format_file(graph: Graph, path: str, image: NewImage) -> None:
    """Writes a qcow2 header and tables into the (empty) file at ``path``."""
    from monitor.engine.drivers.qcow2 import create_image
    from monitor.engine.drivers.qcow2.create import CreateOptions

    wanted = CreateOptions.from_strings(
        size=image.size,
        backing_file=image.backing_file,
        backing_fmt=image.backing_format,
        options=image.options,
    )
    async with Opening(graph) as opening:
        node = await opening.open(BlockdevOptionsFile(filename=path))
        client = Client("")
        root = graph.add_client(
            client, node, permissions.CONSISTENT_READ | permissions.WRITE | permissions.RESIZE, 0
        )
        try:
            await graph.in_worker(create_image, root, wanted)
        except OSError as error:
            raise host_failure(f"Could not create '{path}'", error) from error
        finally:
            await graph.remove_client(client)


async def backing_size(graph: Graph, image_name: str, backing: str, fmt: str | None) -> int:
    """The size of a backing file that an image to be created will name (bytes)."""
    from monitor.engine.drivers.base import OpenFlags

    path = graph.policy.resolve(backing, image_name)
    loose: dict[str, Any] = {"driver": fmt} if fmt else {}
    async with Opening(graph) as opening:
        node = await opening.open_loose(
            loose, path, inherit=OpenFlags(read_only=True), follow_backing=False
        )
        return node.length()


__all__ = [
    "BackingNotSupported",
    "NewImage",
    "SizeMissing",
    "backing_size",
    "check_creatable",
    "create",
]
