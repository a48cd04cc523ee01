"""Every event that can be reported, and what it tells.

``graph.emit(name, data)`` reports one; tests hold each that is emitted against these structs.
"""

from __future__ import annotations

import functools
from typing import Literal

from msgspec import UNSET, UnsetType

from monitor.engine.schema.base import Result
from monitor.engine.schema.job import JobStatus, JobType

IoOperation = Literal["read", "write"]
ErrorAction = Literal["ignore", "report", "stop"]


class EventData(Result, kw_only=True, tag_field="event"):
    """What an event tells; its name is the struct's tag."""

    @classmethod
    def event_name(cls) -> str:
        return str(cls.__struct_config__.tag)


class BlockExportDeleted(EventData, kw_only=True, tag="BLOCK_EXPORT_DELETED"):
    """An export has gone; its id may be used again."""

    id: str


class BlockImageCorrupted(EventData, kw_only=True, tag="BLOCK_IMAGE_CORRUPTED"):
    """A driver has found its image corrupt. ``fatal``: nothing more is written to it. ``device``
    is "" without a drive; ``offset`` and ``size`` are bytes of the image's file."""

    device: str
    node_name: str | UnsetType = UNSET
    msg: str
    offset: int | UnsetType = UNSET
    size: int | UnsetType = UNSET
    fatal: bool


class BlockJobCancelled(EventData, kw_only=True, tag="BLOCK_JOB_CANCELLED"):
    """A block job has been cancelled; lengths are bytes, speed bytes a second."""

    type: JobType
    device: str
    len: int
    offset: int
    speed: int


class BlockJobCompleted(EventData, kw_only=True, tag="BLOCK_JOB_COMPLETED"):
    """A block job has ended, with ``error`` where it failed."""

    type: JobType
    device: str
    len: int
    offset: int
    speed: int
    error: str | UnsetType = UNSET


class BlockJobError(EventData, kw_only=True, tag="BLOCK_JOB_ERROR"):
    """A request of a block job failed, and what its policy makes of that."""

    device: str
    operation: IoOperation
    action: ErrorAction


class BlockJobPending(EventData, kw_only=True, tag="BLOCK_JOB_PENDING"):
    """A block job waits for block-job-finalize."""

    type: JobType
    id: str


class BlockJobReady(EventData, kw_only=True, tag="BLOCK_JOB_READY"):
    """A block job can be completed."""

    type: JobType
    device: str
    len: int
    offset: int
    speed: int


class BlockWriteThreshold(EventData, kw_only=True, tag="BLOCK_WRITE_THRESHOLD"):
    """A write has gone ``amount-exceeded`` bytes past the threshold, which is now off."""

    node_name: str
    amount_exceeded: int
    write_threshold: int


class JobStatusChange(EventData, kw_only=True, tag="JOB_STATUS_CHANGE"):
    """A job has another status."""

    id: str
    status: JobStatus


class CloseFailed(EventData, kw_only=True, tag="X_BLKMON_CLOSE_FAILED"):
    """A node has been closed, but what it still had to write could not be written: ``writes``
    since the last flush, or, with the contents complete, only the ``bitmaps`` that it keeps."""

    node_name: str
    file: str
    error: str
    lost: Literal["writes", "bitmaps"]


class NodeDropped(EventData, kw_only=True, tag="X_BLKMON_NODE_DROPPED"):
    """A snapshot's overlay has been closed at once, as nothing uses it."""

    node_name: str


class Note(EventData, kw_only=True, tag="X_BLKMON_NOTE"):
    """Something that a person should know, which is no error."""

    text: str


class Suspended(EventData, kw_only=True, tag="X_BLKMON_SUSPENDED"):
    """A request stands at a breakpoint of a ``blkdebug`` node."""

    tag: str


@functools.cache
def event_types() -> dict[str, type[EventData]]:
    """Every declared event by name."""
    return {event.event_name(): event for event in EventData.__subclasses__()}
