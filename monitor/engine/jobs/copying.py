"""The threads that carry a job's copies out, a few pieces at a time."""

from __future__ import annotations

import errno
import mmap
import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Final

from monitor.engine.drivers.base import Ranges, cut
from monitor.engine.drivers.between_files import Side
from monitor.engine.graph.client import Client, Lane

BUFFERED_WRITERS: Final = 2
"""Threads that write into one file through the page cache; more slow each other down."""
DIRECT_WRITERS: Final = 4
"""The same past the page cache."""
DEPTH: Final = 8
"""Pieces that may be under way: further ones would starve the other threads of the process."""


@dataclass(eq=False)
class Piece:
    """A range of the disk and what is to be done with it: ``copy``, ``zero`` or nothing (skip)."""

    offset: int
    length: int
    copy: bool = False
    zero: bool = False
    unseen: bool = False
    """Nobody could look what it holds when it was planned."""
    parts: Ranges = ()
    """What of it is to be copied, where that is not all of it; the first where it begins."""
    side: Side = field(default="read", init=False)
    """Which side the work is at, hence where an error came from."""
    moved: int | None = field(default=None, init=False)
    """Bytes that were copied, where not all of the range had to be; of zeroes, those that had to be
    written as data."""
    too_long: bool = field(default=False, init=False)
    """It could not be done at once, as the target must have zeroes written as data."""
    error: Exception | None = field(default=None, init=False)
    finished: bool = field(default=False, init=False)

    def at(self, side: Side) -> None:
        """The work has come to that side."""
        self.side = side

    @property
    def size(self) -> int:
        """Bytes to be copied, or made zeroes."""
        return sum(length for _, length in self.parts) if self.parts else self.length

    def divisible(self, grain: int) -> bool:
        return len(self.parts) > 1 or self.size > grain

    @property
    def cost(self) -> int:
        """Bytes that count for the speed limit."""
        if self.moved is None:
            return self.size if self.copy else 0
        return self.moved

    def zeroed(self, written: int | None) -> None:
        """What ``drivers.zeroes.zero`` has answered."""
        self.too_long = written is None
        self.moved = written or 0

    def cut(self, length: int) -> list[Piece]:
        """The same in pieces of ``length`` bytes, which begin and end at multiples of that."""
        end = self.offset + self.length
        starts = [self.offset, *range((self.offset // length + 1) * length, end, length)]
        return [
            Piece(start, stop - start, self.copy, self.zero, self.unseen)
            for start, stop in zip(starts, [*starts[1:], end], strict=True)
        ]

    def split(self, most: int, grain: int) -> list[Piece]:
        """The piece in at most ``most``, of whole parts or whole ``grain``s."""
        whole = self.parts or [(self.offset, self.length)]
        if len(whole) == 1:
            whole = list(cut(whole, grain))
        step = -(-len(whole) // most)
        starts = [offset for offset, _ in whole[::step]]
        ends = [*starts[1:], self.offset + self.length]
        return [
            Piece(
                start,
                end - start,
                self.copy,
                self.zero,
                self.unseen,
                whole[at * step : (at + 1) * step] if self.parts else (),
            )
            for at, (start, end) in enumerate(zip(starts, ends, strict=True))
        ]


Work = Callable[[Piece, memoryview], None]


class Copiers:
    """Threads that do ``work(piece, buffer)``, each in a lane of its own of ``client`` and with a
    page-aligned buffer of its own, ``buffer_size`` bytes long.

    The job's thread hands pieces in and takes them back in the same order, so that progress and
    errors are counted as if one thread did it all. As a context manager it waits for what is under
    way; pieces that wait for a thread are dropped when the body raises.
    """

    def __init__(
        self, client: Client, work: Work, buffer_size: int, threads: int = BUFFERED_WRITERS
    ) -> None:
        self._client = client
        self._work = work
        self._todo: SimpleQueue[Piece | None] = SimpleQueue()
        self._done: SimpleQueue[Piece] = SimpleQueue()
        self._pieces: deque[Piece] = deque()
        self._dropped = False
        self._buffer_size = buffer_size
        self._count = threads
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Copiers:
        """Raises OSError where the host has no room for the buffers, or for the threads."""
        # Nobody unmaps them: an error's traceback may keep one.
        buffers = [memoryview(mmap.mmap(-1, self._buffer_size)) for _ in range(self._count)]
        name = f"{self._client.name} copies"
        for buffer in buffers:
            thread = threading.Thread(target=self._main, args=(buffer,), name=name, daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                self._end()
                raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error
            self._threads.append(thread)
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._dropped = kind is not None
        self._end()

    def _end(self) -> None:
        for _ in self._threads:
            self._todo.put(None)
        for thread in self._threads:
            thread.join()

    # -- the job's thread --------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        """Whether there are pieces that have not been taken back."""
        return bool(self._pieces)

    @property
    def full(self) -> bool:
        return len(self._pieces) >= DEPTH

    def submit(self, piece: Piece) -> None:
        self._pieces.append(piece)
        self._begin(piece)

    def retry(self, *pieces: Piece) -> None:
        """Once more, for the piece that was taken back last: it, or its parts, come first again."""
        self._pieces.extendleft(reversed(pieces))
        for piece in pieces:
            piece.error = None
            self._begin(piece)

    def oldest(self) -> Piece:
        """Waits for the first of the pieces under way and hands it back."""
        while not self._pieces[0].finished:
            self._done.get().finished = True
        return self._pieces.popleft()

    def wait(self) -> None:
        """Until nothing is under way any more; all pieces can still be taken back."""
        while not all(piece.finished for piece in self._pieces):
            self._done.get().finished = True

    def begin_failed_again(self) -> None:
        """What failed and has not been taken back is done once more, in its place in the order:
        such errors are from before the user said to go on, and he shall not be stopped for each."""
        for piece in self._pieces:
            if isinstance(piece.error, OSError):
                piece.error = None
                self._begin(piece)

    def _begin(self, piece: Piece) -> None:
        piece.finished = not (piece.copy or piece.zero)
        if not piece.finished:
            self._todo.put(piece)

    # -- the copying threads -----------------------------------------------------------------

    def _main(self, buffer: memoryview) -> None:
        lane = self._client.lane()
        while (piece := self._todo.get()) is not None:
            self._carry(piece, lane, buffer)
        self._client.drop_lane(lane)

    def _carry(self, piece: Piece, lane: Lane, buffer: memoryview) -> None:
        if not self._dropped:
            try:
                with lane:
                    self._work(piece, buffer)
            except Exception as error:  # the job's thread raises it or judges it
                piece.error = error
        self._done.put(piece)
