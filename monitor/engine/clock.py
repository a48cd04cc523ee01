"""Time, injected: nothing below reads the host's clocks itself."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Seconds as floats. ``monotonic`` never runs backwards; ``wall`` is the time of day."""

    def monotonic(self) -> float: ...

    def wall(self) -> float: ...

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Blocks the calling thread until ``event`` is set or ``seconds`` have passed on this
        clock; whether the event is set. Never called on the control loop."""
        ...


class HostClock:
    """The host's clocks."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.wait(max(0.0, seconds))


class ManualClock:
    """A clock that stands until it is moved: for tests and for replays."""

    def __init__(self, start: float = 1_000_000.0) -> None:
        self._now = start
        self._moved = threading.Condition()

    def monotonic(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        with self._moved:
            self._now += seconds
            self._moved.notify_all()

    def wake(self) -> None:
        """Lets waiting threads look at their events again."""
        with self._moved:
            self._moved.notify_all()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        deadline = self._now + seconds
        with self._moved:
            while not event.is_set() and self._now < deadline:
                # The event may be set without a notify; look again every so often.
                self._moved.wait(0.01)
        return event.is_set()
