"""The header written anew as a whole, whatever part of a write a power cut lets through.

A disk writes a sector whole or not at all, and a header with QEMU's names of features takes two or
more. The first sector says where all else lies, so it is the switch::

    | fields, extensions ... | ... extensions, end mark | backing file's name |
      first sector             what follows

    1  first sector   without the names of features, which nobody needs: what follows holds no more
                      than the old backing file's name now
                      -- barrier --
    2  what follows   a new name, clear of the old one, and the extensions that reach beyond
                      -- barrier --
    3  first sector   the new one
                      -- barrier --

Where the new extensions would lie on the old name they are left out of step 3, and follow it. A
header that has no room for this (tiny clusters, long names) is written at once.
"""

from __future__ import annotations

import struct
from contextlib import suppress

from monitor.engine.drivers.qcow2 import layout as q
from monitor.engine.drivers.qcow2.header import Header
from monitor.engine.drivers.qcow2.image import Image

_BACKING_AT = 8
_BACKING = struct.Struct(">QI")  # backing_file_offset, backing_file_size


def replace(image: Image, header: Header) -> None:
    """``header`` is on the disk, and the image's (flush lock and lock held). Raises OSError: ENOSPC
    where it outgrows its cluster, and then nothing has changed."""
    with image.header_lock:
        header.incompatible = image.header.incompatible  # it may be a late copy
        packed = header.pack()
        steps = _Steps(image, header)
        if steps.possible:
            steps.take()
            return
        length = -(-max(len(packed), len(image.header.pack())) // q.SECTOR) * q.SECTOR
        _write(image, header, packed.ljust(length, b"\0"))


def replace_at_once(image: Image, header: Header) -> None:
    """``header`` without the names of features, by one write, where it takes one sector and the
    backing file's name may stay where it is: on a disk that fails so that there can be no barriers.
    Else nothing (flush lock and lock held). Raises OSError."""
    with image.header_lock:
        header.incompatible = image.header.incompatible
        _Steps(image, header).take_first_sector()


class _Steps:
    """How one header becomes another."""

    def __init__(self, image: Image, header: Header) -> None:
        self._image = image
        self._header = header
        self._short = _without_names(header)
        self._short_old = _without_names(image.header)
        fields = bytearray(_BACKING.size)
        image.file.read(memoryview(fields), _BACKING_AT)
        old_at, old_size = _BACKING.unpack(fields)
        self._old_at: int = old_at
        self._old_end: int = old_at + old_size
        self._end = header.extensions_end
        self._at = self._end
        """Where the new name is to lie."""
        if self._covers_old_name(self._end, self._end + self._name_size):
            self._at = self._old_end

    @property
    def _name_size(self) -> int:
        return len(self._header.backing_file or b"")

    def _covers_old_name(self, start: int, end: int) -> bool:
        return start < self._old_end and self._old_at < end

    @property
    def possible(self) -> bool:
        image = self._image
        if image.header.extensions_end > q.SECTOR:
            limit = min(q.SECTOR, self._old_at or q.SECTOR)
            if self._short_old.extensions_end > limit:
                return False
        if self._short.extensions_end > q.SECTOR:
            return False
        return self._at + self._name_size <= image.geometry.cluster_size

    def take(self) -> None:
        image, header, at = self._image, self._header, self._at
        whole = header.pack(at)
        used = max(self._old_end, image.header.extensions_end, len(whole))
        if image.header.extensions_end > q.SECTOR:
            self._switch(self._short_old, self._old_at)
        late = self._covers_old_name(q.SECTOR, max(q.SECTOR, self._end))
        self._put([(at, len(whole))] if late else [(0, self._end), (at, len(whole))], whole)
        self._switch(self._short if late else header, at)
        rest = memoryview(whole.ljust(-(-used // q.SECTOR) * q.SECTOR, b"\0"))[q.SECTOR :]
        if late:
            image.file.write(rest, q.SECTOR)
            image.file.flush()
            self._switch(header, at)
        elif rest:
            with suppress(OSError):  # all that counts is on the disk; nothing of the old is better
                image.file.write(rest, q.SECTOR)

    def take_first_sector(self) -> None:
        if self._short.extensions_end <= min(q.SECTOR, self._old_at or q.SECTOR):
            self._switch(self._short, self._old_at)

    def _put(self, parts: list[tuple[int, int]], whole: bytes) -> None:
        """What lies of ``parts`` (begin, end) behind the first sector."""
        parts = [(max(q.SECTOR, begin), end) for begin, end in parts if end > q.SECTOR]
        for begin, end in parts:
            self._image.file.write(memoryview(whole[begin:end]), begin)
        if parts:
            self._image.file.flush()

    def _switch(self, header: Header, name_at: int) -> None:
        first = header.pack(name_at)[: q.SECTOR]
        _write(self._image, header, first.ljust(q.SECTOR, b"\0"))


def _without_names(header: Header) -> Header:
    copy = header.copy()
    copy.extensions = [e for e in header.extensions if e.magic != q.EXT_FEATURE_NAMES]
    return copy


def _write(image: Image, header: Header, data: bytes) -> None:
    """The header from its beginning. It is the image's though the flush may fail: it may come to
    the disk, and who is to take it out again must see it."""
    image.header_unsure = True
    image.file.write(memoryview(data), 0)
    image.header = header
    image.file.flush()
    image.header_unsure = False
