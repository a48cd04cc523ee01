"""Formatting a file as an empty qcow2 image.

The layout is QEMU's: header, refcount table, refcount blocks and L1 table, each beginning at a
cluster of its own, one after the other. All clusters of the image have refcount one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from errno import EFBIG
from typing import NamedTuple

from monitor.engine.drivers.base import Child
from monitor.engine.drivers.qcow2 import layout as q
from monitor.engine.drivers.qcow2.errors import (
    BadOption,
    PreallocationFailed,
    SizeOutOfRange,
)
from monitor.engine.drivers.qcow2.header import Extension, Header, feature_name_table
from monitor.engine.errors import HostFailure, host_failure

_ZEROES = bytes(64 << 10)
_SMALL_CLUSTER = 4096  # up to this, the names of features would crowd the header's cluster


@dataclass(frozen=True, slots=True)
class CreateOptions:
    """``BlockdevCreateOptionsQcow2`` without the file. Sizes are bytes."""

    size: int
    version: int = 3
    backing_file: str | None = None
    backing_fmt: str | None = None
    cluster_size: int = 64 << 10
    compression_type: str = "zlib"
    lazy_refcounts: bool = False
    refcount_bits: int = 16
    preallocation: str = "off"
    unfinished: str | None = None
    """A mark that the image is born with (``unfinished``)."""


class _Layout(NamedTuple):
    """Clusters of each part; they follow the header in this order."""

    table: int
    blocks: int
    l1: int

    @property
    def total(self) -> int:
        return 1 + self.table + self.blocks + self.l1


def create_image(file: Child, options: CreateOptions) -> None:
    """Makes an empty image of ``file``, which exists, is writable and loses what it holds.

    Raises BadOption, PreallocationFailed, SizeOutOfRange, or HostFailure when a write fails or the
    clusters are too small for a disk of that size.
    """
    header = _header(options)
    layout = _plan(header)
    try:
        _write(file, header, layout)
    except OSError as error:
        raise host_failure("Could not create qcow2 image", error) from error
    if options.preallocation != "off":
        _preallocate(file, options.preallocation)


def _header(options: CreateOptions) -> Header:
    """The header to be, without its tables' places; every option checked in QEMU's order."""
    _check(options)
    bits = options.cluster_size.bit_length() - 1
    compressed = options.compression_type != "zlib"
    header = Header(
        version=options.version,
        cluster_bits=bits,
        size=options.size,
        l1_size=0,
        l1_table_offset=0,
        refcount_table_offset=0,
        refcount_table_clusters=0,
        incompatible=q.INCOMPAT_COMPRESSION if compressed else 0,
        compatible=q.COMPAT_LAZY_REFCOUNTS if options.lazy_refcounts else 0,
        refcount_order=options.refcount_bits.bit_length() - 1,
    )
    if options.version >= 3:
        kind = q.COMPRESSION_ZSTD if compressed else q.COMPRESSION_ZLIB
        header.tail = bytes([kind]) + bytes(q.V3_LENGTH - q.V3_MIN_LENGTH - 1)
        if options.cluster_size > _SMALL_CLUSTER:
            header.extensions = [Extension(q.EXT_FEATURE_NAMES, feature_name_table())]
    else:
        header.tail = b""
    if options.unfinished is not None:
        from monitor.engine.drivers.qcow2 import unfinished

        header.extensions.append(unfinished.extension(options.unfinished))
    name = os.fsencode(options.backing_file) if options.backing_file else None
    fmt = os.fsencode(options.backing_fmt) if options.backing_fmt else None
    if name is None:
        return header
    try:
        return header.with_backing(name, fmt)
    except OSError as error:
        what = f"Could not assign backing file '{options.backing_file}' with format "
        raise host_failure(what + f"'{options.backing_fmt or '(null)'}'", error) from error


def _check(options: CreateOptions) -> None:
    size, bits = options.cluster_size, options.refcount_bits
    if options.size % q.SECTOR:
        raise BadOption(f"Image size must be a multiple of {q.SECTOR} bytes")
    if not 1 << q.MIN_CLUSTER_BITS <= size <= 1 << q.MAX_CLUSTER_BITS or size & (size - 1):
        raise BadOption("Cluster size must be a power of two between 512 and 2048k")
    if options.backing_file and options.preallocation != "off":
        raise BadOption(
            "Backing file and preallocation can only be used at the same time if extended_l2 is on"
        )
    if options.backing_fmt and not options.backing_file:
        raise BadOption("Backing format cannot be used without backing file")
    if options.version < 3 and options.lazy_refcounts:
        raise BadOption(
            "Lazy refcounts only supported with compatibility level 1.1 and above "
            "(use version=v3 or greater)"
        )
    if not 1 <= bits <= 64 or bits & (bits - 1):
        raise BadOption("Refcount width must be a power of two and may not exceed 64 bits")
    if options.version < 3 and bits != 16:
        raise BadOption(
            "Different refcount widths than 16 bits require compatibility level 1.1 or above "
            "(use version=v3 or greater)"
        )
    if options.version < 3 and options.compression_type != "zlib":
        raise BadOption(
            "Non-zlib compression type is only supported with compatibility level 1.1 and "
            "above (use version=v3 or greater)"
        )


def _plan(header: Header) -> _Layout:
    """How many clusters each part takes; fills in the header's table fields."""
    geometry = header.geometry
    bits = geometry.cluster_bits
    if header.size > q.MAX_SIZE:
        raise SizeOutOfRange(header.size, q.MAX_SIZE)
    header.l1_size = geometry.l1_entries(header.size)
    if header.l1_size * 8 > q.MAX_L1_BYTES:
        raise HostFailure("Could not resize image: Failed to grow the L1 table", EFBIG)
    l1 = geometry.clusters(header.l1_size * 8)
    layout = _Layout(1, 1, l1)
    while True:
        blocks = (layout.total + (1 << geometry.block_bits) - 1) >> geometry.block_bits
        grown = _Layout(geometry.clusters(blocks * 8), blocks, l1)
        if grown == layout:
            break
        layout = grown
    header.refcount_table_offset = 1 << bits
    header.refcount_table_clusters = layout.table
    header.l1_table_offset = (1 + layout.table + layout.blocks) << bits
    return layout


def _write(file: Child, header: Header, layout: _Layout) -> None:
    """The parts, and last the header: until then the file is no image. Zeroes keep its place, so
    that the last flush waits for a block to be overwritten, not for the host to find one for it."""
    size = 1 << header.cluster_bits
    file.truncate(0)
    _put(file, 0, _ZEROES[:size])
    table = b"".join(
        ((1 + layout.table + i) * size).to_bytes(8, "big") for i in range(layout.blocks)
    )
    _put(file, size, table.ljust(layout.table * size, b"\0"))
    at = (1 + layout.table) * size
    counted = layout.total
    per_block = 1 << header.geometry.block_bits
    for _ in range(layout.blocks):
        block = _ones(min(counted, per_block), header.refcount_order)
        _put(file, at, block.ljust(size, b"\0"))
        counted -= min(counted, per_block)
        at += size
    length = header.l1_size * 8
    while length:
        step = min(length, len(_ZEROES))
        _put(file, at, _ZEROES[:step])
        at += step
        length -= step
    file.flush()
    _put(file, 0, header.pack())
    file.flush()


def _put(file: Child, offset: int, data: bytes) -> None:
    file.write(memoryview(data), offset)


def _ones(count: int, order: int) -> bytes:
    """``count`` refcounts of one, each ``1 << order`` bits; narrow ones from the low bit up."""
    if order >= 3:
        return (1).to_bytes(1 << (order - 3), "big") * count
    per_byte = 8 >> order
    full = sum(1 << (i << order) for i in range(per_byte))
    rest = sum(1 << (i << order) for i in range(count % per_byte))
    return bytes([full]) * (count // per_byte) + (bytes([rest]) if rest else b"")


def _preallocate(file: Child, mode: str) -> None:
    """Gives every guest cluster its host cluster, as resizing from nothing would."""
    from monitor.engine.drivers.qcow2 import writeback
    from monitor.engine.drivers.qcow2.image import Image
    from monitor.engine.drivers.qcow2.preallocate import FileTooSmall, preallocate

    image = Image(file, read_only=False)
    image.begin_changes()
    try:
        preallocate(image, 0, image.geometry.clusters(image.size), mode)
        writeback.drain(image)
    except FileTooSmall as error:
        raise PreallocationFailed(error.text) from error
    except OSError as error:
        raise host_failure("Could not resize image", error) from error
