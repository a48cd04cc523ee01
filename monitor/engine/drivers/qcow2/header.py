"""The header: read and checked in QEMU's order, so that a bad image gets QEMU's sentence."""

from __future__ import annotations

import functools
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from errno import EINVAL, ENOSPC
from typing import NamedTuple

from monitor.engine.drivers.base import Child
from monitor.engine.drivers.qcow2 import errors
from monitor.engine.drivers.qcow2 import layout as q
from monitor.engine.errors import host_failure


class Extension(NamedTuple):
    magic: int
    data: bytes


@dataclass(slots=True)
class Header:
    """A header's fields, in the specification's names, and what follows them in its cluster.

    ``tail`` holds the bytes between 104 and ``header_length`` as they were read, known or not.
    ``extensions`` are kept in the order of the file, unknown ones included, without the end mark.
    """

    version: int
    cluster_bits: int
    size: int
    l1_size: int
    l1_table_offset: int
    refcount_table_offset: int
    refcount_table_clusters: int
    nb_snapshots: int = 0
    snapshots_offset: int = 0
    incompatible: int = 0
    compatible: int = 0
    autoclear: int = 0
    refcount_order: int = 4
    tail: bytes = bytes(q.V3_LENGTH - q.V3_MIN_LENGTH)
    extensions: list[Extension] = field(default_factory=list)
    backing_file: bytes | None = None

    @property
    def geometry(self) -> q.Geometry:
        return q.Geometry(self.version, self.cluster_bits, self.refcount_order)

    @property
    def header_length(self) -> int:
        return q.V3_MIN_LENGTH + len(self.tail) if self.version >= 3 else q.HEADER_V2.size

    @property
    def compression_type(self) -> int:
        return self.tail[0] if self.version >= 3 and self.tail else q.COMPRESSION_ZLIB

    @property
    def backing_format(self) -> str | None:
        data = self.extension(q.EXT_BACKING_FORMAT)
        return None if data is None else os.fsdecode(data)

    def extension(self, magic: int) -> bytes | None:
        return next((data for kind, data in self.extensions if kind == magic), None)

    def offset_of(self, magic: int) -> int:
        """Where the extension begins that has this magic; it must be there."""
        at = self.header_length
        for kind, data in self.extensions:
            if kind == magic:
                return at
            at += q.EXTENSION.size + ((len(data) + 7) & ~7)
        raise KeyError(magic)

    def with_backing(self, name: bytes | None, fmt: bytes | None) -> Header:
        """A copy that names ``name`` as its backing file.

        Raises OSError: EINVAL for a name or a format that is too long, ENOSPC when the header
        outgrows its cluster.
        """
        if len(name or b"") > q.MAX_BACKING_NAME or len(fmt or b"") > q.MAX_BACKING_FORMAT:
            raise OSError(EINVAL, os.strerror(EINVAL))
        rest = [e for e in self.extensions if e.magic != q.EXT_BACKING_FORMAT]
        first = [Extension(q.EXT_BACKING_FORMAT, fmt)] if fmt else []
        copy = self.copy()
        copy.extensions = first + rest
        copy.backing_file = name or None
        copy.pack()  # raises when it does not fit
        return copy

    def copy(self) -> Header:
        values = {name: getattr(self, name) for name in self.__slots__}
        return Header(**values | {"extensions": list(self.extensions)})

    @property
    def extensions_end(self) -> int:
        """Where the extensions end, their end mark included."""
        sizes = (q.EXTENSION.size + ((len(data) + 7) & ~7) for _, data in self.extensions)
        return self.header_length + sum(sizes) + q.EXTENSION.size

    def pack(self, name_at: int = 0) -> bytes:
        """The header, its extensions and the backing file's name, which is at ``name_at`` or right
        behind the extensions. Raises OSError(ENOSPC)."""
        extensions = b"".join(
            q.EXTENSION.pack(magic, len(data)) + data + bytes(-len(data) % 8)
            for magic, data in self.extensions
        ) + q.EXTENSION.pack(q.EXT_END, 0)
        name_at = max(name_at, self.header_length + len(extensions))
        fixed = q.HEADER_V2.pack(
            q.MAGIC,
            self.version,
            name_at if self.backing_file else 0,
            len(self.backing_file or b""),
            self.cluster_bits,
            self.size,
            0,
            self.l1_size,
            self.l1_table_offset,
            self.refcount_table_offset,
            self.refcount_table_clusters,
            self.nb_snapshots,
            self.snapshots_offset,
        )
        if self.version >= 3:
            features = (self.incompatible, self.compatible, self.autoclear)
            fixed += q.HEADER_V3.pack(*features, self.refcount_order, self.header_length)
            fixed += self.tail
        packed = fixed + extensions
        if self.backing_file:
            packed = packed.ljust(name_at, b"\0") + self.backing_file
        if len(packed) > 1 << self.cluster_bits:
            raise OSError(ENOSPC, os.strerror(ENOSPC))
        return packed


@functools.cache
def feature_name_table() -> bytes:
    """The feature names that QEMU 7.2 writes into a new image."""
    return b"".join(
        q.FEATURE_NAME.pack(kind, bit, name.encode()) for kind, bit, name in q.FEATURE_TABLE
    )


def read_header(file: Child, *, read_only: bool) -> Header:
    """Reads and checks the header. Raises BadImage, or HostFailure when the file cannot be read."""
    try:
        return _parse(file, read_only)
    except struct.error as error:
        raise errors.BadHeader("qcow2 header too short") from error


def _read(file: Child, offset: int, length: int, what: str) -> bytes:
    buffer = bytearray(length)
    try:
        file.read(memoryview(buffer), offset)
    except OSError as error:
        raise host_failure(what, error) from error
    return bytes(buffer)


def _parse(file: Child, read_only: bool) -> Header:
    raw = _read(file, 0, q.V3_LENGTH, "Could not read qcow2 header")
    (
        magic,
        version,
        backing_offset,
        backing_size,
        cluster_bits,
        size,
        crypt_method,
        l1_size,
        l1_offset,
        reftable_offset,
        reftable_clusters,
        nb_snapshots,
        snapshots_offset,
    ) = q.HEADER_V2.unpack_from(raw)
    if magic != q.MAGIC:
        raise errors.NotQcow2
    if version not in (2, 3):
        raise errors.UnsupportedVersion(version)
    if not q.MIN_CLUSTER_BITS <= cluster_bits <= q.MAX_CLUSTER_BITS:
        raise errors.UnsupportedClusterSize(cluster_bits)
    header = Header(
        version,
        cluster_bits,
        size,
        l1_size,
        l1_offset,
        reftable_offset,
        reftable_clusters,
        nb_snapshots,
        snapshots_offset,
    )
    length = _read_version_3_fields(file, header, raw)
    cluster_size = 1 << cluster_bits
    if backing_offset > cluster_size:
        raise errors.BadHeader("Invalid backing file offset")
    end = backing_offset or cluster_size
    cluster = _read(file, 0, cluster_size, "Could not read qcow2 header")
    _check_features(header, cluster, length, end, read_only)
    if crypt_method:
        name = q.CRYPT_NAMES.get(crypt_method, f"encryption method {crypt_method}")
        raise errors.UnsupportedFeatures(name)
    _check_tables(file, header)
    header.extensions = list(_extensions(cluster, length, end))
    _check_extensions(header)
    if backing_offset:
        header.backing_file = _backing_file(cluster, backing_offset, backing_size)
    return header


def _backing_file(cluster: bytes, offset: int, size: int) -> bytes | None:
    if size > min(q.MAX_BACKING_NAME, len(cluster) - offset):
        raise errors.BadHeader("Backing file name too long")
    return cluster[offset : offset + size].split(b"\0", 1)[0] or None


def _read_version_3_fields(file: Child, header: Header, raw: bytes) -> int:
    """Fills in what version 3 added; returns the header's length."""
    if header.version < 3:
        header.tail = b""
        return q.HEADER_V2.size
    (
        header.incompatible,
        header.compatible,
        header.autoclear,
        header.refcount_order,
        length,
    ) = q.HEADER_V3.unpack_from(raw, q.HEADER_V2.size)
    if length < q.V3_MIN_LENGTH:
        raise errors.BadHeader("qcow2 header too short")
    if length > 1 << header.cluster_bits:
        raise errors.BadHeader("qcow2 header exceeds cluster size")
    what = "Could not read unknown qcow2 header fields"
    header.tail = _read(file, q.V3_MIN_LENGTH, length - q.V3_MIN_LENGTH, what)
    return int(length)


def _check_features(header: Header, cluster: bytes, start: int, end: int, read_only: bool) -> None:
    kind = header.compression_type
    if kind not in q.COMPRESSION_NAMES:
        raise errors.BadHeader(f"qcow2: unknown compression type: {kind}")
    flagged = bool(header.incompatible & q.INCOMPAT_COMPRESSION)
    if flagged != (kind != q.COMPRESSION_ZLIB):
        must = "must not" if flagged else "must"
        raise errors.BadHeader(f"qcow2: Compression type incompatible feature bit {must} be set")
    unsupported = header.incompatible & ~q.INCOMPAT_KNOWN
    if unsupported:
        try:
            extensions = list(_extensions(cluster, start, end))
        except errors.BadHeader:
            extensions = []
        raise errors.UnsupportedFeatures(_feature_names(unsupported, extensions))
    if header.incompatible & q.INCOMPAT_CORRUPT and not read_only:
        raise errors.CorruptForWriting
    if header.refcount_order > q.MAX_REFCOUNT_ORDER:
        raise errors.BadHeader("Reference count entry width too large; may not exceed 64 bits")


def _feature_names(mask: int, extensions: list[Extension]) -> str:
    """The incompatible features in ``mask`` by the image's own names, then ours, then as bits."""
    known = {bit: name for kind, bit, name in q.FEATURE_TABLE if kind == 0}
    for magic, data in extensions:
        if magic == q.EXT_FEATURE_NAMES:
            whole = len(data) - len(data) % q.FEATURE_NAME.size
            for kind, bit, name in q.FEATURE_NAME.iter_unpack(data[:whole]):
                if kind == q.FEATURE_TYPE_INCOMPATIBLE and bit < 64 and name[0]:
                    known[bit] = name.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
    names = []
    for bit, text in sorted(known.items()):
        if mask >> bit & 1:
            names.append(text)
            mask &= ~(1 << bit)
    if mask:
        names.append(f"Unknown incompatible feature: {mask:x}")
    return ", ".join(names)


def _check_tables(file: Child, header: Header) -> None:
    """Every table that the header names: aligned, not too large, beginning inside the file."""
    geometry = header.geometry
    if header.refcount_table_clusters == 0:
        raise errors.BadHeader("Image does not contain a reference count table")
    reftable_bytes = header.refcount_table_clusters << header.cluster_bits
    tables = (
        (
            "Reference count table",
            header.refcount_table_offset,
            reftable_bytes,
            q.MAX_REFTABLE_BYTES,
        ),
        (
            "Snapshot table",
            header.snapshots_offset,
            header.nb_snapshots * q.SNAPSHOT.size,
            q.MAX_SNAPSHOTS * q.SNAPSHOT.size,
        ),
        ("Active L1 table", header.l1_table_offset, header.l1_size * 8, q.MAX_L1_BYTES),
    )
    length = file.length()
    for name, offset, size, limit in tables:
        if size > limit:
            raise errors.TableTooLarge(name)
        if offset + size > q.MAX_INT64 or offset & (geometry.cluster_size - 1):
            raise errors.TableOffsetInvalid(name)
        if size and offset >= length:
            raise errors.TableOutsideFile(name)
    needed = geometry.l1_entries(header.size)
    if needed > 0x7FFF_FFFF:
        raise errors.BadHeader("Image is too big")
    if header.l1_size < needed:
        raise errors.BadHeader("L1 table is too small")


def _extensions(cluster: bytes, offset: int, end: int) -> Iterator[Extension]:
    """The extensions between ``offset`` and ``end`` of the header's cluster."""
    for _ in range(q.MAX_EXTENSIONS):
        if offset >= end:
            return
        if offset + q.EXTENSION.size > end:
            raise errors.BadHeader("Header extension too large")
        magic, length = q.EXTENSION.unpack_from(cluster, offset)
        offset += q.EXTENSION.size
        if length > end - offset:
            raise errors.BadHeader("Header extension too large")
        if magic == q.EXT_END:
            return
        yield Extension(magic, cluster[offset : offset + length])
        offset += (length + 7) & ~7
    raise errors.BadHeader(f"More than {q.MAX_EXTENSIONS} header extensions")


def _check_extensions(header: Header) -> None:
    fmt = header.extension(q.EXT_BACKING_FORMAT)
    if fmt is not None and len(fmt) > q.MAX_BACKING_FORMAT:
        limit = q.MAX_BACKING_FORMAT + 1
        message = f"ERROR: ext_backing_format: len={len(fmt)} too large (>={limit})"
        raise errors.BadHeader(message)
