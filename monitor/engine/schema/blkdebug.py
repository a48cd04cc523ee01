"""Options of the ``blkdebug`` driver: events, and the rules that wait for them."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, UnsetType

from monitor.engine.schema.base import Options, QInt

BlkdebugEvent = Literal[
    "l1_update",
    "l1_grow_alloc_table",
    "l1_grow_write_table",
    "l1_grow_activate_table",
    "l2_load",
    "l2_update",
    "l2_update_compressed",
    "l2_alloc_cow_read",
    "l2_alloc_write",
    "read_aio",
    "read_backing_aio",
    "read_compressed",
    "write_aio",
    "write_compressed",
    "vmstate_load",
    "vmstate_save",
    "cow_read",
    "cow_write",
    "reftable_load",
    "reftable_grow",
    "reftable_update",
    "refblock_load",
    "refblock_update",
    "refblock_update_part",
    "refblock_alloc",
    "refblock_alloc_hookup",
    "refblock_alloc_write",
    "refblock_alloc_write_blocks",
    "refblock_alloc_write_table",
    "refblock_alloc_switch_table",
    "cluster_alloc",
    "cluster_alloc_bytes",
    "cluster_free",
    "flush_to_os",
    "flush_to_disk",
    "pwritev_rmw_head",
    "pwritev_rmw_after_head",
    "pwritev_rmw_tail",
    "pwritev_rmw_after_tail",
    "pwritev",
    "pwritev_zero",
    "pwritev_done",
    "empty_image_prepare",
    "l1_shrink_write_table",
    "l1_shrink_free_l2_clusters",
    "cor_write",
    "cluster_alloc_space",
    "none",
]
"""What drivers report before they do it; ``none`` is there when the node is opened."""
BlkdebugIOType = Literal["read", "write", "write-zeroes", "discard", "flush", "block-status"]
BlockPermission = Literal["consistent-read", "write", "write-unchanged", "resize"]


class BlkdebugInjectErrorOptions(Options, kw_only=True):
    """Requests fail after an event."""

    event: Annotated[BlkdebugEvent, "what the rule waits for"]
    state: Annotated[QInt, "the state it waits in, 0 for any"] | UnsetType = UNSET
    iotype: Annotated[BlkdebugIOType, "the requests that fail (default: all)"] | UnsetType = UNSET
    errno: Annotated[QInt, "the error's number (default 5, EIO)"] | UnsetType = UNSET
    sector: Annotated[QInt, "a sector that the request must touch"] | UnsetType = UNSET
    once: Annotated[bool, "only the first such request"] | UnsetType = UNSET
    immediately: (
        Annotated[bool, "without effect: a request fails in its own thread"] | UnsetType
    ) = UNSET


class BlkdebugSetStateOptions(Options, kw_only=True, rename={"new_state": "new_state"}):
    """An event changes the state."""

    event: Annotated[BlkdebugEvent, "what the rule waits for"]
    state: Annotated[QInt, "the state it waits in, 0 for any"] | UnsetType = UNSET
    new_state: Annotated[QInt, "the state from then on"]
