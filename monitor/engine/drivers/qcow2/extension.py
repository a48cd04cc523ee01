"""The header's bitmaps extension: put in, changed and taken out, whatever a crash lets through.

The extension and its autoclear bit say together whether there are bitmaps: without the bit the
extension counts for nothing. ::

    fixed header ... autoclear ... | extensions | end mark | backing file's name

One that is there is changed by one write where it lies within a sector, else with the bit taken
away meanwhile. A new one goes behind the others: the name moves out of the way, what follows the
end mark is written, then the mark becomes the extension's head, then the bit is set. One that is
taken out loses the bit first, then the end mark takes the place of its head. Between any two of
these steps is a barrier, and each is within a sector or in a part that nobody reads yet.

Where the header was laid out by somebody else in a way that does not allow this, it is written
anew as a whole (``heading``).
"""

from __future__ import annotations

import struct

from monitor.engine.drivers.qcow2 import heading
from monitor.engine.drivers.qcow2 import layout as q
from monitor.engine.drivers.qcow2.header import Extension, Header
from monitor.engine.drivers.qcow2.image import Image

_BACKING_AT = 8
_BACKING = struct.Struct(">QI")  # backing_file_offset, backing_file_size


class HeaderUnknown(OSError):
    """A change of the header failed, and so did putting it back."""


def replace(image: Image, data: bytes | None) -> None:
    """Makes ``data`` the bitmaps extension, or takes it out (flush lock held). Raises OSError, and
    the header is as it was: ENOSPC where it outgrows its cluster; HeaderUnknown."""
    before = image.header.copy()
    try:
        _replace(image, data)
    except OSError as error:
        _put_back(image, before, error)
        raise


def _put_back(image: Image, before: Header, error: OSError) -> None:
    """After a step of ``_replace`` has failed."""
    try:
        _write_whole(image, before)
    except OSError:
        header = before.copy()
        header.extensions = [e for e in header.extensions if e.magic != q.EXT_BITMAPS]
        header.autoclear |= q.AUTOCLEAR_BITMAPS  # perhaps: ``begin_changes`` takes it away
        image.adopt(header)
        raise HeaderUnknown(*error.args) from error


def _replace(image: Image, data: bytes | None) -> None:
    present = image.header.extension(q.EXT_BITMAPS)
    if data is None:
        if present is not None:
            _set_bit(image, False)
            _take_out(image)
        return
    if present is None or len(present) != len(data):
        _set_bit(image, False)
        if present is not None:
            _take_out(image)
        _put_in(image, data)
    else:
        at = image.header.offset_of(q.EXT_BITMAPS) + q.EXTENSION.size
        if not _in_one_sector(at, len(data)):
            _set_bit(image, False)
        _write(image, data, at)
        image.header.extensions = [
            Extension(q.EXT_BITMAPS, data) if e.magic == q.EXT_BITMAPS else e
            for e in image.header.extensions
        ]
    _set_bit(image, True)


def _set_bit(image: Image, wanted: bool) -> None:
    header = image.header
    bits = header.autoclear & ~q.AUTOCLEAR_BITMAPS | (q.AUTOCLEAR_BITMAPS if wanted else 0)
    if bits != header.autoclear:
        image.write_features(autoclear=bits)


def _take_out(image: Image) -> None:
    rest = [e for e in image.header.extensions if e.magic != q.EXT_BITMAPS]
    header = _with(image.header, rest)
    last = image.header.extensions[-1].magic == q.EXT_BITMAPS and len(rest) + 1 == len(
        image.header.extensions
    )
    at = image.header.offset_of(q.EXT_BITMAPS)
    if last and _in_one_sector(at, q.EXTENSION.size):
        _write(image, q.EXTENSION.pack(q.EXT_END, 0), at)
        image.adopt(header)
    else:
        _write_whole(image, header)


def _put_in(image: Image, data: bytes) -> None:
    header = _with(image.header, [*image.header.extensions, Extension(q.EXT_BITMAPS, data)])
    at = header.offset_of(q.EXT_BITMAPS)
    end = at + 2 * q.EXTENSION.size + len(data)
    raw = bytearray(1 << image.bits)
    image.file.read(memoryview(raw), 0)
    name_at, name_size = _BACKING.unpack_from(raw, _BACKING_AT)
    new_at = (max(end, name_at + name_size) + 7) & ~7
    first = image.header.header_length
    marked = (
        raw[first:at] == image.header.pack()[first:at]  # not after ``HeaderUnknown``
        and q.EXTENSION.unpack_from(raw, at)[0] == q.EXT_END
        and at + q.EXTENSION.size <= (name_at or len(raw))
    )
    if not marked or not _in_one_sector(at, q.EXTENSION.size) or new_at + name_size > len(raw):
        _write_whole(image, header)
        return
    if name_size:
        _write(image, bytes(raw[name_at : name_at + name_size]), new_at)
        _write(image, _BACKING.pack(new_at, name_size), _BACKING_AT)
    head = q.EXTENSION.pack(q.EXT_BITMAPS, len(data))
    _write(image, data + q.EXTENSION.pack(q.EXT_END, 0), at + len(head))
    _write(image, head, at)
    image.adopt(header)


def _with(header: Header, extensions: list[Extension]) -> Header:
    """A copy with other extensions. Raises OSError(ENOSPC)."""
    copy = header.copy()
    copy.extensions = extensions
    copy.pack()
    return copy


def _write_whole(image: Image, header: Header) -> None:
    with image.lock:
        heading.replace(image, header)


def _write(image: Image, data: bytes, at: int) -> None:
    image.file.write(memoryview(data), at)
    image.file.flush()


def _in_one_sector(at: int, size: int) -> bool:
    return at // q.SECTOR == (at + size - 1) // q.SECTOR
