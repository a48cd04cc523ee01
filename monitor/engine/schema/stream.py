"""Filling an image from the images below it."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, UnsetType

from monitor.engine.schema.base import DeviceName, LayerFile, LayerNode, Request
from monitor.engine.schema.blockjob import (
    AutoDismiss,
    AutoFinalize,
    FilterName,
    JobId,
    OnError,
    Speed,
)


class BlockStream(Request, kw_only=True, tag="block-stream"):
    """Copy data from the backing chain into an image, in a background job."""

    job_id: JobId | UnsetType = UNSET
    device: Annotated[DeviceName, "what is filled"]
    base: Annotated[LayerFile, "stop above this backing file"] | UnsetType = UNSET
    base_node: Annotated[LayerNode, "stop above this node"] | UnsetType = UNSET
    backing_file: Annotated[str, "the backing link to write in the end"] | UnsetType = UNSET
    bottom: Annotated[LayerNode, "the last node to copy from"] | UnsetType = UNSET
    speed: Speed | UnsetType = UNSET
    on_error: OnError | UnsetType = UNSET
    filter_node_name: FilterName | UnsetType = UNSET
    auto_finalize: AutoFinalize | UnsetType = UNSET
    auto_dismiss: AutoDismiss | UnsetType = UNSET

    example = "block-stream job-id=s0 device=d0 speed=10485760"
