"""What every background job is: a life (``state``), a thread that runs it, and an end.

What its kind of job does is in ``work``'s methods. Any exception of theirs but OSError and
RequestError is a bug: the job fails with one line, and the traceback goes to the log.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from monitor.engine.api import JobSnapshot
from monitor.engine.clock import Clock
from monitor.engine.errors import InternalError, RequestError, describe_failure
from monitor.engine.graph.client import Client
from monitor.engine.jobs.errors import (
    CannotComplete,
    JobAlreadyPaused,
    JobNotPaused,
)
from monitor.engine.jobs.pausing import JobCancelled, Pausing
from monitor.engine.jobs.progress import Progress
from monitor.engine.jobs.state import StateMachine, Status, Verb
from monitor.engine.jobs.thread import JobThread
from monitor.engine.jobs.work import Work
from monitor.engine.schema.job import JobType

if TYPE_CHECKING:
    from monitor.engine.jobs.group import JobGroup
    from monitor.engine.schema.query import GraphNodeType

log = logging.getLogger(__name__)

T = TypeVar("T")
Emit = Callable[[str, dict[str, Any]], None]


class Job(Client, Work):
    """One job. Everything but ``run``, ``prepare`` and the pause points is of the control loop.

    ``job_id`` None makes an internal job: it has no events and no query shows it.
    """

    type: ClassVar[JobType]
    graph_type: ClassVar[GraphNodeType] = "block-job"
    stays_at_node = True
    is_block_job: ClassVar[bool] = False
    """Whether the ``block-job-*`` requests know it."""
    stopped: str | None = None
    """The error at which it stands still until it is resumed."""
    endless = False
    """Whether it goes on until it is cancelled."""

    def __init__(
        self,
        job_id: str | None,
        clock: Clock,
        emit: Emit,
        *,
        auto_finalize: bool = True,
        auto_dismiss: bool = True,
    ) -> None:
        super().__init__(job_id or "")
        self.id = job_id
        self.clock = clock
        self.auto_finalize = auto_finalize
        self.auto_dismiss = auto_dismiss
        self.progress = Progress(clock, self._advanced)
        self.failure: Exception | None = None
        """Why the job fails; cancelled jobs have one too."""
        self.cancel_requested = False
        self.force_cancelled = False
        self.started = False
        self.group: JobGroup
        self._emit = emit
        self._state = StateMachine(self.name, self._status_changed)
        self._pausing = Pausing(clock, self._parked_in_thread, self._stands_in_thread)
        self._notice_comes = False
        self._stood_at = -1
        self._wakes_at = 0.0
        self._thread: JobThread | None = None
        self._paused_from: Status | None = None
        self._run_over = False
        self._pending_over = threading.Event()
        self._pending: asyncio.Future[Any] | None = None
        self._completing = False
        self._watchers: set[asyncio.Event] = set()
        self._state.move(Status.CREATED)

    # -- facts -------------------------------------------------------------------------------

    def describe(self) -> str:
        return f"{self.type} job '{self.name}'"

    @property
    def device_name(self) -> str:
        return ""

    @property
    def internal(self) -> bool:
        return self.id is None

    @property
    def status(self) -> Status:
        return self._state.status

    @property
    def ready(self) -> bool:
        return self._state.ready

    @property
    def run_is_over(self) -> bool:
        """Whether no thread works for the job any more, or yet."""
        return self._run_over or not self.started

    @property
    def halted(self) -> bool:
        """Whether anything asks the job to stand still (it may not stand yet)."""
        return self._pausing.wanted

    @property
    def paused(self) -> bool:
        """Whether the next pause point may hold the job up, which is to find nothing under way."""
        return self._pausing.wanted or self._pausing.held

    @property
    def user_paused(self) -> bool:
        return self._pausing.user

    @property
    def busy(self) -> bool:
        """Whether it works at this moment: neither sleeps nor stands at a pause point."""
        return not self.run_is_over and not self._pausing.idle

    @property
    def error_text(self) -> str | None:
        return None if self.failure is None else describe_failure(self.failure)

    def verbs(self) -> frozenset[str]:
        """The verbs that would do something now: what completion offers."""
        accepted = {verb for verb in Verb if self._state.accepts(verb)}
        accepted -= {Verb.RESUME} if not self.user_paused else {Verb.PAUSE}
        if not self.can_complete or self.cancel_requested or self._completing:
            accepted.discard(Verb.COMPLETE)
        if not self.group.waits_for_finalize:
            accepted.discard(Verb.FINALIZE)
        if self.auto_dismiss:
            accepted.discard(Verb.DISMISS)
        return frozenset(verb.value for verb in accepted & self.known_verbs())

    def known_verbs(self) -> set[Verb]:
        return set(Verb) - {Verb.SET_SPEED}

    def snapshot(self) -> JobSnapshot:
        return JobSnapshot(
            id=self.name,
            type=self.type,
            status=self.status.value,
            current=self.progress.current,
            total=self.progress.total,
            rate=None if self._pausing.held else self.progress.rate(),  # by steps: no time
            paused=self.halted,
            error=self.error_text,
            verbs=self.verbs(),
            block=self.is_block_job,
            stopped=self.stopped,
            left=self.cancel_requested and not self.force_cancelled,
            endless=self.endless,
        )

    # -- the user's verbs --------------------------------------------------------------------

    def check(self, verb: Verb) -> None:
        self._state.check(verb)

    def user_pause(self) -> None:
        """Raises VerbRefused, JobAlreadyPaused."""
        self.check(Verb.PAUSE)
        if self.user_paused:
            raise JobAlreadyPaused(self.name)
        self._pausing.pause_user()

    def user_resume(self) -> None:
        """Raises JobNotPaused, VerbRefused."""
        if not self.user_paused:
            raise JobNotPaused(self.name)
        self.check(Verb.RESUME)
        self.user_resumed()
        self.progress.forget_rate()
        self._pausing.resume_user()
        self._leave_pause()

    def user_cancel(self, *, force: bool) -> None:
        """Raises VerbRefused."""
        self.check(Verb.CANCEL)
        self.cancel(force=force)

    def user_complete(self) -> None:
        """Raises VerbRefused, CannotComplete."""
        self.check(Verb.COMPLETE)
        if self.cancel_requested or not self.can_complete:
            raise CannotComplete(self.name)
        self.complete()
        self._completing = True
        self._pausing.kick()

    # -- its life, on the loop ---------------------------------------------------------------

    def start(self) -> None:
        """Begins to run. The job is in a group by now."""
        assert not self.started
        self.started = True
        self._state.move(Status.RUNNING)
        self._thread = JobThread(f"job {self.name or self.type}")
        run = self._thread.submit(self._run_in_thread)
        run.add_done_callback(self._run_ended)
        if not run.done():  # it is at once where the host has no thread for it
            self._parked(self._pausing.number)  # where it begins within a drained section

    def cancel(self, *, force: bool) -> None:
        """Ends the job, wherever it is. Soft on a job that can end well by itself."""
        self.request_cancel(force=force)
        if not self.started:
            self.group.run_ended(self)
        elif self._run_over and self.force_cancelled:
            self.group.fail(self)

    def request_cancel(self, *, force: bool) -> None:
        """Marks the job cancelled and lets its thread know."""
        force = force or not self.soft_cancel()
        if self.user_paused:
            self.user_resumed()
            self._pausing.resume_user()
        if not force and self._run_over:
            return
        self.cancel_requested = True
        self.force_cancelled = self.force_cancelled or force
        if self.force_cancelled:
            self._pausing.cancel()
            self.given_up()
        self._pausing.kick()
        self._leave_pause()

    def move(self, status: Status) -> None:
        self._state.move(status)

    def note_failure(self) -> bool:
        """Whether the job has failed or is cancelled; its status is ``aborting`` then."""
        if self.failure is None and self.force_cancelled:
            self.failure = OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))
        if self.failure is None:
            return False
        self._state.move(Status.ABORTING)
        return True

    def begin_pending(self) -> None:
        """The job waits to be finalized. By steps it does nothing meanwhile."""
        assert self._thread is not None
        if not self._pausing.held:
            self._pending = self._thread.submit(
                lambda: self._guarded(lambda: self.while_pending(self._pending_over))
            )

    async def end_pending(self) -> None:
        """The job waits no longer, whatever it does next."""
        self._pending_over.set()
        if self._pending is not None:
            await self._pending

    async def prepare_in_thread(self) -> None:
        """Runs ``prepare`` and records its failure."""
        self.failure = await self.in_thread(lambda: self._guarded(self.prepare))

    async def in_thread(self, call: Callable[[], T]) -> T:
        """Runs a call in the job's thread, whose run is over. Raises what it raises."""
        assert self._thread is not None  # only a job that has run gets here
        result: T = await self._thread.submit(call)
        return result

    def stop_thread(self) -> None:
        if self._thread is not None:
            self._thread.stop()

    def gate_closed(self) -> None:
        self._pausing.pause_drain()

    def gate_opened(self) -> None:
        self._pausing.resume_drain()
        self._leave_pause()

    def become_ready(self) -> None:
        """From the job's thread: all is copied, and the job goes on until ``job-complete``."""
        self.tell_loop(self._ready)

    def _ready(self) -> None:
        self._state.move(Status.READY)
        self.report_ready()

    def tell_loop(self, callback: Callable[..., None], *args: Any) -> None:
        assert self._thread is not None
        self._thread.tell_loop(callback, *args)

    def ask_loop(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """From the job's thread: runs ``coroutine`` on the loop and waits for it."""
        assert self._thread is not None
        return self._thread.ask_loop(coroutine)

    async def settled(self) -> None:
        """Waits until the job stays as it is for now: gone, concluded, or waiting for a verb."""
        while not self.stands_by:
            await self.changed()

    @property
    def stands_by(self) -> bool:
        """Whether it stays as it is until a verb comes, or for good."""
        match self.status:
            case Status.CONCLUDED | Status.NULL:
                return True
            case Status.READY:
                return not self.cancel_requested and not self._completing
            case Status.RUNNING:
                ends = self.cancel_requested or self.run_is_over or self.group.ends(self)
                return self.endless and not ends
            case Status.PAUSED | Status.STANDBY:
                return self.user_paused
            case Status.PENDING:
                return self.group.waits_for_finalize
        return False

    def _status_changed(self, status: Status) -> None:
        if not self.internal:
            self._emit("JOB_STATUS_CHANGE", {"id": self.name, "status": status.value})
        self._notice()

    def _notice(self) -> None:
        for watcher in self._watchers:
            watcher.set()

    def _parked(self, number: int) -> None:
        """Word from the thread: it stands at a pause point, because of pause ``number``."""
        pausing = self._pausing
        if number != pausing.number or not pausing.wanted or pausing.cancelled:
            return
        if self.status in (Status.RUNNING, Status.READY):
            self._paused_from = self.status
            running = self.status is Status.RUNNING
            self._state.move(Status.PAUSED if running else Status.STANDBY)
        self._notice()

    def _leave_pause(self) -> None:
        if self._paused_from and (not self.halted or self.force_cancelled):
            status, self._paused_from = self._paused_from, None
            self._state.move(status)

    def _run_ended(self, future: asyncio.Future[Exception | None]) -> None:
        self._run_over = True
        self._leave_pause()
        error = future.exception()
        self.failure = future.result() if error is None else self.judged(error)
        self.group.run_ended(self)
        self._notice()

    # -- by steps (``stepping``) -------------------------------------------------------------

    def hold(self, held: bool) -> None:
        """Whether each pause point takes a ``let_go`` from now on."""
        self._pausing.hold(held)

    def let_go(self) -> None:
        self._pausing.let_go()

    @property
    def at_rest(self) -> bool:
        """Whether a held job does nothing more by itself. Its end may be under way yet, which is
        the group's."""
        return self.run_is_over or self._stood_at == self._pausing.changes

    @property
    def wakes_at(self) -> float:
        """When a held job can go on: now, or at the end of its sleep; never, while it is paused or
        not at rest, or when its run is over."""
        never = self.run_is_over or self.halted or not self.at_rest
        return float("inf") if never else self._wakes_at

    async def changed(self) -> None:
        """Waits until anything about the job changes: its status, its progress, what it does."""
        changed = asyncio.Event()
        self._watchers.add(changed)
        try:
            await changed.wait()
        finally:
            self._watchers.discard(changed)

    def _stands(self, changes: int, wakes_at: float) -> None:
        self._stood_at, self._wakes_at = changes, wakes_at
        self._notice()

    # -- its thread --------------------------------------------------------------------------

    def pause_point(self) -> None:
        """To be passed between two pieces of work, in the job's thread, outside of lanes.
        Raises JobCancelled."""
        self._pausing.point()

    def sleep(self, delay: Callable[[], float]) -> None:
        """Sleeps until ``delay()`` says 0.0; it is asked again when the speed changes."""
        self._pausing.sleep(delay)

    def sleep_for(self, seconds: float) -> None:
        """Sleeps so long, on the job's clock."""
        until = self.clock.monotonic() + seconds
        self.sleep(lambda: max(0.0, until - self.clock.monotonic()))

    def pause_for_error(self) -> None:
        """From the job's thread: the next pause point waits until the user resumes or cancels."""
        self._pausing.pause_user()

    def _parked_in_thread(self, number: int) -> None:
        self.tell_loop(self._parked, number)

    def _stands_in_thread(self, changes: int, wakes_at: float) -> None:
        self.tell_loop(self._stands, changes, wakes_at)

    def _advanced(self) -> None:
        if self._watchers and self._thread is not None and not self._notice_comes:
            self._notice_comes = True  # a wake-up costs the loop and the thread 0.1 ms
            self.tell_loop(self._notice_progress)

    def _notice_progress(self) -> None:
        self._notice_comes = False
        self._notice()

    def _run_in_thread(self) -> Exception | None:
        return self._guarded(self._run)

    def _run(self) -> None:
        self.pause_point()
        self.run()

    def _guarded(self, call: Callable[[], None]) -> Exception | None:
        try:
            call()
        except JobCancelled:
            return None
        except Exception as error:
            return self.judged(error)
        return None

    def judged(self, error: BaseException) -> Exception:
        """What the job fails with. A bug is one line."""
        if isinstance(error, (OSError, RequestError)):
            return error
        log.error("%s failed unexpectedly", self.describe(), exc_info=error)
        return InternalError(f"{self.describe()} failed unexpectedly")
