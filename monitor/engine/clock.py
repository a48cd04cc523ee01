"""Time, injected: nothing below reads the host's clocks itself."""

from __future__ import annotations

import math
import threading
import time
from typing import Final, Protocol


class Clock(Protocol):
    """Seconds as floats. ``monotonic`` never runs backwards; ``wall`` is the time of day."""

    def monotonic(self) -> float: ...

    def wall(self) -> float: ...

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Blocks the calling thread until ``event`` is set or ``seconds`` have passed on this
        clock; whether the event is set. Never called on the control loop."""
        ...

    def stand(self, stands: bool) -> None:
        """Whether time passes by ``advance`` and ``tick`` only from now on."""
        ...

    def advance(self, seconds: float) -> None:
        """Time passes at once, where it stands."""
        ...

    def tick(self) -> None:
        """A guest's request has been served, which takes ``TICK`` where time stands."""
        ...


TICK: Final = 2.0**-10
"""Seconds that a request takes on a clock that stands: 1 MiB is 1 GiB/sec."""
EPOCH: Final = 1_577_836_800.0
"""The time of day at which a replay begins: 2020-01-01 00:00:00 UTC."""


class HostClock:
    """The host's clocks. While they stand, time passes by what is done only, so that in a replay it
    passes alike each time: who waits for it to pass makes it pass, and each request takes a
    little."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self._began = 0.0
        self._now: float | None = None
        self._lock = threading.Lock()

    def stand(self, stands: bool) -> None:
        with self._lock:
            if stands and self._now is None:
                # A whole number, so that sums of small steps are exact.
                self._now = self._began = math.ceil(time.monotonic() + self._ahead)
            elif not stands and self._now is not None:
                self._ahead, self._now = self._now - time.monotonic(), None

    def monotonic(self) -> float:
        now = self._now
        return time.monotonic() + self._ahead if now is None else now

    def wall(self) -> float:
        now = self._now
        return time.time() if now is None else EPOCH + (now - self._began)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        if self._now is None or seconds == math.inf:
            return event.wait(None if seconds == math.inf else max(0.0, seconds))
        if not event.is_set():
            self.advance(max(0.0, seconds))
        return event.is_set()

    def advance(self, seconds: float) -> None:
        with self._lock:
            if self._now is not None:
                self._now += seconds

    def tick(self) -> None:
        self.advance(TICK)


class ManualClock:
    """A clock that stands until a test moves it; threads wait until it is moved far enough."""

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

    def stand(self, stands: bool) -> None:
        """It stands."""

    def tick(self) -> None:
        """A test says what takes time."""

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
