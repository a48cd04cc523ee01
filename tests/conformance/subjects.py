"""The drivers under test, and how an image of each is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from monitor.engine.drivers.base import Driver, OpenContext, OpenFlags
from monitor.engine.drivers.blkdebug import BlkdebugDriver
from monitor.engine.drivers.copy_before_write import CopyBeforeWriteDriver
from monitor.engine.drivers.copy_on_read import CopyOnReadDriver
from monitor.engine.drivers.file.create import create_file
from monitor.engine.drivers.file.driver import FileDriver
from monitor.engine.drivers.file.host import DirectIoUnsupported
from monitor.engine.drivers.memory import MemoryDriver
from monitor.engine.drivers.nbd.driver import NbdDriver
from monitor.engine.drivers.null import NullCoDriver
from monitor.engine.drivers.qcow2 import CreateOptions, Qcow2Driver, create_image
from monitor.engine.drivers.raw import RawDriver
from monitor.engine.schema.blkdebug import BlkdebugSetStateOptions
from monitor.engine.schema.blockdev import (
    BlockdevOptionsBlkdebug,
    BlockdevOptionsCopyBeforeWrite,
    BlockdevOptionsCopyOnRead,
    BlockdevOptionsFile,
    BlockdevOptionsNbd,
    BlockdevOptionsNullCo,
    BlockdevOptionsQcow2,
    BlockdevOptionsRaw,
)
from monitor.engine.schema.sockets import SocketAddressUnix
from monitor.wire.nbd import layout as n
from tests.support.edges import DriverEdge
from tests.support.nbd import MemoryServer

Layers = list[Driver]
"""The drivers of one image, open, from the bottom to the one under test."""
Opener = Callable[[], Layers]


@dataclass(frozen=True)
class Subject:
    """A driver in one configuration.

    ``build(directory, contents)`` makes an image that reads as ``contents`` and returns what
    opens it, which is called again after each close.
    """

    name: str
    build: Callable[[Path, bytes], Opener]
    unit: int = 1  # sizes are multiples of this, bytes
    resizable: bool = True
    grows: bool = True
    keeps: bool = True  # what is written can be read
    endless: bool = False  # takes requests beyond the end, as a format makes them of its file


@dataclass
class Image:
    """An open image of a subject."""

    subject: Subject
    opener: Opener
    layers: Layers = field(default_factory=list)

    @property
    def driver(self) -> Driver:
        return self.layers[-1]

    def open(self) -> None:
        self.layers = self.opener()

    def close(self) -> None:
        while self.layers:
            self.layers.pop().close()

    def reopen(self) -> None:
        self.close()
        self.open()


@contextmanager
def opened(subject: Subject, directory: Path, contents: bytes) -> Iterator[Image]:
    """A new image of ``subject``, open read-write."""
    image = Image(subject, subject.build(directory, contents))
    image.open()
    try:
        yield image
    finally:
        image.close()


def opened_driver(driver: Driver, options: Any, flags: OpenFlags, **children: Driver) -> Driver:
    edges = {role: DriverEdge(child, role) for role, child in children.items()}
    driver.open(OpenContext(options, flags, "node", edges))
    return driver


# -- bottoms ---------------------------------------------------------------------------------


def memory(directory: Path, contents: bytes) -> Opener:
    driver = MemoryDriver(data=contents)
    return lambda: [driver]


def file(**flags: bool) -> Callable[[Path, bytes], Opener]:
    def build(directory: Path, contents: bytes) -> Opener:
        path = directory / "image"
        create_file(str(path), 0)
        path.write_bytes(contents)
        options = BlockdevOptionsFile(filename=str(path))

        def opener() -> Layers:
            try:
                return [opened_driver(FileDriver(), options, OpenFlags(**flags))]
            except DirectIoUnsupported as error:
                pytest.skip(str(error))

        return opener

    return build


def null(directory: Path, contents: bytes) -> Opener:
    options = BlockdevOptionsNullCo(size=len(contents), read_zeroes=True)
    return lambda: [opened_driver(NullCoDriver(), options, OpenFlags())]


def nbd(**facts: Any) -> Callable[[Path, bytes], Opener]:
    """A client and a server of ours, one connection between them."""

    def build(directory: Path, contents: bytes) -> Opener:
        disk = MemoryDriver(data=contents)
        path = directory / "nbd.sock"
        server = SocketAddressUnix(path=str(path))
        options = BlockdevOptionsNbd(server=server, export="disk")

        def opener() -> Layers:
            below: Any = MemoryServer(path, disk, **facts)
            try:
                return [below, opened_driver(NbdDriver(), options, OpenFlags())]
            except BaseException:
                below.close()
                raise

        return opener

    return build


# -- on top of them --------------------------------------------------------------------------

BottomBuilder = Callable[[Path, bytes], Opener]


def raw(
    below: BottomBuilder, *, offset: int = 0, after: int | None = None, probed: bool = False
) -> Callable[[Path, bytes], Opener]:
    """``raw`` over ``below``. The file has ``offset`` bytes before the disk, and ``after`` bytes
    behind it (then the disk's size is fixed) which nothing may change."""

    def build(directory: Path, contents: bytes) -> Opener:
        before, behind = b"\xa5" * offset, b"\x5a" * (after or 0)
        open_below = below(directory, before + contents + behind)
        options = BlockdevOptionsRaw(file="child")
        if offset:
            options.offset = offset
        if after is not None:
            options.size = len(contents)

        def opener() -> Layers:
            layers = open_below()
            driver = RawDriver()
            driver.probed = probed
            layers.append(opened_driver(driver, options, OpenFlags(unmap=True), file=layers[-1]))
            return layers

        return opener

    return build


def blkdebug(below: BottomBuilder, **sizes: Any) -> Callable[[Path, bytes], Opener]:
    """``blkdebug`` without an error, over ``below``; every request passes through its rules."""

    def build(directory: Path, contents: bytes) -> Opener:
        open_below = below(directory, contents)
        change = BlkdebugSetStateOptions(event="pwritev", state=1, new_state=2)
        options = BlockdevOptionsBlkdebug(image="child", set_state=[change], **sizes)

        def opener() -> Layers:
            layers = open_below()
            flags = OpenFlags(unmap=True)
            layers.append(opened_driver(BlkdebugDriver(), options, flags, image=layers[-1]))
            return layers

        return opener

    return build


def qcow2(
    below: BottomBuilder, *, cluster: int = 65536, version: int = 3, backed: bool = False
) -> Callable[[Path, bytes], Opener]:
    """``qcow2`` over ``below``; ``backed``: an overlay without a cluster of its own, and the
    contents are those of its backing image."""

    def build(directory: Path, contents: bytes) -> Opener:
        open_below = below(directory, b"")
        base = MemoryDriver(data=contents)
        _format(open_below, len(contents), cluster, version)

        def opener() -> Layers:
            layers = open_below()
            driver = Qcow2Driver()
            options = BlockdevOptionsQcow2(file="child")
            layers.append(opened_driver(driver, options, OpenFlags(unmap=True), file=layers[-1]))
            if backed:
                driver.attach_backing(DriverEdge(base, "backing"))
            return layers

        if any(contents) and not backed:
            _write(opener, contents)
        return opener

    return build


def _format(open_below: Opener, size: int, cluster: int, version: int) -> None:
    layers = open_below()
    options = CreateOptions(size=size, cluster_size=cluster, version=version)
    create_image(DriverEdge(layers[-1]), options)
    for driver in reversed(layers):
        driver.close()


def _write(opener: Opener, contents: bytes) -> None:
    layers = opener()
    layers[-1].write(memoryview(contents), 0)
    for driver in reversed(layers):
        driver.close()


def copy_before_write(below: BottomBuilder) -> Callable[[Path, bytes], Opener]:
    """The filter over ``below``; the old data goes into memory."""

    def build(directory: Path, contents: bytes) -> Opener:
        open_below = below(directory, contents)
        options = BlockdevOptionsCopyBeforeWrite(file="child", target="target")

        def opener() -> Layers:
            layers = open_below()
            target = MemoryDriver(len(contents))
            driver = CopyBeforeWriteDriver()
            layers.append(
                opened_driver(driver, options, OpenFlags(), file=layers[-1], target=target)
            )
            return layers

        return opener

    return build


def copy_on_read(below: BottomBuilder) -> Callable[[Path, bytes], Opener]:
    """The filter's driver over ``below``; what is copied is the graph's part."""

    def build(directory: Path, contents: bytes) -> Opener:
        open_below = below(directory, contents)
        options = BlockdevOptionsCopyOnRead(file="child")

        def opener() -> Layers:
            layers = open_below()
            driver = CopyOnReadDriver()
            layers.append(opened_driver(driver, options, OpenFlags(), file=layers[-1]))
            return layers

        return opener

    return build


SUBJECTS: list[Subject] = [
    Subject("memory", memory, endless=True),
    Subject("file", file(), endless=True),
    Subject("file, unmap", file(unmap=True), endless=True),
    Subject("file, O_DIRECT", file(direct=True), endless=True),
    Subject("file, O_DIRECT, unmap", file(direct=True, unmap=True), endless=True),
    Subject("file, no-flush", file(no_flush=True), endless=True),
    Subject("nbd", nbd(), resizable=False, grows=False),
    Subject(
        "nbd, blocks of 4 KiB",
        nbd(minimum_block=4096, maximum_block=8192),
        unit=4096,
        resizable=False,
        grows=False,
    ),
    Subject(
        "nbd, as little as there is",
        nbd(flags=n.FLAG_HAS_FLAGS, contexts=()),
        resizable=False,
        grows=False,
    ),
    Subject("null", null, resizable=False, keeps=False),
    Subject("raw on memory", raw(memory), endless=True),
    Subject("raw on file", raw(file(unmap=True)), endless=True),
    Subject("raw on file, O_DIRECT", raw(file(direct=True)), endless=True),
    Subject("raw on memory, probed", raw(memory, probed=True), endless=True),
    Subject("raw on memory, offset", raw(memory, offset=1000), endless=True),
    Subject(
        "raw on file, offset and size",
        raw(file(unmap=True), offset=4096, after=512),
        unit=512,
        resizable=False,
    ),
    Subject(
        "raw on file, O_DIRECT, odd offset and size",
        raw(file(direct=True), offset=1000, after=100),
        unit=512,
        resizable=False,
    ),
    Subject("copy-before-write on memory", copy_before_write(memory)),
    Subject("copy-before-write on file", copy_before_write(file(unmap=True))),
    Subject("copy-on-read on memory", copy_on_read(memory)),
    Subject("copy-on-read on an overlay", copy_on_read(qcow2(memory, backed=True)), unit=512),
    Subject("qcow2 on memory", qcow2(memory), unit=512),
    Subject("qcow2 on memory, 512 B", qcow2(memory, cluster=512), unit=512),
    Subject("qcow2 on memory, 4 KiB, version 2", qcow2(memory, cluster=4096, version=2), unit=512),
    Subject("qcow2 on memory, 2 MiB", qcow2(memory, cluster=2 << 20), unit=512),
    Subject("qcow2 on file", qcow2(file(unmap=True)), unit=512),
    Subject("qcow2 on file, O_DIRECT", qcow2(file(direct=True), cluster=4096), unit=512),
    Subject("qcow2 on a part", qcow2(raw(memory, offset=1000)), unit=512),
    Subject("blkdebug on memory", blkdebug(memory), endless=True),
    Subject(
        "blkdebug on memory, aligned and cut small",
        blkdebug(
            memory,
            align=512,
            max_transfer=4096,
            opt_write_zero=1024,
            max_write_zero=8192,
            opt_discard=2048,
            max_discard=4096,
        ),
        endless=True,
    ),
    Subject("qcow2 on blkdebug", qcow2(blkdebug(memory, align=512)), unit=512),
    Subject("raw on blkdebug", raw(blkdebug(memory)), endless=True),
    Subject("overlay on memory", qcow2(memory, backed=True), unit=512),
    Subject("overlay on memory, 512 B", qcow2(memory, cluster=512, backed=True), unit=512),
    Subject(
        "overlay on memory, version 2",
        qcow2(memory, cluster=4096, version=2, backed=True),
        unit=512,
        grows=False,  # version 2 has no zero clusters to hide a longer backing image with
    ),
]
