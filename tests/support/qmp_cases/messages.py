"""The messages that the system described gives, by the request that gives them.

The texts are interface: other people's scripts match them. They stand as QEMU 7.2 words them, which
is what people run. ``%`` stands for a name or for the host's reason.
"""

from __future__ import annotations

LOOKUP = ("Cannot find device=% nor node-name=%", "Device '%' has no medium")
NODE_LOOKUP = ("Cannot find device=% nor node-name=%",)
BUSY = ("Node '%' is busy: %",)
ROOT_NODE = (*LOOKUP, "Need a root block node")
BITMAP = (
    "Node '%' not found",
    "Dirty bitmap '%' not found",
)
BITMAP_STATE = (
    "Bitmap '%' is currently in use by another operation and cannot be used",
    "Bitmap '%' is readonly and cannot be modified",
    "Bitmap '%' is inconsistent and cannot be used",
)
JOB = ("Block job '%' not found",)
BACKUP = (
    *LOOKUP,
    "must provide a valid bitmap name for '%' sync mode",
    "Bitmap sync mode must be 'on-success' when using sync mode 'incremental'",
    "Bitmap '%' could not be found",
    "Bitmap sync mode must be given when providing a bitmap",
    "sync mode 'none' does not produce meaningful bitmap outputs",
    "Bitmap sync mode 'never' has no meaningful effect when combined with sync mode '%'",
    "Cannot specify bitmap sync mode without a bitmap",
)
MIRROR = (
    *ROOT_NODE,
    *BUSY,
    "Parameter 'granularity' expects a value in range [512B, 64MB]",
    "Parameter 'granularity' expects a power of 2",
    "cannot replace image with a mirror image of different size",
)
DRIVE = (
    "'%' invalid % error action",
    "Invalid interval length: %",
    "The specification of stats-intervals is invalid",
    "invalid aio option",
    "invalid cache option",
    "Cannot specify both 'driver' and 'format'",
    "'%' and its alias '%' can't be used at the same time",
    "'%' invalid media",
    "unsupported bus type '%'",
    "index cannot be used with bus and unit",
    "unit % too big (max is %)",
    "drive with bus=%, unit=% (index=%) exists",
    "werror is not supported by this bus type",
    "rerror is not supported by this bus type",
)

REFERENCE: dict[str, tuple[str, ...]] = {
    "x-blkmon-drive-add": DRIVE,
    "transaction": (
        "Action '%' does not support Transaction property completion-mode = %",
        "Transaction aborted using Abort action",
    ),
    "blockdev-snapshot-internal-sync": (
        *ROOT_NODE,
        *BUSY,
        "Device '%' is read only",
        "Block format '%' used by device '%' does not support internal snapshots",
        "Name is empty",
        "Snapshot with name '%' already exists on device '%'",
        "Failed to create snapshot '%' on device '%': %",
    ),
    "blockdev-snapshot-delete-internal-sync": (
        *ROOT_NODE,
        "Name or id must be provided",
        *BUSY,
        "Snapshot with id '%' and name '%' does not exist on device '%'",
    ),
    "blockdev-snapshot": (
        *LOOKUP,
        *BUSY,
        "An IO error has occurred",
        "The overlay is already in use",
        "The overlay already has a backing image",
        "The overlay does not support backing images",
    ),
    "blockdev-snapshot-sync": (
        *LOOKUP,
        *BUSY,
        "An IO error has occurred",
        "New overlay node-name missing",
        "New overlay node-name already in use",
        "bdrv_getlength failed: %",
        "The overlay is already in use",
        "The overlay already has a backing image",
        "The overlay does not support backing images",
    ),
    "block-dirty-bitmap-add": (
        "Bitmap name cannot be empty",
        *NODE_LOOKUP,
        "Granularity must be power of 2 and at least 512",
    ),
    "block-dirty-bitmap-remove": (*BITMAP, BITMAP_STATE[0]),
    "block-dirty-bitmap-clear": (*BITMAP, *BITMAP_STATE),
    "block-dirty-bitmap-enable": (*BITMAP, BITMAP_STATE[0], BITMAP_STATE[2]),
    "block-dirty-bitmap-disable": (*BITMAP, BITMAP_STATE[0], BITMAP_STATE[2]),
    "block-dirty-bitmap-merge": BITMAP,
    "x-debug-block-dirty-bitmap-sha256": BITMAP,
    "block_resize": (*LOOKUP, "Parameter 'size' expects a >0 size", "Device '%' is in use"),
    "block-stream": (
        *LOOKUP,
        "'base' and 'base-node' cannot be specified at the same time",
        "Can't find '%' in the backing chain",
        "Node '%' is not a backing image of '%'",
        *BUSY,
        "backing file specified, but streaming the entire chain",
    ),
    "block-commit": (
        "Device '%' not found",
        *ROOT_NODE,
        *BUSY,
        "'top-node' and 'top' are mutually exclusive",
        "'%' is not in this backing file chain",
        "Top image file % not found",
        "'base-node' and 'base' are mutually exclusive",
        "Can't find '%' in the backing chain",
        "cannot commit an image into itself",
        "'backing-file' specified, but 'top' is the active layer",
    ),
    "drive-backup": (*BACKUP, *BUSY),
    "blockdev-backup": BACKUP,
    "drive-mirror": (
        *MIRROR,
        "a node-name must be provided when replacing a named node of the graph",
    ),
    "blockdev-mirror": MIRROR,
    "block-job-set-speed": JOB,
    "block-job-cancel": (*JOB, "The block job for device '%' is currently paused"),
    "block-job-pause": JOB,
    "block-job-resume": JOB,
    "block-job-complete": JOB,
    "block-job-finalize": JOB,
    "block-job-dismiss": JOB,
    "change-backing-file": (
        *ROOT_NODE,
        "image file not found",
        "not allowing backing file change on an image without a backing file",
        *BUSY,
        "'%' and image file are not in the same chain",
        "Could not change backing file to '%': %",
    ),
    "blockdev-add": ("'node-name' must be specified for the root node",),
    "blockdev-reopen": ("node-name not specified", "Failed to find node with node-name='%'"),
    "blockdev-del": (
        "Failed to find node with node-name='%'",
        "Node % is in use",
        *BUSY,
        "Node % is not owned by the monitor",
        "Block device % is in use",
    ),
    "x-blockdev-change": (
        *LOOKUP,
        "The parameters child and node are in conflict",
        "Either child or node must be specified",
        "Node '%' does not have child '%'",
        "Node '%' not found",
    ),
    "x-blockdev-set-iothread": (
        "Failed to find node with node-name='%'",
        "Node % is associated with a BlockBackend and could be in use "
        "(use force=true to override this check)",
        "Cannot find iothread %",
    ),
    "block_passwd": ("Setting block passwords directly is no longer supported",),
}
