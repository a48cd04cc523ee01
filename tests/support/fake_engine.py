"""An engine without disks: names and jobs that a test moves by hand.

It answers ``blockdev-add`` (a name appears), ``block-stream`` (a job appears) and the jobs' verbs,
and emits QEMU's events for them; the work itself is ``advance``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from monitor.engine.api import Engine, Event, JobSnapshot, Name
from monitor.engine.errors import JobNotActive, RequestError
from monitor.engine.schema.base import Request
from monitor.engine.schema.graph import BlockdevAdd
from monitor.engine.schema.job import BlockJobCancel, JobCancel
from monitor.engine.schema.query import QueryNamedBlockNodes
from monitor.engine.schema.stream import BlockStream

MIB = 1 << 20


def job(id: str = "s0", **changes: Any) -> JobSnapshot:
    """A running stream of 64 MiB, changed as asked."""
    base = JobSnapshot(
        id=id,
        type="stream",
        status="running",
        current=0,
        total=64 * MIB,
        rate=None,
        paused=False,
        error=None,
        verbs=frozenset({"cancel", "pause", "set-speed"}),
    )
    return replace(base, **changes)


class FakeEngine(Engine):
    """See the module. ``requests`` are those that were executed, in order."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.nodes: dict[str, str] = {}
        self.was_shut_down = False
        self.disk: asyncio.Event | None = None
        """Set before a slow disk lets ``shut_down`` go on."""
        self._jobs: dict[str, JobSnapshot] = {}
        self._callbacks: list[Callable[[Event], None]] = []
        self._changed = asyncio.Event()
        self._by_steps = False

    async def execute(self, request: Request) -> Any:
        self.requests.append(request)
        match request:
            case BlockdevAdd(options=options):
                driver = options.__struct_config__.tag
                self.nodes[str(options.node_name)] = f"{driver} 64M rw"
            case BlockStream(job_id=job_id):
                self.start(job(str(job_id)))
            case BlockJobCancel(device=job_id) | JobCancel(id=job_id):
                if job_id not in self._jobs:
                    raise JobNotActive(job_id)
                self.end(job_id, cancelled=True)
            case QueryNamedBlockNodes():
                return []
            case _:
                raise RequestError()
        return None

    def subscribe(self, callback: Callable[[Event], None]) -> Callable[[], None]:
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    def names(self, kind: str, verb: str = "", of: str = "") -> Iterable[Name]:
        if kind == "job":
            live = self._jobs.values()
            return [Name(j.id, f"{j.type} {j.status}") for j in live if j.takes(verb)]
        if kind in ("node", "device"):
            return [Name(*item) for item in self.nodes.items()]
        return []

    def jobs(self) -> list[JobSnapshot]:
        return list(self._jobs.values())

    async def job_ended(self, job_id: str) -> JobSnapshot:
        if job_id not in self._jobs:
            raise JobNotActive(job_id)
        while True:
            seen = self._jobs[job_id]
            if seen.status in ("concluded", "ready", "pending", "paused", "standby"):
                return seen
            await self._changed.wait()
            if job_id not in self._jobs:
                return replace(seen, status="concluded")

    @property
    def by_steps(self) -> bool:
        return self._by_steps

    def go_by_steps(self, by_steps: bool) -> None:
        self._by_steps = by_steps

    async def rest(self) -> None:
        """Nothing moves but by the test."""

    async def go_on(self, job_ids: Sequence[str], timeout: float | None) -> None:
        """As ``rest``."""

    async def step(self, job_id: str) -> JobSnapshot:
        if job_id not in self._jobs:
            raise JobNotActive(job_id)
        return self._jobs[job_id]

    async def shut_down(self) -> None:
        for job_id in list(self._jobs):
            self.end(job_id, cancelled=True)
        if self.disk is not None:
            await self.disk.wait()
        self.was_shut_down = True

    # -- what a test does ----------------------------------------------------------------------

    def emit(self, name: str, **data: Any) -> None:
        event = Event(name, {key.replace("_", "-"): value for key, value in data.items()}, (0, 0))
        for callback in list(self._callbacks):
            callback(event)

    def start(self, snapshot: JobSnapshot) -> None:
        self._jobs[snapshot.id] = snapshot
        self.move(snapshot.id, snapshot.status)

    def advance(self, job_id: str, current: int, rate: float | None = None) -> None:
        self._jobs[job_id] = replace(self._jobs[job_id], current=current, rate=rate)

    def move(self, job_id: str, status: str, **changes: Any) -> None:
        """The job is in ``status`` now, and says so."""
        self._jobs[job_id] = replace(self._jobs[job_id], status=status, **changes)
        self.emit("JOB_STATUS_CHANGE", id=job_id, status=status)
        self._wake()

    def end(self, job_id: str, *, cancelled: bool = False, error: str | None = None) -> None:
        """The whole of QEMU's last events of a block job, then it is gone."""
        snapshot = self._jobs[job_id]
        facts = {"type": snapshot.type, "device": job_id, "len": snapshot.total}
        facts |= {"offset": snapshot.current, "speed": 0}
        if cancelled or error:
            self.move(job_id, "aborting", error=error)
        else:
            self.move(job_id, "waiting")
            self.move(job_id, "pending")
        if cancelled:
            self.emit("BLOCK_JOB_CANCELLED", **facts)
        else:
            self.emit("BLOCK_JOB_COMPLETED", **facts, **({"error": error} if error else {}))
        self.move(job_id, "concluded")
        del self._jobs[job_id]
        self.emit("JOB_STATUS_CHANGE", id=job_id, status="null")
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def encoded(request: Request) -> Any:
    """A request as plain data, for comparing."""
    return msgspec.to_builtins(request)
