"""Creating image files, for snapshots, ``create`` and blockdev-create alike."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from monitor.engine import permissions
from monitor.engine.drivers.registry import driver_class, protocol_options
from monitor.engine.errors import RequestError, host_failure
from monitor.engine.graph.client import Client
from monitor.engine.graph.graph import Graph
from monitor.engine.graph.opening import Opening
from monitor.engine.schema import imageopts
from monitor.engine.schema.blockdev import BlockdevCreateOptionsQcow2, BlockdevOptionsFile
from monitor.engine.schema.decode import UnexpectedParameter, decode

if TYPE_CHECKING:
    from monitor.engine.drivers.qcow2.create import CreateOptions


class UnknownFormat(RequestError):
    template = "Unknown file format '{format}'"
    format: str


class NoCreation(RequestError):
    template = "Format driver '{format}' does not support image creation"
    format: str


class BackingNotSupported(RequestError):
    template = "Backing file not supported for file format '{format}'"
    format: str


class BackedByItself(RequestError):
    template = "Error: Trying to create an image with the same filename as the backing file"
    filename: str


class SizeMissing(RequestError):
    template = "Image creation needs a size parameter"


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
    if image.backing_file is not None:
        # QEMU compares the names only, and overwrites ./a.qcow2 with an overlay on a.qcow2.
        same = image.filename == image.backing_file
        if same or await graph.in_worker(_is_file, path, image.backing_file):
            raise BackedByItself(image.filename)
    options = dict(image.options)
    preallocation = "off" if is_format else str(options.pop("preallocation", "off"))
    if not is_format and options:
        raise OptionNotSupported(next(iter(options)))
    await graph.in_worker(_make_file, path, 0 if is_format else image.size, preallocation)
    if is_format:
        await format_file(graph, path, image)


def _is_file(path: str, backing_file: str) -> bool:
    """Whether the backing link, which is relative to the image, leads to the image itself."""
    try:
        return os.path.samefile(path, os.path.join(os.path.dirname(path), backing_file))
    except (OSError, ValueError):
        return False


def _make_file(path: str, size: int, preallocation: str) -> None:
    from monitor.engine.drivers.file.create import create_file

    create_file(path, size, preallocation)


def _from_strings(image: NewImage) -> BlockdevCreateOptionsQcow2:
    """``-o`` options (``cluster_size=4k,compat=0.10``) as QMP's struct."""
    tree: dict[str, Any] = {"driver": "qcow2", "file": "", "size": str(image.size)}
    for option, value in image.options.items():
        if option in imageopts.ELSEWHERE:
            raise OptionNotSupported(option)
        tree[imageopts.member_name(option)] = value
    if "version" in tree:
        tree["version"] = imageopts.VERSIONS.get(tree["version"], tree["version"])
    if image.backing_file is not None:
        tree["backing-file"] = image.backing_file
    if image.backing_format is not None:
        tree["backing-fmt"] = image.backing_format
    try:
        settled: BlockdevCreateOptionsQcow2 = decode(BlockdevCreateOptionsQcow2, tree, keyval=True)
    except UnexpectedParameter as error:
        raise OptionNotSupported(error.parameter.replace("-", "_")) from error
    return settled


def qcow2_options(wanted: BlockdevCreateOptionsQcow2) -> CreateOptions:
    """QMP's struct as the driver's own. Raises OptionNotSupported for what is not there yet."""
    from monitor.engine.drivers.qcow2.create import CreateOptions

    for option in imageopts.LATER:
        if getattr(wanted, option) not in (UNSET, False):
            raise OptionNotSupported(option)
    given = {
        "version": UNSET if wanted.version is UNSET else int(str(wanted.version)[1:]),
        "backing_file": wanted.backing_file,
        "backing_fmt": wanted.backing_fmt,
        "cluster_size": wanted.cluster_size,
        "preallocation": wanted.preallocation,
        "lazy_refcounts": wanted.lazy_refcounts,
        "refcount_bits": wanted.refcount_bits,
        "compression_type": wanted.compression_type,
    }
    settled = {name: value for name, value in given.items() if value is not UNSET}
    return CreateOptions(size=wanted.size, **settled)  # type: ignore[arg-type]


async def format_file(graph: Graph, path: str, image: NewImage) -> None:
    """Writes a qcow2 header and tables into the (empty) file at ``path``."""
    from monitor.engine.drivers.qcow2.create import create_image

    wanted = qcow2_options(_from_strings(image))
    async with Opening(graph) as opening:
        node = await opening.open(BlockdevOptionsFile(filename=path))
        client = Client("")
        root = graph.add_client(
            client, node, permissions.CONSISTENT_READ | permissions.WRITE | permissions.RESIZE, 0
        )
        root.beyond_end = True
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
