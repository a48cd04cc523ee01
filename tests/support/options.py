"""Structs with every kind of member, shaped as parts of QEMU's schema that ours lacks yet."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Union

import msgspec
from msgspec import UNSET, UnsetType

from monitor.engine.schema.base import (
    Alternate,
    NodeName,
    Options,
    QInt,
    Size,
    UInt16,
    UInt32,
    UInt64,
)
from monitor.engine.schema.blockdev import BlockdevOptions, BlockdevOptionsNullCo

Ref = Annotated[Union[NodeName, "AnyOptions"], Alternate("BlockdevRef")]


class Quorum(BlockdevOptions, tag="quorum", kw_only=True):
    children: list[Ref]
    vote_threshold: QInt
    read_pattern: Literal["quorum", "fifo"] | UnsetType = UNSET


class InetAddress(Options, kw_only=True, tag_field="type", tag="inet"):
    host: str
    port: str
    numeric: bool | UnsetType = UNSET


class UnixAddress(Options, kw_only=True, tag_field="type", tag="unix"):
    path: str


class Nbd(BlockdevOptions, tag="nbd", kw_only=True):
    server: InetAddress | UnixAddress
    export: str | UnsetType = UNSET
    reconnect_delay: UInt32 | UnsetType = UNSET


class InjectError(Options, kw_only=True):
    event: Literal["read_aio", "write_aio"]
    state: QInt | UnsetType = UNSET
    once: bool | UnsetType = UNSET


class Blkdebug(BlockdevOptions, tag="blkdebug", kw_only=True):
    image: Ref
    inject_error: list[InjectError] | UnsetType = UNSET
    take_child_perms: list[Literal["write", "resize"]] | UnsetType = UNSET


class Raw(BlockdevOptions, tag="raw", kw_only=True):
    file: Ref
    offset: QInt | UnsetType = UNSET


AnyOptions = Quorum | Nbd | Blkdebug | Raw | BlockdevOptionsNullCo


class Mixed(Options, kw_only=True):
    """What no one struct of QEMU's has together."""

    queues: UInt16 | UnsetType = UNSET
    wide: UInt64 | UnsetType = UNSET
    size: Size | UnsetType = UNSET
    ratio: float | UnsetType = UNSET
    anything: Any = UNSET
    members: dict[str, Any] | UnsetType = UNSET
    word: str | None = None
    plain: int = msgspec.field(default=7)
