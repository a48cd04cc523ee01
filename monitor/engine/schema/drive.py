"""The keys of ``-drive`` option strings, beside those of the image itself (``schema.blockdev``)."""

from __future__ import annotations

import functools
from typing import Annotated, Literal

from msgspec import UNSET, UnsetType

from monitor.engine.schema.base import FileName, NewName, Options, QInt, fields_of

CacheMode = Literal["writeback", "none", "off", "writethrough", "directsync", "unsafe"]


Rate = Annotated[QInt, "at most so many a second; 0: no limit"]
Burst = Annotated[QInt, "at most so many a second in a burst"]
Seconds = Annotated[QInt, "seconds that a burst may last (default 1)"]


def _option(attribute: str) -> str:
    """Two underscores are a dot."""
    return attribute.rstrip("_").replace("__", ".").replace("_", "-")


class DriveOptions(Options, kw_only=True, rename=_option):
    """What can be given; a value outside an option's choices is refused."""

    if_: Annotated[Literal["none"], "the bus; none for a drive without a device"] | UnsetType = (
        UNSET
    )
    id: Annotated[NewName, "the drive's name"] | UnsetType = UNSET
    file: Annotated[FileName, "the image's file"] | UnsetType = UNSET
    format: Annotated[str, "the image's format (guessed if not given)"] | UnsetType = UNSET
    cache: Annotated[CacheMode, "cache mode"] | UnsetType = UNSET
    discard: (
        Annotated[Literal["unmap", "on", "ignore", "off"], "pass discards on, or not"] | UnsetType
    ) = UNSET
    media: Annotated[Literal["disk", "cdrom"], "what the guest sees"] | UnsetType = UNSET
    readonly: Annotated[bool, "open without writing"] | UnsetType = UNSET
    snapshot: Annotated[bool, "have what is written thrown away in the end"] | UnsetType = UNSET
    copy_on_read: Annotated[bool, "take over what is read from backing images"] | UnsetType = UNSET
    werror: (
        Annotated[Literal["ignore", "enospc", "stop", "report"], "what a failing write does"]
        | UnsetType
    ) = UNSET
    rerror: (
        Annotated[Literal["ignore", "stop", "report"], "what a failing read does"] | UnsetType
    ) = UNSET
    stats_account_invalid: (
        Annotated[bool, "whether requests that could not be made end idleness"] | UnsetType
    ) = UNSET
    stats_account_failed: (
        Annotated[bool, "whether the times of failed requests count"] | UnsetType
    ) = UNSET
    stats_intervals__0: (
        Annotated[QInt, "seconds over which times are told; .1 and so on: more of them"] | UnsetType
    ) = UNSET
    throttling__bps_total: Rate | UnsetType = UNSET
    throttling__bps_read: Rate | UnsetType = UNSET
    throttling__bps_write: Rate | UnsetType = UNSET
    throttling__iops_total: Rate | UnsetType = UNSET
    throttling__iops_read: Rate | UnsetType = UNSET
    throttling__iops_write: Rate | UnsetType = UNSET
    throttling__bps_total_max: Burst | UnsetType = UNSET
    throttling__bps_read_max: Burst | UnsetType = UNSET
    throttling__bps_write_max: Burst | UnsetType = UNSET
    throttling__iops_total_max: Burst | UnsetType = UNSET
    throttling__iops_read_max: Burst | UnsetType = UNSET
    throttling__iops_write_max: Burst | UnsetType = UNSET
    throttling__bps_total_max_length: Seconds | UnsetType = UNSET
    throttling__bps_read_max_length: Seconds | UnsetType = UNSET
    throttling__bps_write_max_length: Seconds | UnsetType = UNSET
    throttling__iops_total_max_length: Seconds | UnsetType = UNSET
    throttling__iops_read_max_length: Seconds | UnsetType = UNSET
    throttling__iops_write_max_length: Seconds | UnsetType = UNSET
    throttling__iops_size: (
        Annotated[QInt, "bytes above which a request counts as several"] | UnsetType
    ) = UNSET
    throttling__group: Annotated[NewName, "drives of one group share its limits"] | UnsetType = (
        UNSET
    )


THROTTLING = {
    "bps": "throttling.bps-total",
    "bps_rd": "throttling.bps-read",
    "bps_wr": "throttling.bps-write",
    "iops": "throttling.iops-total",
    "iops_rd": "throttling.iops-read",
    "iops_wr": "throttling.iops-write",
}
"""A limit's short name, by which it is known elsewhere -> its option. ``OPTION-max`` is its burst,
``OPTION-max-length`` how many seconds that may last."""

LIMIT_ALIASES = {
    **{
        name: THROTTLING[name] for name in ("iops", "iops_rd", "iops_wr", "bps", "bps_rd", "bps_wr")
    },
    **{f"{name}_max": f"{THROTTLING[name]}-max" for name in ("iops", "iops_rd", "iops_wr")},
    **{f"{name}_max": f"{THROTTLING[name]}-max" for name in ("bps", "bps_rd", "bps_wr")},
    "iops_size": "throttling.iops-size",
    "group": "throttling.group",
}
"""Older names, in the order in which QEMU looks for both being given."""

CACHE_MODES: dict[CacheMode, tuple[bool, bool, bool]] = {
    "writeback": (False, False, True),
    "none": (True, False, True),
    "off": (True, False, True),
    "writethrough": (False, False, False),
    "directsync": (True, False, False),
    "unsafe": (False, True, True),
}
"""cache=MODE -> (cache.direct, cache.no-flush, cache.writeback)."""

INTERFACES = ("none", "ide", "scsi", "floppy", "pflash", "mtd", "sd", "virtio", "xen")
"""QEMU's buses, in its order: the number of one is printed when it cannot be hot-added."""

PLACE = ("bus", "unit", "index", "addr")
"""Where the drive is on its bus."""

WITH_ERROR_ACTIONS = ("none", "ide", "scsi", "virtio")
"""Buses whose drives may be told what a failing request does."""


@functools.cache
def choices(option: str) -> tuple[str, ...]:
    """What can be given for ``option``; () where that is not a list of words."""
    return next(field.choices for field in fields_of(DriveOptions) if field.name == option)
