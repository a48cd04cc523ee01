"""Sets of bit numbers as roaring bitmaps, looked at a window at a time as vectors.

pyroaring has one type for numbers below 2**32 and one for more, alike in what they can do; ``Bits``
is either, and the two never meet in one operation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pyroaring import BitMap

    Bits = BitMap
    Indexes = NDArray[np.uint64]

WINDOW: Final = 1 << 16
"""Bits that are looked at together: a millisecond of the interpreter at most."""


def empty_bits(count: int) -> Bits:
    """Clean bits, wide enough for ``count`` of them."""
    from pyroaring import BitMap, BitMap64

    made: Any = BitMap if count <= 1 << 32 else BitMap64
    bits: Bits = made()
    return bits


def bits_of(kind: type[Any], indexes: Indexes) -> Bits:
    """The bits at ``indexes``; ``kind`` is BitMap or BitMap64."""
    from pyroaring import BitMap

    from monitor.engine.arrays import np

    width = np.uint32 if kind is BitMap else np.uint64
    made: Bits = kind(indexes.astype(width))
    return made


_COOKIE = 12346
"""Of CRoaring's portable format without runs: containers of 65,536 bits each."""

_DENSE = 4096
"""Bits from which on a container is a plain bit set, in that format."""


def bits_of_words(kind: type[Any], first: int, words: memoryview) -> Bits:
    """The bits that are set in ``words`` (at most a window, least significant first), the first of
    which has the number ``first``."""
    from pyroaring import BitMap

    from monitor.engine.arrays import np

    if kind is BitMap and len(words) == WINDOW >> 3 and not first % WINDOW:
        count = int.from_bytes(words, "little").bit_count()
        if count > _DENSE:  # it is what roaring keeps itself: handed over in its own format
            head = np.array([_COOKIE, 1, first // WINDOW | (count - 1) << 16, 16], "<u4")
            made: Bits = kind.deserialize(head.tobytes() + bytes(words))
            return made
    flags = np.unpackbits(np.frombuffer(words, np.uint8), bitorder="little")
    return bits_of(kind, np.flatnonzero(flags).astype(np.uint64) + np.uint64(first))


def any_byte(data: memoryview) -> bool:
    """Whether any byte is not zero."""
    return bool(int.from_bytes(data, "little"))


def next_bit(bits: Bits, start: int) -> int | None:
    """The first set bit from ``start`` on."""
    try:
        found: int = bits.next_set_bit(start)
    except (ValueError, OverflowError):
        return None
    return found


def last_bit(bits: Bits) -> int:
    return bits.max() if bits else -1


def indexes_in(bits: Bits, first: int, end: int) -> Indexes:
    from monitor.engine.arrays import np

    found = (bits & type(bits)(range(first, end))).to_array()
    if not found:
        return np.empty(0, np.uint64)
    return np.frombuffer(found, f"u{found.itemsize}").astype(np.uint64)


def add_shifted(bits: Bits, indexes: Indexes, shift: int, end: int) -> None:
    """Sets, below ``end``, what ``indexes`` become in bits 2**shift times as large (small, where
    shift is negative)."""
    from monitor.engine.arrays import np

    if shift >= 0:
        coarse = indexes >> np.uint64(shift)
        bits |= bits_of(type(bits), coarse[np.append(True, np.diff(coarse) != 0)])
        return
    ratio = 1 << -shift
    if indexes[-1] - indexes[0] + 1 == len(indexes):
        bits.add_range(int(indexes[0]) * ratio, min(end, (int(indexes[-1]) + 1) * ratio))
    elif ratio >= 256:
        for index in indexes.tolist():
            bits.add_range(index * ratio, min(end, (index + 1) * ratio))
    else:
        pieces = -(-len(indexes) * ratio // WINDOW)
        for piece in np.array_split(indexes, pieces):
            fine = (piece[:, None] << np.uint64(-shift)) + np.arange(ratio, dtype="u8")
            bits |= bits_of(type(bits), fine[fine < end])
