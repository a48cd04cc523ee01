"""What a person can type; one file a topic, each command declared once (``registry``)."""

from __future__ import annotations

COMMANDS: dict[str, tuple[str, ...]] = {
    "bitmaps": (
        "info bitmaps",
        "bitmap doctor",
    ),
    "drives": (
        "drive_add",
        "drive_del",
        "block_set_io_throttle",
    ),
    "exports": (
        "nbd_server_start",
        "nbd_server_add",
        "nbd_server_remove",
        "nbd_server_stop",
        "info exports",
    ),
    "help": (
        "help",
        "?",
        "info",
        "apropos",
    ),
    "history": (
        "info history",
        "history",
        "rerun",
    ),
    "images": (
        "block_resize",
        "create",
        "check",
        "map",
        "resize",
    ),
    "info": (
        "info block",
        "info blockstats",
        "info snapshots",
        "info block-jobs",
        "info jobs",
        "info graph",
        "info version",
    ),
    "jobs": (
        "block_stream",
        "drive_backup",
        "block_job_cancel",
        "block_job_complete",
        "block_job_pause",
        "block_job_resume",
        "block_job_set_speed",
        "drive_mirror",
        "commit",
    ),
    "macros": (
        "macro",
        "macros",
    ),
    "qemuio": ("qemu-io",),
    "session": (
        "source",
        "echo",
        "record",
        "quit",
        "q",
    ),
    "settings": (
        "set",
        "unset",
    ),
    "snapshots": (
        "snapshot_blkdev",
        "snapshot_blkdev_internal",
        "snapshot_delete_blkdev_internal",
        "savevm",
        "loadvm",
        "delvm",
    ),
    "waiting": (
        "wait",
        "step",
    ),
    "watching": ("watch",),
}
"""The commands that each topic declares, with their aliases; so one can be found without importing
all topics."""
