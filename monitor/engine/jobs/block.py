"""Block jobs: jobs on a drive or node, with a speed, an error policy and events of their own."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import Any, Protocol

from monitor.engine.clock import Clock
from monitor.engine.drivers.between_files import Side
from monitor.engine.graph.blockers import Blocker
from monitor.engine.graph.client import Lane
from monitor.engine.graph.graph import Graph
from monitor.engine.graph.node import Node, skip_filters
from monitor.engine.jobs.job import Job
from monitor.engine.jobs.ratelimit import RateLimit
from monitor.engine.jobs.state import Verb
from monitor.engine.schema.base import UnsetType, given
from monitor.engine.schema.decode import WrongParameterValue
from monitor.engine.schema.job import IoStatus


class JobRequest(Protocol):
    """What the requests that begin a block job have in common."""

    job_id: str | UnsetType
    speed: int | UnsetType
    auto_finalize: bool | UnsetType
    auto_dismiss: bool | UnsetType


@dataclass(frozen=True)
class JobSettings:
    """How a user wants a block job to be, whatever it does; not checked yet."""

    job_id: str | None
    """None for an internal job."""
    speed: int = 0
    on_source_error: str = "report"
    on_target_error: str = "report"
    auto_finalize: bool = True
    auto_dismiss: bool = True

    @classmethod
    def of(
        cls,
        request: JobRequest,
        node: Node,
        *,
        on_source_error: str | UnsetType,
        on_target_error: str | UnsetType,
    ) -> JobSettings:
        """Those of ``request``. A job without a name is called as the drive that shows ``node``."""
        return cls(
            given(request.job_id, node.device_name()),
            given(request.speed, 0),
            given(on_source_error, "report"),
            given(on_target_error, "report"),
            given(request.auto_finalize, True),
            given(request.auto_dismiss, True),
        )


def unfinished(job_type: str, job_id: str, source: Node) -> str:
    """The job that fills an image, as the image's mark names it."""
    return f"{job_type} '{job_id}' of '{source.filename or source.name}'"


class BlockJob(Job):
    """A job whose progress is bytes of a disk."""

    is_block_job = True

    def __init__(self, settings: JobSettings, graph: Graph, clock: Clock) -> None:
        """The speed is set afterwards (``set_speed``), as it may be wrong."""
        self.graph = graph
        self.limit = RateLimit(clock)
        self.policies: dict[Side, str] = {
            "read": settings.on_source_error,
            "write": settings.on_target_error,
        }
        """What an error on either side does: an ``on-error`` of QMP's."""
        self.io_status: IoStatus = "ok"
        self._blocked: list[tuple[Node, Blocker]] = []
        self._unmarked: tuple[Node, str] | None = None
        super().__init__(
            settings.job_id,
            clock,
            graph.emit,
            auto_finalize=settings.auto_finalize,
            auto_dismiss=settings.auto_dismiss,
        )

    @property
    def speed(self) -> int:
        return self.limit.speed

    def known_verbs(self) -> set[Verb]:
        return set(Verb)

    def set_speed(self, speed: int) -> None:
        """Bytes a second, 0 for no limit; in force at once."""
        self.check(Verb.SET_SPEED)
        if speed < 0:
            raise WrongParameterValue("speed", expected="a non-negative value")
        self.limit.set_speed(speed)
        self.progress.forget_rate()
        self._pausing.kick()

    # -- nodes in use ------------------------------------------------------------------------

    def block(self, *nodes: Node) -> None:
        """Has all other operations on ``nodes`` refused until the job is gone."""
        for node in nodes:
            blocker = Blocker(f"block device is in use by block job: {self.type}", job=self.name)
            node.blockers.append(blocker)
            self._blocked.append((node, blocker))

    def released(self) -> None:
        self.unblock()

    def unblock(self) -> None:
        """The job has no say any more in what is done to its nodes."""
        for node, blocker in self._blocked:
            node.blockers.remove(blocker)
        self._blocked.clear()

    def stop_waiting_for(self, target: Node) -> None:
        """What the job wants of a target whose server has gone is given up."""
        node: Node | None = target
        while node is not None:
            node.driver.stop_waiting()
            node = node.data_child

    # -- images that are being filled --------------------------------------------------------

    def mark_target(self, target: Node, source: Node) -> None:
        """Says in the target's image that it is incomplete, from the job's thread. An error is
        judged as any of the target's: without the mark nobody could tell what a kill leaves."""
        image = skip_filters(target)
        text = unfinished(self.type, self.name, source)
        lane = self.lane()
        try:
            while image is not None and not self._is_marked(image, text, lane):
                self.pause_point()
        finally:
            self.drop_lane(lane)

    def _is_marked(self, image: Node, text: str, lane: Lane) -> bool:
        """Whether it is, as far as the disk lets it where errors are ignored. Raises the error that
        the policy reports."""
        try:
            with lane:
                image.driver.mark_unfinished(text)
        except OSError as error:
            action = self.error_action(error, "write")
            if action == "report":
                raise
            if action == "stop":
                return False
            with lane:
                image.driver.mark_again(text)  # better than none, though it may not last
        return True

    def unmark_target(self, target: Node) -> None:
        """All is in the target. Drained. Raises OSError; what of it is done then ``take_back``
        undoes."""
        image = skip_filters(target)
        text = None if image is None else image.driver.unfinished()
        if image is not None and text is not None:
            self._unmarked = image, text
            image.driver.mark_unfinished(None)

    def take_back(self) -> None:
        if self._unmarked is not None:
            image, text = self._unmarked
            image.driver.mark_again(text)

    # -- errors ------------------------------------------------------------------------------

    def error_action(self, error: OSError, side: Side) -> str:
        """From the job's thread: what the policy says of a failed "read" or "write", after having
        said so. "report": fail. "ignore": go on. "stop": pass a pause point and try again."""
        action = action_for(self.policies[side], error)
        self.tell_loop(self._report_error, side, action, error.errno or errno.EIO)
        if action == "stop":
            self.pause_for_error()
        return action

    def _report_error(self, operation: str, action: str, code: int) -> None:
        if action == "stop":
            self.stopped = f"{operation} error: {os.strerror(code)}"
            if self.io_status == "ok":
                self.io_status = "nospace" if code == errno.ENOSPC else "failed"
        if not self.internal:
            self._emit(
                "BLOCK_JOB_ERROR",
                {"device": self.name, "operation": operation, "action": action},
            )

    def user_resumed(self) -> None:
        self.io_status = "ok"
        self.stopped = None

    # -- events ------------------------------------------------------------------------------

    def report_pending(self) -> None:
        if not self.internal:
            self._emit("BLOCK_JOB_PENDING", {"type": self.type, "id": self.name})

    def report_ready(self) -> None:
        if not self.internal:
            self._emit("BLOCK_JOB_READY", self._figures())

    def report_end(self) -> None:
        if self.internal:
            return
        if self.force_cancelled:
            self._emit("BLOCK_JOB_CANCELLED", self._figures())
            return
        figures = self._figures()
        if self.error_text is not None:
            figures["error"] = self.error_text
        self._emit("BLOCK_JOB_COMPLETED", figures)

    def _figures(self) -> dict[str, Any]:
        return {
            "device": self.name,
            "len": self.progress.total,
            "offset": self.progress.current,
            "speed": self.speed,
            "type": self.type,
        }


def action_for(policy: str, error: OSError) -> str:
    """ "report", "ignore" or "stop"; ``enospc`` and ``auto`` stop when the disk is full."""
    if policy in ("enospc", "auto"):
        return "stop" if error.errno == errno.ENOSPC else "report"
    return policy
