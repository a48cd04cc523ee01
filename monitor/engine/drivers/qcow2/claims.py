"""Guest clusters that somebody allocates: whoever wants to change where they lie waits.

Requests wait in order of arrival: one waits for the claims that are there, and for those who waited
before it and want some of the same clusters. So nobody waits for ever, however many guests write.
Who has a claim waits for no other, and whoever waits has none.
"""

from __future__ import annotations

import threading
from itertools import chain, takewhile

from monitor.engine.arrays import NDArray, np

Clusters = NDArray[np.intp]


class Claim:
    """The guest clusters from ``first`` to ``last``, or only ``some`` of them (ascending)."""

    __slots__ = ("first", "last", "some")

    def __init__(self, first: int, last: int, some: Clusters | None = None) -> None:
        self.first = first
        self.last = last
        self.some = some

    def conflicts(self, other: Claim) -> bool:
        if self.first > other.last or other.first > self.last:
            return False
        if self.some is not None:
            return _any_in(self.some, other)
        return other.some is None or _any_in(other.some, self)


def _any_in(clusters: Clusters, claim: Claim) -> bool:
    """Whether ``claim`` covers any of ``clusters``."""
    if claim.some is None:
        at = int(np.searchsorted(clusters, claim.first))
        return at < len(clusters) and int(clusters[at]) <= claim.last
    places = np.searchsorted(clusters, claim.some)
    places[places == len(clusters)] = 0
    return bool((clusters[places] == claim.some).any())


class Claims:
    """All of an image's. ``lock`` is the image's, and held by who calls."""

    def __init__(self, lock: threading.Lock) -> None:
        self._changed = threading.Condition(lock)
        self._taken: list[Claim] = []
        self._waiting: list[Claim] = []  # in order of arrival

    def __bool__(self) -> bool:
        return bool(self._taken or self._waiting)

    def wait(self, first: int, count: int, some: Clusters | None = None) -> None:
        """Until nobody allocates any of these clusters; the lock is let go while waiting."""
        if not self._taken and not self._waiting:
            return
        wanted = Claim(first, first + count - 1, some)
        if not self._is_held_up(wanted):
            return
        self._waiting.append(wanted)
        try:
            while self._is_held_up(wanted):
                self._changed.wait()
        finally:
            self._waiting.remove(wanted)
            self._changed.notify_all()  # of those who came later; they look once the lock is free

    def _is_held_up(self, wanted: Claim) -> bool:
        earlier = takewhile(lambda other: other is not wanted, self._waiting)
        return any(other.conflicts(wanted) for other in chain(self._taken, earlier))

    def take(self, first: int, count: int, some: Clusters | None = None) -> Claim:
        """Nobody has claimed any of them."""
        claim = Claim(first, first + count - 1, some)
        self._taken.append(claim)
        return claim

    def give_up(self, claim: Claim) -> None:
        self._taken.remove(claim)
        if self._waiting:
            self._changed.notify_all()
