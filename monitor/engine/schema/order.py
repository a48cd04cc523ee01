"""Which of several superfluous members QEMU names first: the order of its hash tables.

QEMU copies the members of an object into GLib's hash table, strikes out each one that it visits,
and complains about the first place still taken. Nothing depends on that order, but with it our
error is the same as QEMU's for the same request, which is what transcripts and tests compare.
(The other order that QEMU shows, that of members in a reply, is in ``wire.qmpjson``.)
"""

from __future__ import annotations

from collections.abc import Iterable

from monitor.wire.qmpjson import member_order

_UNUSED, _STRUCK = 0, 1
_PRIMES = (1, 2, 3, 7, 13, 31, 61, 127, 251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521)
_MAX_NAMES = 4096  # more are not worth the arithmetic; whoever sends them gets the first as written


def first_left(members: Iterable[str], visited: Iterable[str]) -> str:
    """The member not in ``visited`` (visited in that order) that QEMU would name."""
    members = list(members)
    visited = [name for name in visited if name in members]
    if len(members) - len(visited) == 1 or len(members) > _MAX_NAMES:
        known = frozenset(visited)
        return next(name for name in members if name not in known)
    table = _Table()
    for name in member_order(members):
        table.insert(name)
    for name in visited:
        table.strike(name)
    return table.first()


def _hash(name: str) -> int:
    value = 5381
    for byte in name.encode("utf-8", "surrogateescape"):
        value = value * 33 + (byte - 256 if byte > 127 else byte) & 0xFFFFFFFF
    return value if value > _STRUCK else 2


class _Table:
    """GLib's GHashTable of strings: open addressing, steps of 1, 2, 3…, 8 places at first."""

    def __init__(self) -> None:
        self._hashes = [_UNUSED] * 8
        self._names = [""] * 8
        self._taken = 0  # places in use
        self._soiled = 0  # places in use or struck out

    def insert(self, name: str) -> None:
        code = _hash(name)
        place = self._place(code, [code == _UNUSED for code in self._hashes])
        self._hashes[place], self._names[place] = code, name
        self._taken += 1
        self._soiled += 1
        self._fit()

    def strike(self, name: str) -> None:
        place = self._names.index(name)
        self._hashes[place], self._names[place] = _STRUCK, ""
        self._taken -= 1
        self._fit()

    def first(self) -> str:
        return next(n for n, code in zip(self._names, self._hashes, strict=True) if code > _STRUCK)

    def _place(self, code: int, free: list[bool]) -> int:
        size = len(free)
        place = (code * 11 & 0xFFFFFFFF) % _PRIMES[size.bit_length() - 1]
        step = 0
        while not free[place]:
            step += 1
            place = place + step & size - 1
        return place

    def _fit(self) -> None:
        size = len(self._hashes)
        if (size > self._taken * 4 and size > 8) or size <= self._soiled + self._soiled // 16:
            self._resize(1 << max(3, int(self._taken * 1.333).bit_length()))

    def _resize(self, size: int) -> None:
        """Rehashes in place: an entry that is in the way moves on before its own turn."""
        old = len(self._hashes)
        free = [True] * max(size, old)
        self._hashes += [_UNUSED] * (size - old)
        self._names += [""] * (size - old)
        for start in range(old):
            code, name = self._hashes[start], self._names[start]
            if not free[start]:
                continue
            self._hashes[start], self._names[start] = _UNUSED, ""
            while code > _STRUCK:
                place = self._place(code, free[:size])
                free[place] = False
                code, self._hashes[place] = self._hashes[place], code
                name, self._names[place] = self._names[place], name
        del self._hashes[size:], self._names[size:]
        self._soiled = self._taken
