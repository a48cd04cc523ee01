"""Excluding requests that overlap, and only those.

A driver that mends unaligned writes (read, modify, write) must keep other writers off the blocks
that it has read and not yet written. Requests queue in order of arrival; one waits for every
*earlier* request that overlaps it when either of the two is exclusive. So nothing starves, and two
requests never wait for each other.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

END: Final = 1 << 63
"""As the end of a range: whatever follows, to the end of the file and beyond."""


class _Request(NamedTuple):
    start: int
    end: int
    exclusive: bool

    def conflicts(self, other: _Request) -> bool:
        overlap = self.start < other.end and other.start < self.end
        return overlap and (self.exclusive or other.exclusive)


class RangeLocks:
    """Byte ranges in use by requests in flight."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._requests: dict[int, _Request] = {}  # by ticket, in order of arrival
        self._next_ticket = 0

    @property
    def in_flight(self) -> int:
        """Requests that hold a range or wait for one."""
        return len(self._requests)

    @contextmanager
    def hold(self, start: int, end: int, *, exclusive: bool) -> Iterator[None]:
        """Holds ``[start, end)``: alone when ``exclusive``, else beside others that are not."""
        request = _Request(start, end, exclusive)
        with self._changed:
            ticket = self._next_ticket
            self._next_ticket += 1
            self._requests[ticket] = request
            self._changed.wait_for(lambda: not self._conflicts_before(ticket, request))
        try:
            yield
        finally:
            with self._changed:
                del self._requests[ticket]
                self._changed.notify_all()

    def _conflicts_before(self, ticket: int, request: _Request) -> bool:
        for earlier, other in self._requests.items():
            if earlier == ticket:
                return False
            if other.conflicts(request):
                return True
        return False
