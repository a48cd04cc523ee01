"""Dirty bitmaps as little-endian words of 64 bits: how images store them and QEMU hashes them."""

from __future__ import annotations

from collections.abc import Iterator

from monitor.engine.bitmap import DirtyBitmap
from monitor.engine.bits import WINDOW, any_byte, bits_of_words, empty_bits


def words_of(bitmap: DirtyBitmap, first: int, count: int) -> Iterator[memoryview]:
    """``count`` words from word ``first`` on, in pieces of at most WINDOW bits; those beyond the
    end of the disk are clean."""
    from monitor.engine.arrays import np

    end = (first + count) << 6
    at = first << 6
    clean = np.zeros(WINDOW >> 3, np.uint8)
    while at < end:
        stop = min(end, (at | (WINDOW - 1)) + 1)
        dirty = bitmap.indexes(at, stop)
        if not len(dirty):
            yield clean.data[: (stop - at) >> 3]
        else:
            flags = np.zeros(stop - at, np.bool_)
            flags[dirty - np.uint64(at)] = True
            yield np.packbits(flags, bitorder="little").data
        at = stop


def load_words(bitmap: DirtyBitmap, first: int, words: memoryview) -> None:
    """Makes dirty what is set in ``words`` (bytes), from word ``first`` on; what lies beyond the
    end of the disk is left out."""
    kind = type(empty_bits(bitmap.bit_count))
    for begin in range(0, len(words), WINDOW >> 3):
        piece = words[begin : begin + (WINDOW >> 3)]
        if any_byte(piece):
            bitmap.include(bits_of_words(kind, (first << 6) + (begin << 3), piece))


def sha256(bitmap: DirtyBitmap) -> str:
    """Of the words, one at least. Slow for many bits: in a worker."""
    import hashlib

    digest = hashlib.sha256()
    for piece in words_of(bitmap, 0, max(1, -(-bitmap.bit_count >> 6))):
        digest.update(piece)
    return digest.hexdigest()
