"""Counting requests where they enter the graph: at the lanes of a client.

Each lane has counters of its own that only its thread changes, so that counting takes no lock and
costs a few additions a request. A question sums over the lanes. A lane that is dropped leaves its
figures with the account, which lives as long as the drive.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from monitor.engine.latency import Interval

READ: Final = 0
WRITE: Final = 1
FLUSH: Final = 2
UNMAP: Final = 3
"""The kinds that are counted apart: indices of the counters' lists (plain integers, since an
enumeration's members are three times as slow there)."""


class Counters:
    """Sums of one thread, by kind: bytes, operations and nanoseconds of requests that succeeded,
    and how many failed. ``last`` is when the last one ended. Times that are passed are seconds of
    the monotonic clock."""

    __slots__ = ("_account", "bytes", "failed", "last", "nanoseconds", "operations")

    def __init__(self, account: Account | None = None) -> None:
        self._account = account
        self.bytes = [0, 0, 0, 0]
        self.operations = [0, 0, 0, 0]
        self.nanoseconds = [0, 0, 0, 0]
        self.failed = [0, 0, 0, 0]
        self.last = 0.0
        """0.0 before the first."""

    def done(self, kind: int, length: int, began: float, now: float) -> None:
        self.bytes[kind] += length
        self.operations[kind] += 1
        self._took(kind, int((now - began) * 1e9), now)

    def has_failed(self, kind: int, began: float, now: float) -> None:
        """Failed requests take their time too, and end idleness, unless the account is told not to
        (QEMU's stats-account-failed)."""
        self.failed[kind] += 1
        if self._account is None or self._account.account_failed:
            self._took(kind, int((now - began) * 1e9), now)

    def _took(self, kind: int, nanoseconds: int, now: float) -> None:
        self.nanoseconds[kind] += nanoseconds
        self.last = now
        if self._account is not None:
            for interval in self._account.intervals:
                interval.add(kind, nanoseconds, now)

    def add(self, other: Counters) -> None:
        for name in ("bytes", "operations", "nanoseconds", "failed"):
            mine, more = getattr(self, name), getattr(other, name)
            mine[:] = [a + b for a, b in zip(mine, more, strict=True)]
        self.last = max(self.last, other.last)


class Account:
    """What has gone through a drive, whoever's threads made the requests."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._past = Counters()
        self._live: list[Counters] = []
        self.account_invalid = True
        """Whether requests that could not be made end idleness; here all can."""
        self.account_failed = True
        self.intervals: tuple[Interval, ...] = ()

    def open(self) -> Counters:
        """Counters for one more thread."""
        counters = Counters(self)
        with self._lock:
            self._live.append(counters)
        return counters

    def close(self, counters: Counters) -> None:
        """The thread counts no more; its figures stay."""
        with self._lock:
            self._live.remove(counters)
            self._past.add(counters)

    def total(self) -> Counters:
        """The sum as of now. What threads are counting at this moment may be half in it."""
        with self._lock:
            return _sum([self._past, *self._live])


def _sum(parts: Iterable[Counters]) -> Counters:
    total = Counters()
    for part in parts:
        total.add(part)
    return total
