"""Creating image files, for snapshots, ``create`` and blockdev-create alike."""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, get_args

from msgspec import UNSET, UnsetType

from monitor.engine import permissions
from monitor.engine.drivers.base import OpenContext, OpenFlags
from monitor.engine.drivers.registry import driver_class, protocol_options
from monitor.engine.errors import HostFailure, RequestError, host_failure
from monitor.engine.graph.client import Client
from monitor.engine.graph.edge import RootEdge
from monitor.engine.graph.graph import Graph
from monitor.engine.graph.node import Node
from monitor.engine.graph.opening import Opening
from monitor.engine.schema import imageopts
from monitor.engine.schema.base import given
from monitor.engine.schema.blockdev import (
    BlockdevCreateOptionsFile,
    BlockdevCreateOptionsQcow2,
    BlockdevOptionsFile,
    Preallocation,
)
from monitor.engine.schema.decode import UnexpectedParameter, decode
from monitor.engine.schema.extra import CreateImage
from monitor.engine.schema.keyval import parse_opts
from monitor.engine.schema.mistakes import (
    SUFFIXES,
    InvalidOption,
    InvalidOptionValue,
    SwitchExpected,
    UnsignedExpected,
)
from monitor.engine.schema.scalars import parse_bool, parse_size, parse_uint64
from monitor.engine.units import whole_sectors

_JUST_LOOKING: Final = OpenFlags(read_only=True, force_share=True)
_PREALLOCATIONS: Final = get_args(Preallocation)

if TYPE_CHECKING:
    from monitor.engine.drivers.qcow2.create import CreateOptions


class UnknownFormat(RequestError):
    template = "Unknown file format '{format}'"
    format: str


class NoCreation(RequestError):
    template = "Format driver '{format}' does not support image creation"
    format: str


class NoCreationThere(RequestError):
    template = "Protocol driver '{protocol}' does not support image creation"
    protocol: str


class BackingNotSupported(RequestError):
    template = "Backing file not supported for file format '{format}'"
    format: str


class BackedByItself(RequestError):
    template = "Error: Trying to create an image with the same filename as the backing file"
    filename: str


class NoBackingFormat(RequestError):
    template = "Backing file specified without backing format"


class EmptyBackingName(RequestError):
    template = "Expected backing file name, got empty string"


class SizeGivenTwice(RequestError):
    template = "The image size must be specified only once"


class SizeTooLarge(RequestError):
    template = "The image size is too large for file format '{format}'{hint_at_clusters}"
    format: str
    hint_at_clusters: str


class SizeMissing(RequestError):
    template = "Image creation needs a size parameter"


@dataclass(frozen=True)
class NewImage:
    """An image to be created; ``size`` in bytes, ``options`` as option strings (-o)."""

    filename: str
    format: str
    size: int
    backing_file: str | None = None
    backing_format: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    follow_backing: bool = False
    """The backing file, which is found from where the image is, must be there."""
    unfinished: str | None = None
    """The job that is to fill it: an image of a format that can say so is marked from the first."""

    @property
    def path(self) -> str:
        """Where the host has it."""
        path: str = protocol_options(self.filename).get("filename", self.filename)
        return path

    @property
    def is_plain(self) -> bool:
        """It is its file and nothing else."""
        return driver_class(self.format).name != "qcow2"


def _check_creatable(filename: str, format: str, backing_file: str | None) -> None:
    """Whether images of this format can be made, where the name leads, and with a backing file if
    there is one: in QEMU's order."""
    try:
        driver = driver_class(format)
    except RequestError as error:
        raise UnknownFormat(format) from error
    if driver.name not in ("qcow2", "raw", "file"):
        raise NoCreation(format)
    protocol = protocol_options(filename)["driver"]
    if protocol not in ("file", "host_device"):
        raise NoCreationThere(protocol)
    if backing_file is not None and not driver.supports_backing:
        raise BackingNotSupported(format)


async def requested(graph: Graph, request: CreateImage) -> NewImage:
    """What ``create`` asks for, as qemu-img reads its command line and in its order. The backing
    image must open; its size is the image's unless one is given. Raises RequestError."""
    options = {} if request.options is UNSET else dict(parse_opts(str(request.options)))
    _check_creatable(request.filename, request.format, None)
    image = NewImage(request.filename, request.format, 0, options=options)
    in_options = options.pop("size", None)
    _check_options(image)
    size = given(request.size)
    if in_options is not None:
        if size is not None:
            raise SizeGivenTwice
        size = parse_size(in_options)
        if size is None:
            raise UnsignedExpected("size").with_hint(SUFFIXES)
    backing, fmt = options.pop("backing_file", None), options.pop("backing_fmt", None)
    backing = given(request.backing_file, backing)
    fmt = given(request.backing_format, fmt)
    _check_creatable(request.filename, request.format, backing)
    if backing is not None:
        if not backing:
            raise EmptyBackingName
        await _refuse_itself(graph, request.filename, backing)
        below, found = await _look_below(graph, request.filename, backing, fmt)
        if not fmt:
            raise NoBackingFormat().with_hint(f"Detected format of {found}.")
        size = below if size is None else size
    if size is None:
        raise SizeMissing
    if not image.is_plain:
        size = whole_sectors(size)
    return NewImage(request.filename, request.format, size, backing, fmt, options)


def _check_options(image: NewImage) -> None:
    """Refuses unknown options and values before anything is touched."""
    for option, value in image.options.items():
        if option in imageopts.SIZES and parse_size(value) is None:
            raise UnsignedExpected(option).with_hint(SUFFIXES)
        if option == "refcount_bits" and parse_uint64(value) is None:
            raise UnsignedExpected(option)
        if option in imageopts.SWITCHES and parse_bool(value) is None:
            raise SwitchExpected(option)
    _file_options(image)
    if not image.is_plain:
        _from_strings(image)


async def create(graph: Graph, image: NewImage) -> None:
    """Makes the file and formats it. A file that exists is truncated, unless somebody holds its
    locks. Raises RequestError; then a plain file is empty, and one of a format is gone, as
    qemu-img leaves them."""
    _check_creatable(image.filename, image.format, image.backing_file)
    if image.backing_file is not None and image.follow_backing:
        await _refuse_itself(graph, image.filename, image.backing_file)
        await _look_below(graph, image.filename, image.backing_file, image.backing_format)
    wanted = None
    if not image.is_plain:
        wanted = replace(qcow2_options(_from_strings(image)), unfinished=image.unfinished)
    try:
        await graph.in_worker(_make, image, _file_options(image, image.path), wanted)
    except HostFailure as error:
        if error.errno == errno.EFBIG:
            hint = "" if image.is_plain else " (try using a larger cluster size)"
            raise SizeTooLarge(image.format, hint) from error
        raise


def _make(
    image: NewImage, options: BlockdevCreateOptionsFile, wanted: CreateOptions | None
) -> None:
    """Everything about a new image that waits for the host. Raises RequestError."""
    if image.backing_file is not None:
        _check_itself(image.filename, image.backing_file)
    make_file(options)
    if wanted is not None:
        try:
            _format(options.filename, wanted)
        except BaseException:
            _remove(options.filename)
            raise


async def _refuse_itself(graph: Graph, filename: str, backing: str) -> None:
    await graph.in_worker(_check_itself, filename, backing)


def _check_itself(filename: str, backing: str) -> None:
    """QEMU compares the names only, and overwrites ./a.qcow2 with an overlay on a.qcow2. The
    backing link is relative to the image."""
    path = protocol_options(filename).get("filename", filename)
    itself = filename == backing
    with contextlib.suppress(OSError, ValueError):
        itself = itself or os.path.samefile(path, os.path.join(os.path.dirname(path), backing))
    if itself:
        raise BackedByItself(filename)


def make_file(options: BlockdevCreateOptionsFile) -> None:
    """Creates or empties a host file (in a worker). Raises RequestError."""
    from monitor.engine.drivers.file.create import DEFAULT_EXTENT_SIZE, create_file

    hint = options.extent_size_hint
    create_file(
        options.filename,
        options.size,
        given(options.preallocation, "off"),
        nocow=options.nocow is True,
        extent_size=DEFAULT_EXTENT_SIZE if isinstance(hint, UnsetType) else hint,
    )


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def _file_options(image: NewImage, path: str = "") -> BlockdevCreateOptionsFile:
    """The options of the file that the image is, or that it lies in, as QMP's struct."""
    size = image.size if image.is_plain else 0
    tree: dict[str, Any] = {"driver": "file", "filename": path, "size": str(size)}
    for option, value in image.options.items():
        if not image.is_plain and not imageopts.is_of_the_file(option):
            continue
        if option not in imageopts.image_options(image.format):
            raise InvalidOption(option)
        if option == "preallocation" and value not in _PREALLOCATIONS:
            raise InvalidOptionValue(value)
        tree[imageopts.member_name(option)] = value
    settled: BlockdevCreateOptionsFile = decode(BlockdevCreateOptionsFile, tree, keyval=True)
    return settled


def _from_strings(image: NewImage) -> BlockdevCreateOptionsQcow2:
    """``-o`` options (``cluster_size=4k,compat=0.10``) as QMP's struct."""
    tree: dict[str, Any] = {"driver": "qcow2", "file": "", "size": str(image.size)}
    for option, value in image.options.items():
        if option == "file":
            raise InvalidOption(option)
        if not imageopts.is_of_the_file(option):
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
        raise InvalidOption(error.parameter.replace("-", "_")) from error
    return settled


def qcow2_options(wanted: BlockdevCreateOptionsQcow2) -> CreateOptions:
    """QMP's struct as the driver's own. Raises InvalidOption for what is not there yet."""
    from monitor.engine.drivers.qcow2.create import CreateOptions

    for option in imageopts.LATER:
        if getattr(wanted, option) not in (UNSET, False):
            raise InvalidOption(option)
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


def _format(path: str, wanted: CreateOptions) -> None:
    """Writes a qcow2 header and tables into the (empty) file at ``path``, through a node that is in
    no graph: nobody else has to do with it before it is an image. Raises RequestError."""
    from monitor.engine.drivers.qcow2.create import create_image

    options, flags = BlockdevOptionsFile(filename=path), OpenFlags()
    driver = driver_class("file")()
    try:
        driver.open(OpenContext(options, flags, "", {}))
    except OSError as error:
        raise host_failure(f"Could not open '{path}'", error) from error
    try:
        root = RootEdge(Client(), "root", Node("", driver, options, flags))
        root.taken, root.shared = permissions.WRITE | permissions.RESIZE, 0
        root.beyond_end = True
        if (locked := driver.check_permissions(root.taken, root.shared)) is not None:
            locked.commit()
        create_image(root, wanted)
    except OSError as error:
        raise host_failure(f"Could not create '{path}'", error) from error
    finally:
        driver.close()


async def _look_below(
    graph: Graph, image_name: str, backing: str, fmt: str | None
) -> tuple[int, str]:
    """Size (bytes) and format of a backing file that an image to be created will name. It may be
    in use: nothing but these two is looked at."""
    path = graph.policy.resolve(backing, image_name)
    loose: dict[str, Any] = {"driver": fmt} if fmt else {}
    async with Opening(graph) as opening:
        try:
            node = await opening.open_loose(
                loose, path, inherit=_JUST_LOOKING, follow_backing=False
            )
        except RequestError as error:
            raise error.with_hint(error.hint or "Could not open backing image.") from None
        return node.length(), node.driver.name


__all__ = [
    "BackingNotSupported",
    "NewImage",
    "SizeMissing",
    "create",
    "make_file",
    "requested",
]
