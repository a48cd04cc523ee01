"""Creating images."""

from __future__ import annotations

from typing import Annotated

from monitor.engine.schema.base import NewName, Request
from monitor.engine.schema.blockdev import AnyCreateOptions


class BlockdevCreate(Request, kw_only=True, tag="blockdev-create"):
    """Create an image in a background job."""

    job_id: Annotated[NewName, "the job's name"]
    options: Annotated[AnyCreateOptions, "what to create"]

    example = "blockdev-create job-id=c0 options.driver=file options.filename=a.img options.size=1G"
