"""Carrying images down into the images below them."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, UnsetType

from monitor.engine.schema.base import (
    DeviceName,
    DriveName,
    Feature,
    FileName,
    NewName,
    NodeName,
    QInt,
    Request,
)


class BlockCommit(Request, kw_only=True, tag="block-commit"):
    """Copy data down a backing chain, in a background job."""

    job_id: Annotated[NewName, "the job's name (default: the drive's)"] | UnsetType = UNSET
    device: Annotated[DeviceName, "the top of the whole chain"]
    base_node: Annotated[NodeName, "what is copied into (default: the lowest)"] | UnsetType = UNSET
    base: Annotated[FileName, Feature("deprecated"), "the same by its file"] | UnsetType = UNSET
    top_node: Annotated[NodeName, "what is copied first (default: device)"] | UnsetType = UNSET
    top: Annotated[FileName, Feature("deprecated"), "the same by its file"] | UnsetType = UNSET
    backing_file: Annotated[str, "the backing link to write in the overlay"] | UnsetType = UNSET
    speed: Annotated[QInt, "bytes a second at most, 0 for no limit"] | UnsetType = UNSET
    on_error: (
        Annotated[Literal["report", "ignore", "enospc", "stop", "auto"], "what an error does"]
        | UnsetType
    ) = UNSET
    filter_node_name: Annotated[NewName, "the name of the job's filter"] | UnsetType = UNSET
    auto_finalize: Annotated[bool, "finish without job-finalize"] | UnsetType = UNSET
    auto_dismiss: Annotated[bool, "go without job-dismiss"] | UnsetType = UNSET

    example = "block-commit job-id=c0 device=d0"


class CommitDrive(Request, kw_only=True, tag="x-blkmon-commit"):
    """Copy a drive's image down into its backing image, and wait for it (HMP's ``commit``)."""

    device: Annotated[DriveName, "a drive, or all"]
