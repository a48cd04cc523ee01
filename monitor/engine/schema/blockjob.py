"""What the requests have in common that begin jobs on disks."""

from __future__ import annotations

from typing import Annotated, Literal

from monitor.engine.schema.base import NewName, QInt

BlockdevOnError = Literal["report", "ignore", "enospc", "stop", "auto"]
MirrorSyncMode = Literal["top", "full", "none", "incremental", "bitmap"]
NewImageMode = Literal["existing", "absolute-paths"]

JobId = Annotated[NewName, "the job's name (default: the drive's)"]
Speed = Annotated[QInt, "bytes a second at most, 0 for no limit"]
OnError = Annotated[BlockdevOnError, "what an error does"]
FilterName = Annotated[NewName, "the name of the job's filter"]
AutoFinalize = Annotated[bool, "finish without job-finalize"]
AutoDismiss = Annotated[bool, "go without job-dismiss"]
