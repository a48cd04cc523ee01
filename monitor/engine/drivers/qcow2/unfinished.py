"""A mark in the header while a job fills the image, so that what a kill leaves tells of itself.

The mark is a header extension of this project's: it holds a line of text. Other programs pass over
an extension that they do not know, and keep it when they rewrite the header; the image stays an
ordinary one for them.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from monitor.engine.drivers.qcow2 import heading, writeback
from monitor.engine.drivers.qcow2.header import Extension, Header
from monitor.engine.drivers.qcow2.image import Image

MAGIC: Final = 0x626C6B6D
"""``blkm``."""
MOST: Final = 256
"""Bytes of text that are kept, and that are believed."""


def mark_of(header: Header) -> str | None:
    """The text of an image's mark."""
    data = header.extension(MAGIC)
    return None if data is None else data[:MOST].decode("utf-8", "replace")


def extension(text: str) -> Extension:
    """The mark, for a header."""
    return Extension(MAGIC, text.encode("utf-8", "surrogateescape")[:MOST])


def mark(image: Image, text: str | None) -> None:
    """Puts a mark in, before anything that was written is linked, or takes it out, when all is on
    the disk. The header is on the disk then. Where it has no room there will be no mark. Raises
    OSError."""
    wanted = None if text is None else extension(text)
    there = image.header.extension(MAGIC)
    if there == (None if wanted is None else wanted.data) and not image.header_unsure:
        return
    if not image.changing:
        image.begin_changes()
    with image.flush_lock:
        if wanted is None:
            writeback.flush_locked(image)
        with image.lock:
            header = _with(image.header, wanted)
            if wanted is None or _fits(header):
                heading.replace(image, header)


def put_back(image: Image, text: str) -> None:
    """The mark, after it was to be put in or taken out, whatever the disk has refused of that: by
    one write, where it refuses barriers. Raises nothing."""
    with suppress(OSError):
        mark(image, text)
        return
    with suppress(OSError), image.flush_lock, image.lock:
        heading.replace_at_once(image, _with(image.header, extension(text)))


def _with(header: Header, mark: Extension | None) -> Header:
    """A copy with this mark, or without any."""
    copy = header.copy()
    copy.extensions = [e for e in header.extensions if e.magic != MAGIC]
    if mark is not None:
        copy.extensions.append(mark)
    return copy


def _fits(header: Header) -> bool:
    try:
        header.pack()
    except OSError:
        return False
    return True
