"""The copy engine: carries a plan's pieces out, for any job that copies.

A job states *what* is to be copied (``Plan``); how it goes is told here, once:

    plan.next   the job's thread, in its lane      looks ahead; at most DEPTH pieces are under way
    plan.work   a copying thread, in its own lane  moves a chunk at most: no section waits for more
    plan.done   the job's thread                   in the order in which the pieces were planned

Between two pieces the job passes a pause point and sleeps off its speed limit. While there is a
limit one piece is under way at a time. Jobs share the machine evenly, as each has as many threads
as the next and pieces are of one size.

A piece that failed is tried again in parts, so that one bad place costs no more than a ``grain``;
then the policy of the side that failed ("read", "write") says what becomes of it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from monitor.engine.jobs.copying import BUFFERED_WRITERS, DIRECT_WRITERS, Copiers, Piece

if TYPE_CHECKING:
    from monitor.engine.drivers.base import Child
    from monitor.engine.graph.node import Node
    from monitor.engine.jobs.block import BlockJob

CHUNK: Final = 1 << 20
"""Bytes that are copied in one piece: what a drained section may have to wait for."""
LIMITED_CHUNK: Final = 512 << 10
"""QEMU's chunk: what a stream and a commit copy in one piece while there is a speed limit or after
an error, so that offsets, errors and pauses fall where QEMU's do."""
ZERO_CHUNK: Final = 64 << 20
"""Bytes of zeroes in one piece, which move no data; where they would (``Piece.too_long``), they are
done in as small pieces as data is."""
MOST_WRITERS: Final = DIRECT_WRITERS
"""Threads that a job has at most."""
AGAIN: Final = 0.1
"""Seconds until what failed, under a policy that ignores it, is tried again."""
MEMORY: Final = 64 << 20
"""Bytes of buffers that a job may have."""
_AHEAD: Final = 128 << 20
"""Bytes that the target is told to expect at a time, hence that it may take up too much for a while
(or for good, where the process is killed)."""


class Plan(Protocol):
    """What a job copies. ``work`` runs on several threads at once, the rest on the job's own."""

    grain: int
    """The least that is copied, in bytes: pieces that fail are tried again in parts of this."""

    def next(self, most: int) -> Piece | None:
        """The next piece, with at most ``most`` bytes of data to move; None when there is nothing
        to do that is not under way. In a lane. It raises nothing: where it cannot look, it leaves
        the looking to ``work`` (``Piece.unseen``), which raises in its turn."""
        ...

    def work(self, piece: Piece, buffer: memoryview) -> None:
        """Does the piece; says in ``piece.side`` which side it is at. In a lane."""
        ...

    def done(self, piece: Piece) -> None:
        """The piece is finished."""
        ...

    def ignored(self, piece: Piece, error: OSError) -> None:
        """The piece has failed and the policy says to go on."""
        ...


class TryingAgain(Plan, Protocol):
    """A plan of which nothing is left out: what fails and is ignored comes again, for ever."""

    @property
    def failed(self) -> object:
        """Whether anything is to come again."""
        ...

    def begin_again(self) -> None:
        """``next`` gives that from now on."""
        ...


class Expecting(Protocol):
    """What is copied to."""

    def expect(self, length: int, /) -> None:
        """See the drivers' contract."""
        ...


_PARTS: Final = 16
"""Pieces that one which failed is done again in."""


class Carrier:
    """Carries out ``plan`` for ``job``. A context manager; ``run`` may be called again and again in
    it, from the job's thread. ``target`` is told what comes. ``writers``: see ``writers_into``.
    ``buffer``: bytes that ``work`` is given at least. Entering it raises OSError, as ``Copiers``
    does."""

    def __init__(
        self,
        job: BlockJob,
        plan: Plan,
        target: Expecting,
        *,
        writers: int,
        buffer: int = CHUNK,
        chunk: int = CHUNK,
        limited_chunk: int | None = None,
    ) -> None:
        self._job = job
        self._plan = plan
        self._target = target
        self._told, self._expects = 0, False
        """Bytes that the target expects still; whether it may."""
        self._chunk = chunk
        self._limited_chunk = limited_chunk or chunk
        self._shorter: deque[Piece] = deque()
        """Zeroes that are to be written as data after all."""
        threads = max(1, min(writers, MEMORY // buffer))
        self._copiers = Copiers(job, plan.work, buffer, threads)

    def __enter__(self) -> Carrier:
        self._copiers.__enter__()
        self._lane = self._job.lane()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._copiers.__exit__(kind, *rest)
        self._expect_nothing()
        self._job.drop_lane(self._lane)

    def run(self) -> None:
        """Until the plan has nothing more. Raises OSError as the policy says, and JobCancelled."""
        while True:
            self._rest()
            piece = None if self._crowded() else self._look()
            if piece is not None:
                self._copiers.submit(piece)
            elif self._copiers.pending:
                self._take()
            else:
                self._expect_nothing()
                return

    def _rest(self) -> None:
        """Pause point and speed limit. Who asks the job to stand still finds nothing under way."""
        if self._job.paused:
            while self._copiers.pending:
                self._take()
        self._job.sleep(self._job.limit.delay)

    def _crowded(self) -> bool:
        return self._copiers.full or bool(self._copiers.pending and self._job.speed)

    def _look(self) -> Piece | None:
        with self._lane:
            piece = self._shorter.popleft() if self._shorter else self._plan.next(self._most)
            if piece is not None and piece.copy:
                self._expect(piece.size)
            return piece

    @property
    def _most(self) -> int:
        """Bytes of data that are copied at once."""
        return self._limited_chunk if self._job.speed else self._chunk

    def _expect(self, length: int) -> None:
        """So much more is planned. The target hears of it before it has come so far."""
        self._told = max(0, self._told - length)
        if self._told < _AHEAD // 2:
            progress = self._job.progress
            left = min(_AHEAD, progress.total - progress.current)
            if left - self._told >= _AHEAD // 8:
                self._told, self._expects = left, True
                self._target.expect(left)

    def _expect_nothing(self) -> None:
        if self._expects:
            self._told, self._expects = 0, False
            with self._lane:
                self._target.expect(0)

    def _take(self) -> None:
        """Waits for the oldest piece and counts it, or has it done again."""
        piece = self._copiers.oldest()
        error = piece.error
        if error is None and piece.too_long:
            self._shorter.extend(piece.cut(self._most))
        elif error is None:
            self._job.limit.spend(piece.cost)
            self._plan.done(piece)
        elif not isinstance(error, OSError):
            raise error
        elif piece.divisible(self._plan.grain):
            self._split(piece, error)
        elif self._stays_failed(piece, error):
            self._plan.ignored(piece, error)
        else:
            self._copiers.retry(piece)

    def _split(self, piece: Piece, error: OSError) -> None:
        """In smaller pieces, at last QEMU's, to find the one that fails. Where none does any more,
        the error is the first one's: what has happened is told. A few at a time, as nothing else
        is heard until they are done."""
        parts = piece.split(_PARTS, self._plan.grain)
        self._copiers.retry(*parts)
        self._copiers.wait()
        if all(part.error is None for part in parts):
            parts[0].error, parts[0].side = error, piece.side

    def _stays_failed(self, piece: Piece, error: OSError) -> bool:
        """What the policy says: False to try again (after the user said so). Raises the error."""
        action = self._job.error_action(error, piece.side)
        if action == "report":
            raise error
        if action == "ignore":
            return True
        self._copiers.wait()
        self._job.pause_point()
        self._copiers.begin_failed_again()
        return False


def writers_into(target: Node) -> int:
    """How many threads may write into ``target`` at once: into the page cache of one file more
    than two slow each other down (x 3 was measured with four), past it four keep a disk busy, or a
    server."""
    node: Node | None = target
    while node is not None:
        if node.flags.direct or node.driver.remote:
            return DIRECT_WRITERS
        node = node.data_child
    return BUFFERED_WRITERS


def carry_wholly(job: BlockJob, carrier: Carrier, plan: TryingAgain) -> None:
    """All of the carrier's ``plan``, however often it takes. Raises as ``Carrier.run``."""
    carrier.run()
    while plan.failed:
        job.sleep_for(AGAIN)
        plan.begin_again()
        carrier.run()


def fill_last_sector(job: BlockJob, target: Child, start: int, end: int) -> None:
    """What ``target``, which ends at ``end``, has of the last sector and the source, which ends at
    ``start``, has not reads as zeroes. Raises OSError as the policy says, and JobCancelled."""
    lane = job.lane()
    try:
        while start < end:
            try:
                with lane:
                    target.write_zeroes(start, end - start, False, False)
                return
            except OSError as error:
                action = job.error_action(error, "write")
                if action == "report":
                    raise
            if action == "ignore":
                job.sleep_for(AGAIN)
            else:
                job.pause_point()
    finally:
        job.drop_lane(lane)
