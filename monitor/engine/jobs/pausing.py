"""Where the control loop and a job's thread meet: pausing, sleeping, cancelling.

The loop decides and raises flags; the thread looks at them at its pause points, between two pieces
of work, when it is in no lane and holds no lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from monitor.engine.clock import Clock

_INSTANT = 1e-6
"""Seconds that are as good as none: what is left of a sleep by rounding."""


class JobCancelled(Exception):
    """Raised in a job's thread, at a pause point, once the job is to stop at once."""


class Pausing:
    """The reasons to stand still, told apart, and the thread's side of them.

    ``user``: job-pause, or an error under a policy that stops; job-resume ends it.
    ``drains``: drained sections on the job's nodes, nested.
    ``held``: the job goes by steps (``monitor.engine.jobs.stepping``): each pause point takes a
    leave of its own.

    ``parked`` is called from the thread when it stands at a pause point. It carries the number of
    the pause that the thread saw, so that a late word about a pause that has ended is recognised.
    ``stands`` is called when a held thread has nothing to do until one of the reasons changes; it
    carries the number of changes that the thread has seen, and the time at which a sleep ends.
    """

    def __init__(
        self,
        clock: Clock,
        parked: Callable[[int], None],
        stands: Callable[[int, float], None] = lambda changes, wakes_at: None,
    ) -> None:
        self._clock = clock
        self._parked = parked
        self._stands = stands
        self._kick = threading.Event()
        # Guards what follows: a job's thread may pause its own job, for an error.
        self._changed = threading.Condition()
        self.changes = 0
        self.user = False
        self.drains = 0
        self.number = 0
        self.cancelled = False
        self.held = False
        self._leave = False
        self._halted = False
        self.idle = False
        """The thread sleeps or is parked (QMP's ``busy`` is the opposite)."""

    @property
    def wanted(self) -> bool:
        return self.user or self.drains > 0

    # -- the loop's side ---------------------------------------------------------------------

    def pause_user(self) -> None:
        """Also called by the job's thread, for an error that stops the job."""
        with self._changed:
            self.user = True
            self._update()

    def resume_user(self) -> None:
        with self._changed:
            self.user = False
            self._update()

    def pause_drain(self) -> None:
        with self._changed:
            self.drains += 1
            self._update()

    def resume_drain(self) -> None:
        with self._changed:
            self.drains -= 1
            self._update()

    def cancel(self) -> None:
        """The next pause point raises JobCancelled; a parked or sleeping thread is there now."""
        with self._changed:
            self.cancelled = True
            self._update()

    def kick(self) -> None:
        """Ends a sleep early: what it waited for may have changed."""
        with self._changed:
            self._update()

    def hold(self, held: bool) -> None:
        """From now on the thread passes a pause point only by ``let_go``; or freely again."""
        with self._changed:
            self.held = held
            self._leave = False
            self._update()

    def let_go(self) -> None:
        """A held thread may pass one pause point, once it has slept to its end."""
        with self._changed:
            self._leave = True
            self._update()

    def _update(self) -> None:
        halted = self.wanted and not self.cancelled
        if halted and not self._halted:
            self.number += 1
        self._halted = halted
        self.changes += 1
        self._kick.set()
        self._changed.notify_all()

    # -- the thread's side -------------------------------------------------------------------
    #
    # ``seen`` is read before what is decided by: a change in between ends the wait at once.

    def point(self) -> None:
        """A pause point: returns when nothing asks to stand still. Raises JobCancelled."""
        while not self._may_go(self._stand_while_halted(), 0.0):
            pass

    def sleep(self, delay: Callable[[], float]) -> None:
        """Waits until ``delay()``, in seconds and asked again after every kick, is 0.0. A pause
        point before, after and in between. Raises JobCancelled."""
        while True:
            seen = self._stand_while_halted()
            self._kick.clear()
            seconds = delay()
            if self._may_go(seen, seconds):
                return
            if not (self.held or self._halted or self.cancelled):
                self.idle = True
                self._clock.wait(self._kick, seconds)
                self.idle = False

    def _stand_while_halted(self) -> int:
        """The number of changes that were taken into account. Raises JobCancelled."""
        while True:
            seen = self.changes
            if not self._halted:
                break
            self.idle = True
            self._parked(self.number)
            self._wait_for_change(seen, float("inf"))
        self.idle = False
        if self.cancelled:
            raise JobCancelled
        return seen

    def _may_go(self, seen: int, seconds: float) -> bool:
        """Whether the pause point may be passed, ``seconds`` before its sleep ends. By steps, False
        means that something has changed, the thread having stood here until then."""
        if not self.held:
            return seconds <= 0
        with self._changed:
            if self._leave and seconds <= _INSTANT:
                self._leave = False
                return True
        self.idle = True
        self._wait_for_change(seen, self._clock.monotonic() + seconds)
        self.idle = False
        return False

    def _wait_for_change(self, seen: int, wakes_at: float) -> None:
        if self.held:
            self._stands(seen, wakes_at)
        with self._changed:
            while self.changes == seen:
                self._changed.wait()
