"""Counting requests where they enter the graph: at the lanes of a client.

Each lane has counters of its own that only its thread changes, so that counting takes no lock and
costs a few additions a request. A question sums over the lanes. A lane that is dropped leaves its
figures with the account, which lives as long as the drive.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from monitor.engine.clock import Clock


class Kind(enum.IntEnum):
    """What is counted apart; an index of the counters' lists."""

    READ = 0
    WRITE = 1
    FLUSH = 2
    UNMAP = 3


class Counters:
    """Sums of one thread, by kind: bytes, operations and nanoseconds of requests that succeeded,
    and how many failed. ``last`` is when the last one ended."""

    __slots__ = ("bytes", "failed", "last", "nanoseconds", "operations")

    def __init__(self) -> None:
        self.bytes = [0, 0, 0, 0]
        self.operations = [0, 0, 0, 0]
        self.nanoseconds = [0, 0, 0, 0]
        self.failed = [0, 0, 0, 0]
        self.last = 0.0
        """Seconds of the monotonic clock; 0.0 before the first."""

    def done(self, kind: Kind, length: int, began: float, now: float) -> None:
        self.bytes[kind] += length
        self.operations[kind] += 1
        self.nanoseconds[kind] += round((now - began) * 1e9)
        self.last = now

    def has_failed(self, kind: Kind, began: float, now: float) -> None:
        """Failed requests take their time too, and end idleness (QEMU's stats-account-failed)."""
        self.failed[kind] += 1
        self.nanoseconds[kind] += round((now - began) * 1e9)
        self.last = now

    def add(self, other: Counters) -> None:
        for name in ("bytes", "operations", "nanoseconds", "failed"):
            mine, more = getattr(self, name), getattr(other, name)
            mine[:] = [a + b for a, b in zip(mine, more, strict=True)]
        self.last = max(self.last, other.last)

    @contextmanager
    def counting(self, kind: Kind, length: int, clock: Clock) -> Iterator[None]:
        """Counts the request made inside: a failed one when OSError leaves it."""
        began = clock.monotonic()
        try:
            yield
        except OSError:
            self.has_failed(kind, began, clock.monotonic())
            raise
        self.done(kind, length, began, clock.monotonic())


class Account:
    """What has gone through a drive, whoever's threads made the requests."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._past = Counters()
        self._live: list[Counters] = []

    def open(self) -> Counters:
        """Counters for one more thread."""
        counters = Counters()
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
