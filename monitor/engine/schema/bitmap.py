"""Dirty bitmaps: what was written to a node since somebody began to look."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, UnsetType

from monitor.engine.schema.base import (
    Alternate,
    DeviceName,
    Names,
    NewName,
    Options,
    Request,
    Result,
    UInt32,
)


class BlockDirtyBitmap(Options, kw_only=True):
    """A bitmap of a node."""

    node: Annotated[DeviceName, "the node, or a drive that shows it"]
    name: Annotated[str, Names("bitmap", "source"), "the bitmap"]


BlockDirtyBitmapOrStr = Annotated[
    Annotated[str, Names("bitmap", "source")] | BlockDirtyBitmap,
    Alternate("BlockDirtyBitmapOrStr"),
    "a bitmap of the node, or of another",
]


class BlockDirtyBitmapAdd(Request, kw_only=True, tag="block-dirty-bitmap-add"):
    """Record in a new bitmap which parts of a node are written."""

    node: Annotated[DeviceName, "the node, or a drive that shows it"]
    name: Annotated[NewName, "the bitmap's name"]
    granularity: (
        Annotated[UInt32, "bytes a bit stands for: a power of two, 512 or more"] | UnsetType
    ) = UNSET
    persistent: Annotated[bool, "the image keeps it (qcow2)"] | UnsetType = UNSET
    disabled: Annotated[bool, "do not record yet"] | UnsetType = UNSET

    example = "block-dirty-bitmap-add node=n0 name=b0 granularity=64k persistent=on"


class BlockDirtyBitmapRemove(Request, kw_only=True, tag="block-dirty-bitmap-remove"):
    """Delete a bitmap, from its image too."""

    node: Annotated[DeviceName, "the node, or a drive that shows it"]
    name: Annotated[str, Names("bitmap", "remove"), "the bitmap"]

    example = "block-dirty-bitmap-remove node=n0 name=b0"


class BlockDirtyBitmapClear(Request, kw_only=True, tag="block-dirty-bitmap-clear"):
    """Forget what was written so far."""

    node: Annotated[DeviceName, "the node, or a drive that shows it"]
    name: Annotated[str, Names("bitmap", "clear"), "the bitmap"]

    example = "block-dirty-bitmap-clear node=n0 name=b0"


class BlockDirtyBitmapEnable(Request, kw_only=True, tag="block-dirty-bitmap-enable"):
    """Record writes from now on."""

    node: Annotated[DeviceName, "the node, or a drive that shows it"]
    name: Annotated[str, Names("bitmap", "enable"), "the bitmap"]

    example = "block-dirty-bitmap-enable node=n0 name=b0"


class BlockDirtyBitmapDisable(Request, kw_only=True, tag="block-dirty-bitmap-disable"):
    """Record no writes from now on; what was recorded stays."""

    node: Annotated[DeviceName, "the node, or a drive that shows it"]
    name: Annotated[str, Names("bitmap", "disable"), "the bitmap"]

    example = "block-dirty-bitmap-disable node=n0 name=b0"


class BlockDirtyBitmapMerge(Request, kw_only=True, tag="block-dirty-bitmap-merge"):
    """Make dirty in one bitmap what is dirty in others: all of it, or nothing."""

    node: Annotated[DeviceName, "the node, or a drive that shows it"]
    target: Annotated[str, Names("bitmap", "merge"), "the bitmap that the others go into"]
    bitmaps: Annotated[list[BlockDirtyBitmapOrStr], "the others"]

    example = "block-dirty-bitmap-merge node=n0 target=all bitmaps.0=monday bitmaps.1=tuesday"


class BlockDirtyBitmapSha256(Result, kw_only=True):
    """The digest, in hexadecimal."""

    sha256: str


class XDebugBlockDirtyBitmapSha256(Request, kw_only=True, tag="x-debug-block-dirty-bitmap-sha256"):
    """A digest of a bitmap's contents, the same in QEMU."""

    node: Annotated[DeviceName, "the node, or a drive that shows it"]
    name: Annotated[str, Names("bitmap", "hash"), "the bitmap"]

    features = ("unstable",)
    returns = BlockDirtyBitmapSha256
    example = "x-debug-block-dirty-bitmap-sha256 node=n0 name=b0"
