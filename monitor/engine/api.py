"""The one door to an engine, embedded or attached.

Front ends (prompt, scripts, QMP server) hold an ``Engine`` and nothing behind it: they send
requests and see results, events and a catalogue of names. All of it is called on the control loop.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, overload

import msgspec

from monitor.engine.schema.base import Request

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor


class Event(msgspec.Struct, frozen=True):
    """A QMP event; ``timestamp`` is (seconds, microseconds) of the engine's wall clock."""

    name: str
    data: Mapping[str, Any]
    timestamp: tuple[int, int]


class Name(NamedTuple):
    """A name that exists now, with what a person sees beside it ("qcow2 64M rw")."""

    text: str
    meta: str


class NameList(Sequence[Name]):
    """Many names: ``texts`` are there, what is said beside one is asked for when it is shown."""

    def __init__(self, texts: Sequence[str], meta: Callable[[str], str]) -> None:
        self.texts = texts
        self._meta = meta

    def __len__(self) -> int:
        return len(self.texts)

    @overload
    def __getitem__(self, index: int) -> Name: ...
    @overload
    def __getitem__(self, index: slice) -> NameList: ...
    def __getitem__(self, index: int | slice) -> Name | NameList:
        if isinstance(index, slice):
            return NameList(self.texts[index], self._meta)
        text = self.texts[index]
        return Name(text, self._meta(text))


def texts_of(names: Iterable[Name]) -> Sequence[str]:
    """The names without a word beside them, which costs little however many there are."""
    return names.texts if isinstance(names, NameList) else [name.text for name in names]


_WORK_DONE = ("ready", "standby", "waiting", "pending")
"""Status of jobs that have done what they found to do, be it nothing."""


def percent_done(status: str, current: int, total: int) -> int:
    """Whole per cent of a job, rounded down: 100 means that nothing is left."""
    if not total:
        return 100 if status in _WORK_DONE else 0
    return min(100, 100 * current // total)


class JobSnapshot(msgspec.Struct, frozen=True):
    """One job as it stands now: what a toolbar line or a catalogue entry needs.

    ``current`` and ``total`` are in the job's own unit (bytes for block jobs); ``rate`` is units a
    second over the last moments, None until known; ``verbs`` are those that would do something now.
    ``block`` says that it is a block job: the ``block-job-*`` requests know no other.
    ``stopped`` says at which error the job stands still until it is resumed ("write error: No space
    left on device"); ``left`` that it was cancelled when it was ready: it ends well, and what it
    made is not put to use; ``endless`` that it goes on until it is cancelled.
    """

    id: str
    type: str
    status: str
    current: int
    total: int
    rate: float | None
    paused: bool
    error: str | None
    verbs: frozenset[str]
    block: bool = True
    stopped: str | None = None
    left: bool = False
    endless: bool = False

    def takes(self, verb: str) -> bool:
        """Whether ``verb`` would do something now: "complete", or as a block job's
        "block-complete"; "" for any."""
        plain = verb.removeprefix("block-")
        return not verb or (plain in self.verbs and (self.block or plain == verb))

    @property
    def percent(self) -> int:
        return percent_done(self.status, self.current, self.total)

    @property
    def fraction(self) -> float:
        """0.0 to 1.0; a job without a total yet is at 0."""
        return min(1.0, self.current / self.total) if self.total else self.percent / 100

    @property
    def seconds_left(self) -> float | None:
        if not self.rate or self.endless:
            return None
        return max(0, self.total - self.current) / self.rate


class Lane(Protocol):
    """One thread's way into the graph: requests are made inside ``with lane``, and nothing but
    the disk is waited for in there."""

    def __enter__(self) -> Any: ...

    def __exit__(self, *reason: Any) -> None: ...


class Exported(Protocol):
    """A node that is offered to other programs, as its server sees it, from any thread.

    The operations are those of a driver (``drivers.base``), made in a lane of the calling thread;
    offsets and lengths are bytes. They raise OSError. ``options`` are the export's, as requested.
    """

    options: Any
    writable: bool
    writethrough: bool
    bitmaps: Mapping[str, Any]
    """Names of the dirty bitmaps that clients may read."""

    @property
    def workers(self) -> ThreadPoolExecutor | None:
        """The threads on which long requests are to be done; None: the server's own."""

    def enter(self, hang_up: Callable[[], None]) -> bool:
        """A client begins to use it; False when it is too late for that. ``hang_up`` is called,
        and must return at once, when the export is taken back by force."""

    def leave(self, hang_up: Callable[[], None]) -> None: ...

    def lane(self) -> Lane: ...

    def drop_lane(self, lane: Any) -> None: ...

    def length(self) -> int: ...

    def allocated(self) -> int | None:
        """Bytes that the node takes of its storage; None where that cannot be told."""

    def resize(self, size: int, *, at_least: bool) -> None:
        """Sets the node's size, or makes it no smaller than that. The calling thread is in no
        lane, and waits for its turn. Raises RequestError, and OSError."""

    def read(self, buffer: memoryview, offset: int) -> None: ...

    def write(self, buffer: memoryview, offset: int) -> None: ...

    def write_zeroes(self, offset: int, length: int, may_unmap: bool, no_fallback: bool) -> None:
        """With ``no_fallback`` OSError(ENOTSUP) rather than a buffer of zeroes written."""

    def discard(self, offset: int, length: int) -> None: ...

    def flush(self) -> None: ...

    def allocation(self, offset: int, length: int) -> Iterator[tuple[int, bool, bool]]:
        """Runs (length, is a hole, reads as zeroes) of what the node shows, however deep."""

    def plain(self, offset: int, length: int) -> tuple[int, int, int] | None:
        """Where the bytes at ``offset`` lie in a host file that has one place for them as long as
        it is there: (descriptor, offset in the file, bytes), valid within the lane. None where
        they do not."""

    def depth(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Runs (length, depth): 1 where the topmost layer holds the bytes, 2 the one below it, …;
        0 where no layer does."""

    def dirty(self, bitmap: str, offset: int, length: int) -> Iterator[tuple[int, bool]]:
        """Runs (length, dirty) of a bitmap."""


class ExportServer(Protocol):
    """What serves the exports of one type. Called on the control loop."""

    def check(self, options: Any) -> None:
        """Raises RequestError where such an export cannot be offered now."""

    async def offer(self, export: Exported) -> None:
        """From now on clients find it. Raises RequestError, and has changed nothing then."""

    def withdraw(self, export: Exported) -> None:
        """From now on they do not. Those that use it are hung up on by the engine."""

    async def stop(self) -> None:
        """The end: nobody is let in any more."""


class Engine(ABC):
    """Requests in, results and events out. One instance a process in practice."""

    @abstractmethod
    async def execute(self, request: Request) -> Any:
        """Carries out one request and answers with its ``returns`` type (None for none).

        Requests that change the graph run one at a time in order of arrival.
        Raises ``RequestError``; the graph is then as it was before.
        """

    @abstractmethod
    def subscribe(self, callback: Callable[[Event], None]) -> Callable[[], None]:
        """Calls ``callback`` on the control loop for each event from now on; returns what ends it.

        The callback must return at once and must not raise.
        """

    @abstractmethod
    def names(self, kind: str, verb: str = "", of: str = "") -> Iterable[Name]:
        """Names of a kind of ``schema.base.Names.KINDS`` that exist now; none of files, which the
        front end looks for itself, and none of new names. No I/O, never waits.

        It is asked at each key: with thousands of names a ``NameList`` is the answer.
        For jobs and bitmaps, ``verb`` narrows to those that accept it now, "block-" and a verb to
        block jobs that do; ``of`` is the device or node whose bitmaps are meant, or below which the
        layers are, "" for all. The verb "below" narrows nodes to those layers.
        """

    @abstractmethod
    def jobs(self) -> list[JobSnapshot]:
        """All jobs that are not yet dismissed, oldest first. No I/O."""

    @abstractmethod
    async def job_ended(self, job_id: str) -> JobSnapshot:
        """Waits until the job is concluded or gone (or is ready, pending or paused for good: look
        at ``status``); the snapshot is its last state. Raises JobNotActive when there is none."""

    # -- by steps: what replays, recordings and ``step`` use

    @property
    @abstractmethod
    def by_steps(self) -> bool:
        """Whether jobs go on in ``step`` and ``go_on`` only, and time passes by what is done.
        An engine that is elsewhere cannot do it."""

    @abstractmethod
    def go_by_steps(self, by_steps: bool) -> None:
        """Has ``by_steps`` hold from now on, or no longer."""

    @abstractmethod
    async def rest(self) -> None:
        """By steps: waits until nothing moves any more by itself; else nothing."""

    @abstractmethod
    async def go_on(self, job_ids: Sequence[str], timeout: float | None) -> None:
        """By steps: lets all jobs go on until those named have ended, or wait for a verb; for
        ``timeout`` seconds of the engine's time at most, and no longer than any of them gets
        anywhere. Else nothing: they go on by themselves, and ``job_ended`` waits."""

    @abstractmethod
    async def step(self, job_id: str) -> JobSnapshot:
        """Waits for one piece of a job's progress or its next status, having let it go so far when
        it goes by steps. Raises JobNotActive when there is none."""

    @abstractmethod
    async def shut_down(self) -> None:
        """Cancels jobs, flushes and closes everything. Errors are reported, not raised."""
