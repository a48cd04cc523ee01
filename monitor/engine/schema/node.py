"""Requests on one node as it stands: its write threshold, its link to the backing image."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, UnsetType

from monitor.engine.schema.base import (
    DeviceName,
    DriveName,
    FileName,
    NodeName,
    Request,
    UInt64,
)


class BlockSetWriteThreshold(Request, kw_only=True, tag="block-set-write-threshold"):
    """Have BLOCK_WRITE_THRESHOLD reported once, at the first write that ends beyond an offset."""

    node_name: NodeName
    write_threshold: Annotated[UInt64, "the offset, bytes; 0 for none"]

    example = "block-set-write-threshold node-name=n0 write-threshold=1073741824"


class ChangeBackingFile(Request, kw_only=True, tag="change-backing-file"):
    """Rewrite the name of the backing file in an image's header. What is open stays as it is."""

    device: Annotated[DeviceName, "the chain that the image is in"]
    image_node_name: Annotated[NodeName, "the image"]
    backing_file: Annotated[FileName, "the name to write; it is not looked for"]

    example = "change-backing-file device=d0 image-node-name=n0 backing-file=base.qcow2"


class BlockPasswd(Request, kw_only=True, tag="block_passwd"):
    """Not there any more: an encrypted image takes its key from a secret."""

    device: DriveName | UnsetType = UNSET
    node_name: NodeName | UnsetType = UNSET
    password: str
