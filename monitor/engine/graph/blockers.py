"""What is refused on a node while somebody else is at work on it, by kind of operation.

    a job                         refuses everything on the nodes that it has added to itself
    an overlay, of its backing    refuses everything but what reads from below or goes on below

Of several reasons the newest is told, as in QEMU.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec


class Operation(StrEnum):
    """The kinds of operations that can be blocked: QEMU's ``BlockOpType``."""

    BACKUP_SOURCE = "backup-source"
    BACKUP_TARGET = "backup-target"
    CHANGE = "change"
    COMMIT_SOURCE = "commit-source"
    COMMIT_TARGET = "commit-target"
    DRIVE_DEL = "drive-del"
    EXTERNAL_SNAPSHOT = "external-snapshot"
    INTERNAL_SNAPSHOT = "internal-snapshot"
    INTERNAL_SNAPSHOT_DELETE = "internal-snapshot-delete"
    MIRROR_SOURCE = "mirror-source"
    MIRROR_TARGET = "mirror-target"
    RESIZE = "resize"
    STREAM = "stream"
    REPLACE = "replace"


BACKING_ALLOWS: Final = frozenset(
    {
        Operation.COMMIT_TARGET,
        Operation.STREAM,
        Operation.BACKUP_SOURCE,
        Operation.BACKUP_TARGET,
    }
)
"""Operations that a node may take part in while it is somebody's backing image."""


class Blocker(msgspec.Struct, frozen=True):
    """Why some operations on a node are refused, and the ``job`` for which they are. ``operations``
    None: all of them."""

    reason: str
    operations: frozenset[Operation] | None = None
    job: str | None = None

    def blocks(self, operation: Operation) -> bool:
        return self.operations is None or operation in self.operations
