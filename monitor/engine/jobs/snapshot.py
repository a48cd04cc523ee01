"""Internal snapshots of several disks in the background: ``snapshot-save``, ``-load``, ``-delete``.

The work is that of ``engine.disk_snapshots``; what goes wrong with it is the job's error.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from monitor.engine.clock import Clock
from monitor.engine.jobs.job import Emit, Job

Work = Callable[[], Coroutine[Any, Any, None]]


class SnapshotJob(Job):
    """One step of progress. It stays until it is dismissed, as QEMU's does."""

    def __init__(self, job_id: str, clock: Clock, emit: Emit, work: Work) -> None:
        super().__init__(job_id, clock, emit, auto_dismiss=False)
        self._work = work

    def run(self) -> None:
        self.progress.set_remaining(1)
        try:
            self.ask_loop(self._work())
        finally:
            self.progress.advance(1)


class SaveJob(SnapshotJob):
    type = "snapshot-save"


class LoadJob(SnapshotJob):
    type = "snapshot-load"


class DeleteJob(SnapshotJob):
    type = "snapshot-delete"
