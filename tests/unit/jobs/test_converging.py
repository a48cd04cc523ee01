"""A mirror's pass beside guests' requests on both sides."""

from __future__ import annotations

import errno
import threading
from typing import Any

from monitor.engine.jobs.converging import Converging
from tests.support.spin import until
from tests.unit.drivers.test_active_writes import SIZE, UNIT, Both


def test_what_failed_is_dirty_whatever_a_request_beside_it_says() -> None:
    """The request has found its unit taken by the job, and ends after the job's copy has failed."""
    both = Both()
    both.bitmap.set(0, UNIT)
    anything: Any = None
    copying = Converging(
        anything,
        both.bitmap,
        anything,
        anything,
        list,
        length=SIZE,
        unit=1,
        unmap=True,
        ranges=both.active.ranges,
        blank=lambda offset, length: False,
        given_up=lambda: False,
    )
    piece = copying.next(UNIT)
    assert piece is not None
    assert not both.bitmap.count
    both.target.gate.clear()
    guest = threading.Thread(target=both.active.write, args=(memoryview(b"guest"), 100))
    guest.start()
    until(lambda: bool(both.target.written))
    failing = threading.Thread(target=copying.ignored, args=(piece, OSError(errno.EIO, "")))
    failing.start()
    until(lambda: both.active.ranges.in_flight == 2 or not failing.is_alive())
    both.target.gate.set()
    for thread in (guest, failing):
        thread.join(20)
    assert list(both.bitmap.areas()) == [(0, UNIT)]
