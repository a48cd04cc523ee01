"""Options to open a node with, and to create an image."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Union

from msgspec import UNSET, UnsetType

from monitor.engine.schema.base import (
    Alternate,
    Feature,
    FileName,
    Int,
    Int32,
    NewName,
    NodeName,
    ObjectName,
    OnOffAuto,
    Options,
    QInt,
    Size,
    UInt32,
    UInt64,
)
from monitor.engine.schema.bitmap import BlockDirtyBitmap
from monitor.engine.schema.blkdebug import (
    BlkdebugInjectErrorOptions,
    BlkdebugSetStateOptions,
    BlockPermission,
)
from monitor.engine.schema.sockets import AnySocketAddress

DiscardOptions = Literal["ignore", "unmap"]
DetectZeroes = Literal["off", "on", "unmap"]
AioOptions = Literal["threads", "native", "io_uring"]
Qcow2OverlapMode = Literal["none", "constant", "cached", "all"]
BlockdevDriver = Literal[
    "blkdebug",
    "blklogwrites",
    "blkreplay",
    "blkverify",
    "bochs",
    "cloop",
    "compress",
    "copy-before-write",
    "copy-on-read",
    "dmg",
    "file",
    "snapshot-access",
    "ftp",
    "ftps",
    "gluster",
    "host_cdrom",
    "host_device",
    "http",
    "https",
    "iscsi",
    "luks",
    "nbd",
    "nfs",
    "null-aio",
    "null-co",
    "nvme",
    "parallels",
    "preallocate",
    "qcow",
    "qcow2",
    "qed",
    "quorum",
    "raw",
    "rbd",
    "replication",
    "ssh",
    "throttle",
    "vdi",
    "vhdx",
    "vmdk",
    "vpc",
    "vvfat",
]
"""Every driver of QEMU's: what an image may name as the format of its backing file."""
Preallocation = Literal["off", "metadata", "falloc", "full"]
Qcow2Compression = Literal["zlib", "zstd"]


class CacheOptions(Options, kw_only=True):
    direct: Annotated[bool, "bypass the host's page cache (O_DIRECT)"] | UnsetType = UNSET
    no_flush: Annotated[bool, "ignore flush requests"] | UnsetType = UNSET


class BlockdevOptions(Options, tag_field="driver", kw_only=True):
    """Members that every driver has."""

    node_name: Annotated[NewName, "the node's name"] | UnsetType = UNSET
    discard: Annotated[DiscardOptions, "pass discards on, or not"] | UnsetType = UNSET
    cache: Annotated[CacheOptions, "cache modes"] | UnsetType = UNSET
    read_only: Annotated[bool, "open without writing"] | UnsetType = UNSET
    auto_read_only: Annotated[bool, "read-only where read-write fails"] | UnsetType = UNSET
    force_share: Annotated[bool, "let others write to a read-only node"] | UnsetType = UNSET
    detect_zeroes: Annotated[DetectZeroes, "write zeroes as zeroes"] | UnsetType = UNSET


BlockdevRef = Annotated[
    Union[NodeName, "AnyBlockdevOptions"], Alternate("BlockdevRef"), "a node, or its options"
]
BlockdevRefOrNull = Annotated[
    Union[NodeName, "AnyBlockdevOptions", None],
    Alternate("BlockdevRefOrNull"),
    "a node, its options, or null for none",
]


class BlockdevOptionsBlkdebug(BlockdevOptions, tag="blkdebug", kw_only=True):
    """Another node whose requests fail, or wait, when and where rules say so."""

    image: BlockdevRef
    config: Annotated[FileName, "a file of further rules"] | UnsetType = UNSET
    align: Annotated[QInt, "bytes that requests are aligned to"] | UnsetType = UNSET
    max_transfer: Int32 | UnsetType = UNSET
    opt_write_zero: Int32 | UnsetType = UNSET
    max_write_zero: Int32 | UnsetType = UNSET
    opt_discard: Int32 | UnsetType = UNSET
    max_discard: Int32 | UnsetType = UNSET
    inject_error: Annotated[list[BlkdebugInjectErrorOptions], "errors"] | UnsetType = UNSET
    set_state: Annotated[list[BlkdebugSetStateOptions], "changes of state"] | UnsetType = UNSET
    take_child_perms: list[BlockPermission] | UnsetType = UNSET
    unshare_child_perms: list[BlockPermission] | UnsetType = UNSET


OnCbwError = Literal["break-guest-write", "break-snapshot"]


class BlockdevOptionsCopyBeforeWrite(BlockdevOptions, tag="copy-before-write", kw_only=True):
    """A filter: old data is copied to a target before it is overwritten."""

    file: BlockdevRef
    target: Annotated[BlockdevRef, "where the old data goes"]
    bitmap: Annotated[BlockDirtyBitmap, "copy only what is dirty in it"] | UnsetType = UNSET
    on_cbw_error: Annotated[OnCbwError, "what breaks when copying fails"] | UnsetType = UNSET
    cbw_timeout: Annotated[UInt32, "seconds a copy may take, 0 for no limit"] | UnsetType = UNSET


class BlockdevOptionsCopyOnRead(BlockdevOptions, tag="copy-on-read", kw_only=True):
    """A filter: what is read, and the image lacks, it takes over from the images below it."""

    file: BlockdevRef
    bottom: Annotated[NodeName, "the last layer that is copied from"] | UnsetType = UNSET


class BlockdevOptionsFile(BlockdevOptions, tag="file", kw_only=True):
    """A file of the host."""

    features = ("dynamic-auto-read-only",)

    filename: Annotated[FileName, "the file's path"]
    pr_manager: str | UnsetType = UNSET
    locking: Annotated[OnOffAuto, "QEMU's image locks"] | UnsetType = UNSET
    aio: AioOptions | UnsetType = UNSET
    aio_max_batch: QInt | UnsetType = UNSET
    drop_cache: bool | UnsetType = UNSET
    x_check_cache_dropped: Annotated[bool, Feature("unstable")] | UnsetType = UNSET


class BlockdevOptionsHostDevice(BlockdevOptions, tag="host_device", kw_only=True):
    """A block or character device of the host."""

    features = ("dynamic-auto-read-only",)

    filename: Annotated[FileName, "the device's path"]
    pr_manager: str | UnsetType = UNSET
    locking: Annotated[OnOffAuto, "QEMU's image locks"] | UnsetType = UNSET
    aio: AioOptions | UnsetType = UNSET
    aio_max_batch: QInt | UnsetType = UNSET
    drop_cache: bool | UnsetType = UNSET
    x_check_cache_dropped: Annotated[bool, Feature("unstable")] | UnsetType = UNSET


class BlockdevOptionsNullCo(BlockdevOptions, tag="null-co", kw_only=True):
    """A disk that forgets: writes are dropped, reads give nothing of meaning."""

    size: Annotated[QInt, "bytes (default 1 GiB)"] | UnsetType = UNSET
    latency_ns: Annotated[UInt64, "nanoseconds a request takes"] | UnsetType = UNSET
    read_zeroes: Annotated[bool, "reads give zeroes"] | UnsetType = UNSET


class BlockdevOptionsNbd(BlockdevOptions, tag="nbd", kw_only=True):
    server: Annotated[AnySocketAddress, "where it listens"]
    export: Annotated[str, "the export's name (default: the server's default)"] | UnsetType = UNSET
    tls_creds: Annotated[ObjectName, "the object with our TLS credentials"] | UnsetType = UNSET
    tls_hostname: Annotated[str, "the name that its certificate must have"] | UnsetType = UNSET
    x_dirty_bitmap: (
        Annotated[str, "a metadata context that map shows", Feature("unstable")] | UnsetType
    ) = UNSET
    reconnect_delay: (
        Annotated[int, Int("uint32"), "seconds that requests wait for a server that is gone"]
        | UnsetType
    ) = UNSET
    open_timeout: (
        Annotated[int, Int("uint32"), "seconds to try for, where nobody answers"] | UnsetType
    ) = UNSET


class BlockdevOptionsNullAio(BlockdevOptions, tag="null-aio", kw_only=True):
    """As null-co."""

    size: Annotated[QInt, "bytes (default 1 GiB)"] | UnsetType = UNSET
    latency_ns: Annotated[UInt64, "nanoseconds a request takes"] | UnsetType = UNSET
    read_zeroes: Annotated[bool, "reads give zeroes"] | UnsetType = UNSET


class BlockdevOptionsRaw(BlockdevOptions, tag="raw", kw_only=True):
    """The bytes of its file, or a part of them."""

    file: BlockdevRef
    offset: Annotated[QInt, "where the disk begins in the file, bytes"] | UnsetType = UNSET
    size: Annotated[QInt, "the disk's size, bytes"] | UnsetType = UNSET


class Qcow2OverlapCheckFlags(Options, kw_only=True):
    template: Qcow2OverlapMode | UnsetType = UNSET
    main_header: bool | UnsetType = UNSET
    active_l1: bool | UnsetType = UNSET
    active_l2: bool | UnsetType = UNSET
    refcount_table: bool | UnsetType = UNSET
    refcount_block: bool | UnsetType = UNSET
    snapshot_table: bool | UnsetType = UNSET
    inactive_l1: bool | UnsetType = UNSET
    inactive_l2: bool | UnsetType = UNSET
    bitmap_directory: bool | UnsetType = UNSET


Qcow2OverlapChecks = Annotated[
    Qcow2OverlapCheckFlags | Qcow2OverlapMode, Alternate("Qcow2OverlapChecks")
]


class BlockdevOptionsQcow2(BlockdevOptions, tag="qcow2", kw_only=True):
    """QEMU's image format."""

    file: BlockdevRef
    backing: BlockdevRefOrNull | UnsetType = UNSET
    lazy_refcounts: bool | UnsetType = UNSET
    pass_discard_request: bool | UnsetType = UNSET
    pass_discard_snapshot: bool | UnsetType = UNSET
    pass_discard_other: bool | UnsetType = UNSET
    overlap_check: Qcow2OverlapChecks | UnsetType = UNSET
    cache_size: Annotated[int, Int("int"), "metadata cache, bytes"] | UnsetType = UNSET
    l2_cache_size: QInt | UnsetType = UNSET
    l2_cache_entry_size: QInt | UnsetType = UNSET
    refcount_cache_size: QInt | UnsetType = UNSET
    cache_clean_interval: QInt | UnsetType = UNSET


AnyBlockdevOptions = (
    BlockdevOptionsBlkdebug
    | BlockdevOptionsCopyBeforeWrite
    | BlockdevOptionsCopyOnRead
    | BlockdevOptionsFile
    | BlockdevOptionsHostDevice
    | BlockdevOptionsNbd
    | BlockdevOptionsNullAio
    | BlockdevOptionsNullCo
    | BlockdevOptionsQcow2
    | BlockdevOptionsRaw
)


class BlockdevCreateOptions(Options, tag_field="driver", kw_only=True):
    """Members that every format has: none but the driver."""

    offered: ClassVar[bool] = True
    """Whether a person may want it: QMP knows drivers too that create nothing."""


class BlockdevCreateOptionsBlkdebug(BlockdevCreateOptions, tag="blkdebug", kw_only=True):
    """Not there: what lies below is created."""

    offered = False


class BlockdevCreateOptionsFile(BlockdevCreateOptions, tag="file", kw_only=True):
    filename: FileName
    size: Annotated[Size, "bytes"]
    preallocation: Annotated[Preallocation, "what is allocated at once"] | UnsetType = UNSET
    nocow: Annotated[bool, "no copy-on-write of the host's filesystem"] | UnsetType = UNSET
    extent_size_hint: Annotated[Size, "bytes of an extent on the host"] | UnsetType = UNSET


class BlockdevCreateOptionsRaw(BlockdevCreateOptions, tag="raw", kw_only=True):
    """Not there: a raw image is created as a file."""

    offered = False


class BlockdevCreateOptionsCopyBeforeWrite(
    BlockdevCreateOptions, tag="copy-before-write", kw_only=True
):
    """Not there: a filter has no image."""

    offered = False


class BlockdevCreateOptionsCopyOnRead(BlockdevCreateOptions, tag="copy-on-read", kw_only=True):
    """Not there: a filter has no image."""

    offered = False


class BlockdevCreateOptionsHostDevice(BlockdevCreateOptions, tag="host_device", kw_only=True):
    """Not there: a device is not created."""

    offered = False


class BlockdevCreateOptionsNullAio(BlockdevCreateOptions, tag="null-aio", kw_only=True):
    """Not there: such a disk needs nothing created."""

    offered = False


class BlockdevCreateOptionsNullCo(BlockdevCreateOptions, tag="null-co", kw_only=True):
    """Not there: such a disk needs nothing created."""

    offered = False


class BlockdevCreateOptionsQcow2(BlockdevCreateOptions, tag="qcow2", kw_only=True):
    file: BlockdevRef
    data_file: BlockdevRef | UnsetType = UNSET
    data_file_raw: bool | UnsetType = UNSET
    extended_l2: bool | UnsetType = UNSET
    size: Annotated[Size, "bytes"]
    version: Annotated[Literal["v2", "v3"], "the version of the format"] | UnsetType = UNSET
    backing_file: FileName | UnsetType = UNSET
    backing_fmt: BlockdevDriver | UnsetType = UNSET
    cluster_size: Annotated[Size, "bytes in a cluster"] | UnsetType = UNSET
    preallocation: Annotated[Preallocation, "what is allocated at once"] | UnsetType = UNSET
    lazy_refcounts: Annotated[bool, "put off updates of reference counts"] | UnsetType = UNSET
    refcount_bits: Annotated[QInt, "width of a reference count"] | UnsetType = UNSET
    compression_type: Annotated[Qcow2Compression, "how clusters are compressed"] | UnsetType = UNSET


AnyCreateOptions = (
    BlockdevCreateOptionsBlkdebug
    | BlockdevCreateOptionsCopyBeforeWrite
    | BlockdevCreateOptionsCopyOnRead
    | BlockdevCreateOptionsFile
    | BlockdevCreateOptionsHostDevice
    | BlockdevCreateOptionsNullAio
    | BlockdevCreateOptionsNullCo
    | BlockdevCreateOptionsQcow2
    | BlockdevCreateOptionsRaw
)
