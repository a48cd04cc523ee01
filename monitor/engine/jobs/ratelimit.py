"""A job's speed limit."""

from __future__ import annotations

import threading
from typing import Final

from monitor.engine.clock import Clock

SLICE: Final = 0.1
"""Seconds of credit that an idle job saves up: short bursts go through unhindered."""


class RateLimit:
    """Paces work at ``speed`` units a second; 0 is no limit.

    Work is done first and paid for afterwards: ``spend`` books it, ``delay`` says how long to wait
    before the next piece. A new speed takes effect at once, also for what is booked already:
    debt is kept in units, not in seconds.
    """

    def __init__(self, clock: Clock, speed: int = 0) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._debt = 0.0
        self._at = clock.monotonic()
        self._speed = speed

    @property
    def speed(self) -> int:
        return self._speed

    def set_speed(self, speed: int) -> None:
        with self._lock:
            self._pay()
            self._speed = speed
            if not speed:
                self._debt = 0.0

    def spend(self, units: int) -> None:
        with self._lock:
            self._pay()
            if self._speed:
                self._debt += units

    def delay(self) -> float:
        """Seconds until the next piece of work may begin; 0.0: now."""
        with self._lock:
            self._pay()
            if not self._speed:
                return 0.0
            return max(0.0, self._debt / self._speed)

    def _pay(self) -> None:
        now = self._clock.monotonic()
        credit = -SLICE * self._speed
        self._debt = max(credit, self._debt - (now - self._at) * self._speed)
        self._at = now
