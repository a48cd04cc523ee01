"""The bitmap directory: what an image says of the dirty bitmaps that it keeps, read and checked.

    header extension -> directory -> a table for each bitmap -> its data, a cluster for each entry

Sentences are QEMU's. An entry with extra data that nobody knows is kept as it is, as the
specification asks ("Bitmap directory"); it may be used where its flag says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from monitor.engine.arrays import np
from monitor.engine.drivers.base import Child
from monitor.engine.drivers.qcow2 import layout as q
from monitor.engine.drivers.qcow2.errors import BadBitmaps
from monitor.engine.drivers.qcow2.header import Header
from monitor.engine.drivers.qcow2.mapping import Entries
from monitor.engine.drivers.qcow2.refcount import load_table
from monitor.engine.errors import host_failure

_FLAG_WORDS = ((q.BITMAP_IN_USE, "in-use"), (q.BITMAP_AUTO, "auto"))


@dataclass(slots=True)
class Stored:
    """One entry of the directory."""

    raw_name: bytes
    table_offset: int
    table_size: int
    flags: int
    granularity_bits: int
    extra: bytes = b""

    @property
    def name(self) -> str:
        return self.raw_name.decode("utf-8", "backslashreplace")

    @property
    def in_use(self) -> bool:
        return bool(self.flags & q.BITMAP_IN_USE)

    @property
    def usable(self) -> bool:
        """Not by the extra data, if nobody knows what it asks for."""
        return not self.extra or bool(self.flags & q.BITMAP_EXTRA_COMPATIBLE)

    def info(self) -> dict[str, Any]:
        """QMP's ``Qcow2BitmapInfo``."""
        flags = [word for bit, word in _FLAG_WORDS if self.flags & bit]
        return {"name": self.name, "granularity": 1 << self.granularity_bits, "flags": flags}

    def pack(self) -> bytes:
        packed = q.BITMAP.pack(
            self.table_offset,
            self.table_size,
            self.flags,
            q.BITMAP_DIRTY_TRACKING,
            self.granularity_bits,
            len(self.raw_name),
            len(self.extra),
        )
        packed += self.extra + self.raw_name
        return packed + bytes(-len(packed) % 8)


@dataclass(frozen=True, slots=True)
class Directory:
    """Where the directory lies, and what is in it."""

    offset: int = 0
    size: int = 0
    entries: tuple[Stored, ...] = ()


def read_directory(file: Child, header: Header) -> Directory:
    """The directory; an empty one where there is none, or where somebody who does not know bitmaps
    has written to the image since. Raises BadBitmaps, HostFailure."""
    data = header.extension(q.EXT_BITMAPS)
    if data is None or not header.autoclear & q.AUTOCLEAR_BITMAPS:
        return Directory()
    if len(data) != q.BITMAPS_EXTENSION.size:
        raise BadBitmaps("bitmaps_ext: Invalid extension length")
    count, reserved, size, offset = q.BITMAPS_EXTENSION.unpack(data)
    if reserved:
        raise BadBitmaps("bitmaps_ext: Reserved field is not zero")
    if count > q.MAX_BITMAPS:
        raise BadBitmaps(
            f"bitmaps_ext: image has {count} bitmaps, exceeding the QEMU supported maximum of "
            f"{q.MAX_BITMAPS}"
        )
    if not count:
        raise BadBitmaps("bitmaps_ext: found bitmaps extension with zero bitmaps")
    if offset & (header.geometry.cluster_size - 1):
        raise BadBitmaps("bitmaps_ext: invalid bitmap directory offset")
    if size > q.MAX_BITMAP_DIRECTORY:
        raise BadBitmaps(
            f"bitmaps_ext: bitmap directory size ({size}) exceeds the maximum supported size "
            f"({q.MAX_BITMAP_DIRECTORY})"
        )
    if not size:
        raise BadBitmaps("Requested bitmap directory size is zero")
    if offset >= file.length():
        raise BadBitmaps("bitmaps_ext: invalid bitmap directory offset")
    raw = bytearray(size)
    try:
        file.read(memoryview(raw), offset)
    except OSError as error:
        raise host_failure("Failed to read bitmap directory", error) from error
    return Directory(offset, size, _entries(bytes(raw), count, header))


def _entries(raw: bytes, count: int, header: Header) -> tuple[Stored, ...]:
    entries: list[Stored] = []
    names: set[str] = set()
    at = 0
    while at < len(raw):
        if at + q.BITMAP.size > len(raw):
            raise BadBitmaps("Broken bitmap directory")
        if len(entries) == count:
            raise BadBitmaps("More bitmaps found than specified in header extension")
        table_offset, table_size, flags, kind, bits, name_size, extra_size = q.BITMAP.unpack_from(
            raw, at
        )
        extra_at = at + q.BITMAP.size
        name_at = extra_at + extra_size
        at = (name_at + name_size + 7) & ~7
        if at > len(raw):
            raise BadBitmaps("Broken bitmap directory")
        raw_name = raw[name_at : name_at + name_size]
        entry = Stored(raw_name, table_offset, table_size, flags, bits, raw[extra_at:name_at])
        if kind != q.BITMAP_DIRTY_TRACKING or not _is_sound(entry, header):
            raise BadBitmaps(f"Bitmap '{entry.name}' doesn't satisfy the constraints")
        if entry.name in names:
            raise BadBitmaps(f"Bitmap already exists: {entry.name}")
        names.add(entry.name)
        entries.append(entry)
    if len(entries) != count:
        raise BadBitmaps("Less bitmaps found than specified in header extension")
    return tuple(entries)


def _is_sound(entry: Stored, header: Header) -> bool:
    """Whether the entry's fields agree with each other, with the disk's size and the limits."""
    cluster = header.geometry.cluster_size
    data = entry.table_size * cluster  # bytes, clean parts included
    return bool(
        0 < data <= q.MAX_BITMAP_BYTES
        and 0 < entry.table_offset <= q.MAX_INT64 - entry.table_size * 8
        and not entry.table_offset % cluster
        and q.MIN_GRANULARITY_BITS <= entry.granularity_bits <= q.MAX_GRANULARITY_BITS
        and not entry.flags & ~q.BITMAP_FLAGS
        and 0 < len(entry.raw_name) <= q.MAX_BITMAP_NAME
        # A table may be too small only if the disk grew and the bitmap was not stored since.
        and (entry.in_use or header.size <= data * 8 << entry.granularity_bits)
    )


def read_table(file: Child, entry: Stored, geometry: q.Geometry) -> Entries:
    """An entry's table. Raises OSError; BadBitmaps where the table cannot be right."""
    if entry.table_offset >= file.length():
        raise BadBitmaps(f"Could not read bitmap_table table from image for bitmap '{entry.name}'")
    table = load_table(file, entry.table_offset, entry.table_size)
    offsets = table & np.uint64(q.OFFSET_MASK)
    wrong = (table & np.uint64(q.BITMAP_RESERVED)) != 0
    wrong |= (offsets & np.uint64(geometry.cluster_size - 1)) != 0
    wrong |= (offsets != 0) & ((table & np.uint64(q.BITMAP_ALL_ONES)) != 0)
    wrong |= offsets >= np.uint64(max(file.length(), 1))
    if wrong.any():
        raise BadBitmaps(
            f"Could not read bitmap_table table from image for bitmap '{entry.name}': "
            "Invalid argument"
        )
    return table


def extension_of(directory: Directory) -> bytes:
    return q.BITMAPS_EXTENSION.pack(len(directory.entries), 0, directory.size, directory.offset)


def pack_directory(entries: Sequence[Stored]) -> bytes:
    return b"".join(entry.pack() for entry in entries)
