"""Limits of what goes through a drive: bytes and requests a second, for all drives of a group
together.

Each limit is a leaky bucket. A request pours in what it moves, the bucket leaks at the limit's
rate, and the next request waits while the bucket is over its brim: a tenth of a second's worth, or
where a burst is allowed, what a burst of that length comes to. With a burst longer than a second a
second bucket, which leaks at the burst's rate, keeps the burst itself from going faster.

The figures are those of QEMU's ``throttle`` (docs/throttle.txt): a request of any size goes whole.
Requests wait before they enter a lane, so that a drained section waits for none of them.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from monitor.engine.clock import Clock
from monitor.engine.errors import RequestError
from monitor.engine.workers import Workers

NAMES: Final = ("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr")
"""The limits, in the order in which their mistakes are found."""

MOST: Final = 10**15
"""The largest rate, and the most that a burst comes to."""

WAITING: Final = 512
"""Requests that wait for their limits at once; more wait to be looked at."""

_MOMENT: Final = 1e-6
"""Seconds that are not waited for: sums of floats never come out even."""

_LONGEST: Final = 24 * 3600.0
"""Seconds that are waited for at once: the host's calls take no more than so many years."""

_UINT64: Final = (1 << 64) - 1


class TotalAndParts(RequestError):
    template = "bps/iops/max total values and read/write values cannot be used at the same time"


class SizeWithoutIops(RequestError):
    template = "iops size requires an iops value to be set"


class RateOutOfRange(RequestError):
    template = "bps/iops/max values must be within [0, {most}]"
    most: int = MOST


class NoBurstLength(RequestError):
    template = "the burst length cannot be 0"


class LengthWithoutBurst(RequestError):
    template = "burst length set without burst rate"


class BurstTooLong(RequestError):
    template = "burst length too high for this burst rate"


class BurstWithoutRate(RequestError):
    template = "bps_max/iops_max require corresponding bps/iops values"


class BurstBelowRate(RequestError):
    template = "bps_max/iops_max cannot be lower than bps/iops"


@dataclass(frozen=True)
class Limit:
    """``rate`` a second, 0 for none; ``burst`` a second for ``length`` seconds, 0 for no burst.
    Negative numbers stand for large ones, as in QEMU."""

    rate: int = 0
    burst: int = 0
    length: int = 1

    def check(self) -> None:
        """Raises RequestError."""
        rate, burst, length = (n & _UINT64 for n in (self.rate, self.burst, self.length))
        if rate > MOST or burst > MOST:
            raise RateOutOfRange
        if not length:
            raise NoBurstLength
        if length > 1 and not burst:
            raise LengthWithoutBurst
        if burst and length > MOST // burst:
            raise BurstTooLong
        if burst and not rate:
            raise BurstWithoutRate
        if burst and burst < rate:
            raise BurstBelowRate


@dataclass(frozen=True)
class Limits:
    """The limits of a group by ``NAMES``, those that are there. A request of more than ``op_size``
    bytes counts as several; 0: as one."""

    by_name: dict[str, Limit] = field(default_factory=dict)
    op_size: int = 0

    def __getitem__(self, name: str) -> Limit:
        return self.by_name.get(name, Limit())

    @property
    def any(self) -> bool:
        return any(self[name].rate for name in NAMES)

    def check(self) -> None:
        """Raises RequestError."""
        rates = {name: self[name].rate for name in NAMES}
        bursts = {name: self[name].burst for name in NAMES}
        for what in (rates, bursts):
            for unit in ("bps", "iops"):
                if what[unit] and (what[f"{unit}_rd"] or what[f"{unit}_wr"]):
                    raise TotalAndParts
        if self.op_size and not (rates["iops"] or rates["iops_rd"] or rates["iops_wr"]):
            raise SizeWithoutIops
        for name in NAMES:
            self[name].check()


class _Bucket:
    """One limit and how full it is."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._level = 0.0
        self._burst_level = 0.0

    def leak(self, seconds: float) -> None:
        limit = self._limit
        self._level = max(0.0, self._level - limit.rate * seconds)
        self._burst_level = max(0.0, self._burst_level - limit.burst * seconds)

    def pour(self, units: float) -> None:
        self._level += units
        self._burst_level += units

    def delay(self) -> float:
        """Seconds until it is no more over its brim."""
        limit = self._limit
        brim = limit.burst * limit.length if limit.burst else limit.rate / 10
        if self._level > brim:
            return (self._level - brim) / limit.rate
        if limit.length > 1 and self._burst_level > limit.burst / 10:
            return (self._burst_level - limit.burst / 10) / limit.burst
        return 0.0


class ThrottleGroup:
    """Drives that share limits. ``enter`` may be called from any thread but the loop's."""

    def __init__(self, name: str, clock: Clock) -> None:
        self.name = name
        self.limits = Limits()
        self._clock = clock
        self._lock = threading.Lock()
        self._members: set[object] = set()
        self._queues: tuple[deque[threading.Event], ...] = (deque(), deque())
        """Who waits, reads and writes apart: set where one should look again whether it may go."""
        self._let_go = False
        self.configure(Limits())

    def configure(self, limits: Limits) -> None:
        """Takes new limits, with nothing poured in yet; who waits looks again."""
        with self._lock:
            self.limits = limits
            self._buckets = {name: _Bucket(limits[name]) for name in NAMES if limits[name].rate}
            self._at = self._clock.monotonic()
            self._call()

    def let_go(self) -> None:
        """From now on nothing waits or is counted."""
        with self._lock:
            self._let_go = True
            self._call()

    def take_in(self, member: object) -> None:
        with self._lock:
            self._members.add(member)

    def release(self, member: object) -> bool:
        """The requests of ``member`` that wait go now, and so do those that were on their way to
        the queue: it is to have no limits. Whether there are others."""
        with self._lock:
            self._members.discard(member)
            self._call()
            return bool(self._members)

    def enter(self, member: object, length: int, *, writes: bool) -> None:
        """Waits until a request of ``length`` bytes may go, and counts it."""
        queue = self._queues[writes]
        with self._lock:
            if not queue and not self._delay(writes):
                self._pour(length, writes)
                return
            turn = threading.Event()
            queue.append(turn)
        while True:
            with self._lock:
                turn.clear()
                delay = self._delay(writes) if queue[0] is turn else math.inf
                if not delay or member not in self._members or self._let_go:
                    queue.remove(turn)
                    self._pour(length, writes)
                    self._call()
                    return
            self._clock.wait(turn, delay)

    def _call(self) -> None:
        for queue in self._queues:
            for turn in queue:
                turn.set()

    def _concerned(self, writes: bool) -> list[tuple[str, _Bucket]]:
        other = "_rd" if writes else "_wr"
        return [each for each in self._buckets.items() if not each[0].endswith(other)]

    def _delay(self, writes: bool) -> float:
        if self._let_go or not self._buckets:
            return 0.0
        now = self._clock.monotonic()
        for bucket in self._buckets.values():
            bucket.leak(now - self._at)
        self._at = now
        delay = max((bucket.delay() for _, bucket in self._concerned(writes)), default=0.0)
        return min(delay, _LONGEST) if delay > _MOMENT else 0.0

    def _pour(self, length: int, writes: bool) -> None:
        size = self.limits.op_size
        operations = length / size if size and length > size else 1.0
        for name, bucket in self._concerned(writes):
            bucket.pour(length if name.startswith("bps") else operations)


class Throttles:
    """The groups by name. One is there while it has members."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._groups: dict[str, ThrottleGroup] = {}
        self._workers = Workers(WAITING, "limited")

    def join(self, name: str, member: object) -> ThrottleGroup:
        """``leave`` is the other way."""
        group = self._groups.get(name)
        if group is None:
            group = self._groups[name] = ThrottleGroup(name, self._clock)
        group.take_in(member)
        return group

    def leave(self, group: ThrottleGroup, member: object) -> None:
        if not group.release(member):
            del self._groups[group.name]

    async def admit(
        self, group: ThrottleGroup, member: object, length: int, *, writes: bool
    ) -> None:
        """``group.enter`` on a thread of its own: whoever waits for limits keeps no worker from
        those who need not."""
        await self._workers.run(lambda: group.enter(member, length, writes=writes))

    def let_go(self) -> None:
        """The end is near: nothing is held up any more."""
        for group in self._groups.values():
            group.let_go()
        self._workers.close()
