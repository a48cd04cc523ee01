"""The work of a mirror, in its own thread: what the target lacks is found out and carried over,
pass after pass, until somebody wants an end and the target is in step.

    sizes -> zeroes -> what is dirty -> pass, pass, pass … -> flush -> ready
                                             ^                            |
                                             +---- a slice later <--------+-> told to end, in step

A write to the source while a pass runs is the next pass's. With ``write-blocking`` the filter does
it on both sides (``ActiveWrites``), as soon as all that the target lacks is marked.
"""

from __future__ import annotations

import errno
import threading
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from monitor.engine.bitmap import DirtyBitmap
from monitor.engine.drivers.active_writes import ActiveWrites, Sides
from monitor.engine.drivers.base import ExtentKind
from monitor.engine.graph.allocation import reads_as_zeroes, runs_of, runs_through
from monitor.engine.graph.edge import Edge, RootEdge
from monitor.engine.graph.node import Node, skip_filters
from monitor.engine.jobs.carrying import Carrier, fill_last_sector, writers_into
from monitor.engine.jobs.converging import Converging
from monitor.engine.jobs.copying import Piece
from monitor.engine.jobs.errors import SizesDiffer
from monitor.engine.jobs.filters import layers_above
from monitor.engine.jobs.mirror_plan import MirrorPlan

if TYPE_CHECKING:
    from monitor.engine.jobs.mirror import MirrorJob

SLICE: Final = 0.1
"""Seconds between two looks for work of a job that is ready, or whose errors are ignored."""
LAST: Final = 16 << 20
"""Bytes that may be left to copy while the disk is drained."""
MANY_PASSES: Final = 8
"""After so many a guest that keeps writing does not keep the job from becoming ready any more."""
MANY_RUNS: Final = 2048
"""So many are looked at in one step, some 10 ms: a drained section waits for it. A stretch of the
disk that has more is looked at in smaller ones."""
_LEAST_STRETCH: Final = 1 << 20
_STRETCH: Final = 64 << 20
_MOST_STRETCH: Final = 1 << 30
"""Bytes of the disk that are looked at in one step, in the beginning and at most."""
_SECTOR: Final = 512


class Mirroring:
    """``bitmap`` is the source's, and says what ``target`` lacks; ``source`` and ``target`` are
    edges of the job's. ``active`` is set where the filter hands guests' requests on."""

    def __init__(
        self,
        job: MirrorJob,
        plan: MirrorPlan,
        bitmap: DirtyBitmap,
        source: Edge,
        target: RootEdge,
    ) -> None:
        self.active: ActiveWrites | None = None
        self.in_step = False
        """The target has everything, so that there is nothing to do."""
        self._job = job
        self._plan = plan
        self._bitmap = bitmap
        self._source, self._target = source, target
        self._became_ready = False
        self._failure: OSError | None = None
        """Of a request that the filter has handed on."""

    def run(self) -> None:
        """Returns when the target is in step and somebody wants an end. Raises JobCancelled, and
        OSError as the job's policies say."""
        job = self._job
        self._lane = job.lane()
        try:
            length = self._match_sizes()
            if length:
                self._find_dirty(length)
                self._converge(length)
            else:
                self._say_ready()
                job.sleep(lambda: 0.0 if job.ends else SLICE)
        except BaseException:
            if self.active is not None:
                self.active.on = False
            raise
        finally:
            job.drop_lane(self._lane)

    # -- what the target lacks in the beginning ----------------------------------------------

    def _match_sizes(self) -> int:
        """The bytes to copy: a base grows to what is committed into it, others must fit."""
        source, target = self._plan.source.length(), self._plan.target.length()
        if self._plan.commits:
            if source > target:
                with self._lane:
                    self._target.truncate(source)
        elif not fits(self._plan):
            raise SizesDiffer()
        elif not self._plan.leaves_parts_out:
            fill_last_sector(self._job, self._target, source, target)
        return source

    def _find_dirty(self, length: int) -> None:
        """Marks what the target lacks."""
        plan = self._plan
        if plan.only_new_writes:
            return
        if plan.copies_all or (plan.zero_target and not self._zeroed(length)):
            self._bitmap.set(0, length)
            return
        offset, below = 0, plan.target if plan.commits else plan.base
        stretch = _STRETCH
        while offset < length:
            self._job.pause_point()
            end = min(length, offset + stretch)
            with self._lane:
                runs = self._mark(layers_above(plan.source, below), offset, end)
            if runs > MANY_RUNS and stretch > _LEAST_STRETCH:  # again: what is dirty stays so
                stretch = max(_LEAST_STRETCH, min(stretch, end - offset) // 4)
                continue
            offset = end
            if runs < MANY_RUNS // 4:
                stretch = min(2 * stretch, _MOST_STRETCH)

    def _mark(self, layers: list[Node], offset: int, end: int) -> int:
        """Looks at one stretch of the disk; what any of ``layers`` holds is dirty. How many runs
        there were; where they are too many, layers have been left out."""
        count = 0
        for layer in layers:
            if count > MANY_RUNS and end - offset > _LEAST_STRETCH:
                break
            for run in runs_of(layer, offset, end - offset):
                count += 1
                inside = min(run.offset + run.length, layer.length())
                if run.kind is not ExtentKind.UNALLOCATED and run.offset < inside:
                    self._bitmap.set(run.offset, inside - run.offset)
            if layer.length() < end:  # it hides what is below behind its end
                beyond = max(offset, layer.length())
                self._bitmap.set(beyond, end - beyond)
        return count

    def _zeroed(self, length: int) -> bool:
        """Whether the target could be made zeroes by giving its storage back. What fails on the
        way is judged like any write."""
        offset = 0
        while offset < length:
            self._job.pause_point()
            size = min(length - offset, 1 << 30)
            try:
                with self._lane:
                    self._target.write_zeroes(offset, size, True, True)
            except OSError as error:
                if error.errno == errno.ENOTSUP:
                    return False
                if self._judge(error) == "ignore":
                    return False
                continue
            offset += size
        return True

    # -- carrying it over --------------------------------------------------------------------

    def _converge(self, length: int) -> None:
        """Passes over the bitmap until somebody wants an end and the target is in step."""
        copying, chunk = self._copying(length)
        if self.active is not None:
            with self._lane:
                self.active.begin()
        with Carrier(
            self._job,
            copying,
            self._target,
            writers=writers_into(self._plan.target),
            buffer=chunk,
            chunk=chunk,
        ) as carrier:
            passes = 0
            while True:
                left = self._left(length)
                self.in_step = self.in_step and not left
                self._job.progress.set_remaining(left)
                copying.begin_pass()
                carrier.run()
                passes += 1
                if self._failure is not None:
                    raise self._failure
                left = self._left(length)
                if copying.errors:
                    self._wait_a_slice()
                elif left and not (left <= LAST and (self._job.ends or passes >= MANY_PASSES)):
                    continue
                elif not self._became_ready or self._job.ends:
                    if self._flushed():
                        if self._became_ready and self._job.ends:
                            return
                        self._job.progress.set_remaining(left)
                        self._say_ready()
                else:
                    passes = 0
                    self._wait_a_slice()

    def _copying(self, length: int) -> tuple[Converging, int]:
        """The plan of what is dirty, and how much is copied at once."""
        plan, active = self._plan, self.active
        unit = self._unit_of_target()
        copying = Converging(
            self._job,
            self._bitmap,
            self._source,
            self._target,
            self._layers,
            length=length,
            unit=unit,
            unmap=plan.unmap,
            ranges=active.ranges if active else None,
            blank=self._blank,
            given_up=lambda: self._failure is not None,
        )
        return copying, max(unit, plan.piece)

    def keep_up(self, over: threading.Event) -> None:
        """While the job waits to be finalized: what guests write is copied, at the job's speed,
        until ``over`` is set; what is under way then is copied at once. Raises nothing:
        ``catch_up`` tells."""
        job, length = self._job, self._plan.source.length()
        self._lane = job.lane()
        try:
            while self._failure is None and not over.is_set():
                if self._left(length):
                    self._pass_over(length, over)
                job.clock.wait(over, SLICE)
        except OSError as error:
            self._failure = self._failure or error
        finally:
            job.drop_lane(self._lane)

    def catch_up(self) -> None:
        """After the run, and after having kept up: what guests have written faster than the job may
        copy is copied while they go on, as fast as can be, as somebody wants the end now. Little is
        left to do then with the disk drained. Raises OSError, whatever the policy: nobody can
        resume the job any more."""
        length = self._plan.source.length()
        self._lane = self._job.lane()
        try:
            for _ in range(MANY_PASSES):
                if self._left(length) <= LAST:
                    break
                self._pass_over(length)
            if self._failure is not None:  # and a pass that was given up
                raise self._failure
        finally:
            self._job.drop_lane(self._lane)

    def _pass_over(self, length: int, over: threading.Event | None = None) -> None:
        """One pass, within the job's speed until ``over`` is set; one that is cancelled meanwhile
        is given up."""
        copying, chunk = self._copying(length)
        buffer = memoryview(bytearray(chunk))
        shorter: deque[Piece] = deque()
        while not (over and self._job.force_cancelled):
            with self._lane:
                piece = shorter.popleft() if shorter else copying.next(chunk)
            if piece is None:
                return
            if piece.copy or piece.zero:
                with self._lane:
                    copying.work(piece, buffer)
                if piece.too_long:
                    shorter.extend(piece.cut(chunk))
                else:
                    self._job.progress.advance_beyond(piece.size)
                    self._pace(piece, over)

    def _pace(self, piece: Piece, over: threading.Event | None) -> None:
        job = self._job
        job.limit.spend(piece.cost)
        while over and not over.is_set() and (delay := job.limit.delay()):
            job.clock.wait(over, delay)

    def _layers(self) -> list[Node]:
        """What the source shows now, top first: a stream may take layers out below it. In a
        lane."""
        return layers_above(self._plan.source, None)

    def _left(self, length: int) -> int:
        """Bytes that are dirty; the last unit may reach beyond the end of the disk."""
        beyond = -length % self._bitmap.granularity
        left = self._bitmap.count
        if left and beyond and self._bitmap.next_dirty(length - 1, length) is not None:
            left -= beyond
        return max(0, left)

    def _unit_of_target(self) -> int:
        """Clusters are written whole where the target is blind to what is around a part of one."""
        cluster = blind_cluster(self._plan)
        return cluster if cluster > self._bitmap.granularity else 1

    def _blank(self, offset: int, length: int) -> bool:
        """Whether the target reads as zeroes there, and will; False where looking fails."""
        if not self._plan.unmap or self._plan.leaves_parts_out:
            return False
        try:
            return reads_as_zeroes(self._plan.target, offset, length)
        except OSError:
            return False

    def _say_ready(self) -> None:
        self.in_step = True
        if not self._became_ready:
            self._became_ready = True
            self._job.become_ready()

    def _wait_a_slice(self) -> None:
        """Until there may be something to do: time has passed, or somebody wants an end."""
        clock, until = self._job.clock, self._job.clock.monotonic() + SLICE
        had = self._job.ends

        def rest() -> float:
            if self._failure is not None or (self._job.ends and not had):
                return 0.0
            return max(0.0, until - clock.monotonic())

        self._job.sleep(rest)

    def _flushed(self) -> bool:
        """Whether all that was copied is on the target's disk. Raises the error, if the policy
        says so."""
        try:
            with self._lane:
                self._target.flush()
        except OSError as error:
            if self._judge(error) == "ignore":
                self._wait_a_slice()
            return False
        return True

    def _judge(self, error: OSError) -> str:
        """What the policy says of a failed request to the target. Raises the error for "report";
        for "stop", returns when the user has resumed the job."""
        action = self._job.error_action(error, "write")
        if action == "report":
            raise error
        if action == "stop":
            self._job.pause_point()
        return action

    # -- guests' requests, in their threads --------------------------------------------------

    def hand_on(self, source: Edge, target: Edge) -> ActiveWrites:
        """What the filter is to do with them, through its own edges; it begins when all that the
        target lacks is marked."""
        plan, progress = self._plan, self._job.progress
        cluster = blind_cluster(plan) if plan.leaves_parts_out else 1
        sides = Sides(
            source,
            target,
            self._zero_runs,
            self._lacks,
            plan.unmap,
            progress.advance_beyond,
            self._failed,
            lambda: source.child.flags.unmap,
        )
        self.active = ActiveWrites(self._bitmap, sides, cluster)
        return self.active

    def _zero_runs(self, offset: int, length: int) -> Iterator[tuple[int, int, bool]]:
        for run in runs_through(self._layers(), offset, length):
            yield run.offset, run.length, run.kind is not ExtentKind.DATA

    def _lacks(self, start: int, end: int) -> bool:
        runs = runs_of(self._plan.target, start, end - start)
        return any(run.kind is ExtentKind.UNALLOCATED for run in runs)

    def _failed(self, error: OSError) -> None:
        """A request has reached the source only, and is dirty."""
        if self._job.error_action(error, "write") == "report":
            assert self.active is not None
            self.active.on = False
            self._failure = self._failure or error
            self._job.wake()


def blind_cluster(plan: MirrorPlan) -> int:
    """Bytes of a target's cluster, where the target does not see the backing image yet that it has
    in the end; else 1."""
    image = skip_filters(plan.target)
    assert image is not None
    if not image.driver.supports_backing or image.backing is not None:
        return 1
    if not image.driver.backing_filename and not plan.leaves_parts_out:
        return 1
    return plan.target.cluster_size() or 1


def fits(plan: MirrorPlan) -> bool:
    """Whether the target is as long as the source, in whole sectors."""
    return -(-plan.source.length() // _SECTOR) == -(-plan.target.length() // _SECTOR)
