"""Waiting for another thread to get somewhere that sets no event."""

from __future__ import annotations

import os
import time
from collections.abc import Callable


def until(reached: Callable[[], bool], seconds: float = 10) -> None:
    """Yields the processor until ``reached()``; fails the test if that takes too long."""
    limit = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < limit, "the other thread did not get there"
        os.sched_yield()
