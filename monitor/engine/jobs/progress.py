"""How far a job is, and how fast it moves."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from monitor.engine.clock import Clock

WINDOW: Final = 4.0
"""Seconds that the rate is taken over."""
_SAMPLE: Final = 0.25
"""Seconds between two samples, at least: the window holds a handful."""


class Progress:
    """``current`` of ``total``, in the job's own unit (bytes for block jobs).

    Written by the job's threads, which is when ``moved`` is called, and read by the control loop.
    ``current`` never runs backwards and ``total`` never falls below it.
    """

    def __init__(self, clock: Clock, moved: Callable[[], None] = lambda: None) -> None:
        self._clock = clock
        self._moved = moved
        self._lock = threading.Lock()
        self._samples: deque[tuple[float, int]] = deque()
        self.current = 0
        self.total = 0

    def advance(self, done: int) -> None:
        """``done`` more units are finished."""
        assert done >= 0
        with self._lock:
            self._sample()
            self.current += done
            self.total = max(self.total, self.current)
        self._moved()

    def advance_beyond(self, done: int) -> None:
        """``done`` more units are finished that were not among those left to do."""
        with self._lock:
            self._sample()
            self.current += done
            self.total += done
        self._moved()

    def set_remaining(self, remaining: int) -> None:
        """So much is left to do, beyond what is done."""
        assert remaining >= 0
        with self._lock:
            self._sample()
            self.total = self.current + remaining

    def rate(self) -> float | None:
        """Units a second over the last seconds; None while nothing can be said."""
        now = self._clock.monotonic()
        with self._lock:
            if not self._samples:
                return None
            self._sample()  # so that a job that stands still is seen to
            since, then = self._samples[0]
            return (self.current - then) / (now - since) if now > since else None

    def forget_rate(self) -> None:
        """What was measured up to now says nothing of what comes."""
        with self._lock:
            self._samples.clear()

    def _sample(self) -> None:
        now = self._clock.monotonic()
        if not self._samples or now - self._samples[-1][0] >= _SAMPLE:
            self._samples.append((now, self.current))
            self._forget(now)

    def _forget(self, now: float) -> None:
        # The newest sample outside the window stays: it is where the window's slope begins.
        while len(self._samples) > 1 and self._samples[1][0] <= now - WINDOW:
            self._samples.popleft()
