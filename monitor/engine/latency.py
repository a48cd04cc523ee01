"""How long requests have taken lately: the least, the most and the mean of an interval.

Two windows, one begun half a length after the other, take in the same requests; each is emptied
when its length has passed. Questions are answered from the older one, so that an answer never comes
from a window that has just been emptied. A window is 4/3 of the interval long, so that its age when
it is asked is between 2/3 and 4/3 of the interval.
"""

from __future__ import annotations

import threading
from typing import Final

from monitor.engine.accounting import FLUSH, READ, WRITE

TIMED: Final = {READ: "rd", WRITE: "wr", FLUSH: "flush"}
"""The kinds whose times are kept, by their names in an answer."""


class _Window:
    def __init__(self, end: float) -> None:
        self.end = end
        self.empty()

    def empty(self) -> None:
        self.least: int | None = None
        self.most = 0
        self.sum = 0
        self.count = 0

    def add(self, nanoseconds: int) -> None:
        self.least = nanoseconds if self.least is None else min(self.least, nanoseconds)
        self.most = max(self.most, nanoseconds)
        self.sum += nanoseconds
        self.count += 1


class Interval:
    """Times of one length, in seconds, of every kind. Called from any thread; ``now`` is the
    monotonic clock's, in seconds."""

    def __init__(self, seconds: int, now: float) -> None:
        self.seconds = seconds
        self._length = seconds * 4 / 3
        self._lock = threading.Lock()
        self._windows = {
            kind: [_Window(now + self._length / 2), _Window(now + self._length)] for kind in TIMED
        }

    def add(self, kind: int, nanoseconds: int, now: float) -> None:
        if kind in TIMED:
            with self._lock:
                self._older(kind, now)
                for window in self._windows[kind]:
                    window.add(nanoseconds)

    def figures(self, now: float) -> dict[str, int | float]:
        """By the names of QMP's ``BlockDeviceTimedStats``."""
        told: dict[str, int | float] = {"interval_length": self.seconds}
        with self._lock:
            for kind, name in TIMED.items():
                window = self._older(kind, now)
                told[f"min_{name}_latency_ns"] = window.least or 0
                told[f"max_{name}_latency_ns"] = window.most
                told[f"avg_{name}_latency_ns"] = window.sum // max(1, window.count)
                if kind != FLUSH:
                    age = self._length - (window.end - now)
                    told[f"avg_{name}_queue_depth"] = window.sum / 1e9 / age if age > 0 else 0.0
        return told

    def _older(self, kind: int, now: float) -> _Window:
        """The older window, once those whose time is over are empty."""
        windows = self._windows[kind]
        for window in windows:
            if window.end <= now:
                window.empty()
                window.end = now + self._length - (now - window.end) % self._length
        return min(windows, key=lambda window: window.end)
