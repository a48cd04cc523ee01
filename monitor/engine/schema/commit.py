"""Carrying images down into the images below them."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, UnsetType

from monitor.engine.schema.base import (
    DeviceName,
    DriveName,
    Feature,
    LayerFile,
    LayerNode,
    Request,
)
from monitor.engine.schema.blockjob import (
    AutoDismiss,
    AutoFinalize,
    FilterName,
    JobId,
    OnError,
    Speed,
)


class BlockCommit(Request, kw_only=True, tag="block-commit"):
    """Copy data down a backing chain, in a background job."""

    job_id: JobId | UnsetType = UNSET
    device: Annotated[DeviceName, "the top of the whole chain"]
    base_node: Annotated[LayerNode, "what is copied into (default: the lowest)"] | UnsetType = UNSET
    base: Annotated[LayerFile, Feature("deprecated"), "the same by its file"] | UnsetType = UNSET
    top_node: Annotated[LayerNode, "what is copied first (default: device)"] | UnsetType = UNSET
    top: Annotated[LayerFile, Feature("deprecated"), "the same by its file"] | UnsetType = UNSET
    backing_file: Annotated[str, "the backing link to write in the overlay"] | UnsetType = UNSET
    speed: Speed | UnsetType = UNSET
    on_error: OnError | UnsetType = UNSET
    filter_node_name: FilterName | UnsetType = UNSET
    auto_finalize: AutoFinalize | UnsetType = UNSET
    auto_dismiss: AutoDismiss | UnsetType = UNSET

    example = "block-commit job-id=c0 device=d0"


class CommitDrive(Request, kw_only=True, tag="x-blkmon-commit"):
    """Copy a drive's image down into its backing image, and wait for it (HMP's ``commit``)."""

    device: Annotated[DriveName, "a drive, or all"]
