"""Where the control loop and a job's thread meet: pausing, sleeping, cancelling.

The loop decides and raises flags; the thread looks at them at its pause points, between two pieces
of work, when it is in no lane and holds no lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from monitor.engine.clock import Clock


class JobCancelled(Exception):
    """Raised in a job's thread, at a pause point, once the job is to stop at once."""


class Pausing:
    """The reasons to stand still, told apart, and the thread's side of them.

    ``user``: job-pause, or an error under a policy that stops; job-resume ends it.
    ``drains``: drained sections on the job's nodes, nested.

    ``parked`` is called from the thread when it stands at a pause point. It carries the number of
    the pause that the thread saw, so that a late word about a pause that has ended is recognised.
    """

    def __init__(self, clock: Clock, parked: Callable[[int], None]) -> None:
        self._clock = clock
        self._parked = parked
        self._go = threading.Event()
        self._go.set()
        self._kick = threading.Event()
        self._lock = threading.Lock()  # a job's thread may pause its own job, for an error
        self.user = False
        self.drains = 0
        self.number = 0
        self.cancelled = False
        self.idle = False
        """The thread sleeps or is parked (QMP's ``busy`` is the opposite)."""

    @property
    def wanted(self) -> bool:
        return self.user or self.drains > 0

    # -- the loop's side ---------------------------------------------------------------------

    def pause_user(self) -> None:
        """Also called by the job's thread, for an error that stops the job."""
        with self._lock:
            self.user = True
            self._update()

    def resume_user(self) -> None:
        with self._lock:
            self.user = False
            self._update()

    def pause_drain(self) -> None:
        with self._lock:
            self.drains += 1
            self._update()

    def resume_drain(self) -> None:
        with self._lock:
            self.drains -= 1
            self._update()

    def cancel(self) -> None:
        """The next pause point raises JobCancelled; a parked or sleeping thread is there now."""
        with self._lock:
            self.cancelled = True
            self._update()

    def kick(self) -> None:
        """Ends a sleep early: what it waited for may have changed."""
        self._kick.set()

    def _update(self) -> None:
        if not self.wanted or self.cancelled:
            self._go.set()
        elif self._go.is_set():
            self.number += 1
            self._go.clear()
        self._kick.set()

    # -- the thread's side -------------------------------------------------------------------

    def point(self) -> None:
        """A pause point: returns when nothing asks to stand still. Raises JobCancelled."""
        while not self._go.is_set():
            self.idle = True
            self._parked(self.number)
            self._go.wait()
        self.idle = False
        if self.cancelled:
            raise JobCancelled

    def sleep(self, delay: Callable[[], float]) -> None:
        """Waits until ``delay()``, in seconds and asked again after every kick, is 0.0. A pause
        point before, after and in between. Raises JobCancelled."""
        while True:
            self.point()
            self._kick.clear()
            seconds = delay()
            if seconds <= 0:
                return
            if self._go.is_set() and not self.cancelled:
                self.idle = True
                self._clock.wait(self._kick, seconds)
                self.idle = False
