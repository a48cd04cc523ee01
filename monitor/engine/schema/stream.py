"""Filling an image from the images below it."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, UnsetType

from monitor.engine.schema.base import DeviceName, FileName, NewName, NodeName, QInt, Request


class BlockStream(Request, kw_only=True, tag="block-stream"):
    """Copy data from the backing chain into an image, in a background job."""

    job_id: Annotated[NewName, "the job's name (default: the drive's)"] | UnsetType = UNSET
    device: Annotated[DeviceName, "what is filled"]
    base: Annotated[FileName, "stop above this backing file"] | UnsetType = UNSET
    base_node: Annotated[NodeName, "stop above this node"] | UnsetType = UNSET
    backing_file: Annotated[str, "the backing link to write in the end"] | UnsetType = UNSET
    bottom: Annotated[NodeName, "the last node to copy from"] | UnsetType = UNSET
    speed: Annotated[QInt, "bytes a second at most, 0 for no limit"] | UnsetType = UNSET
    on_error: (
        Annotated[Literal["report", "ignore", "enospc", "stop", "auto"], "what an error does"]
        | UnsetType
    ) = UNSET
    filter_node_name: Annotated[NewName, "the name of the job's filter"] | UnsetType = UNSET
    auto_finalize: Annotated[bool, "finish without job-finalize"] | UnsetType = UNSET
    auto_dismiss: Annotated[bool, "go without job-dismiss"] | UnsetType = UNSET

    example = "block-stream job-id=s0 device=d0 speed=10485760"
