"""Backups: their rules for bitmaps and modes, what they refuse, and how they end."""

from __future__ import annotations

from typing import Any

from tests.support.qmp_cases import Never
from tests.support.qmp_cases.words import Requests, add, do, wait

SOURCE = add("n0", "top.qcow2")
TARGET = add("t0", "empty.qcow2")
BITMAP = do("block-dirty-bitmap-add", node="n0", name="b0")


def backup(**options: Any) -> dict[str, Any]:
    return do("blockdev-backup", **{"job_id": "j", "device": "n0", "target": "t0", **options})


def drive_backup(**options: Any) -> dict[str, Any]:
    return do("drive-backup", **{"job_id": "j", "device": "n0", "target": "new.qcow2", **options})


FAILING = do(
    "blockdev-add",
    driver="qcow2",
    node_name="n0",
    file={
        "driver": "blkdebug",
        "image": {"driver": "file", "filename": "base.qcow2"},
        "inject-error": [{"event": "read_aio", "once": True, "immediately": True, "errno": 5}],
    },
)
"""A disk whose first read of data fails."""
GOES_ON = wait("j", "running")
"""After what may have paused the job for a moment."""
CASES: dict[str, Requests] = {
    "backup: names": [
        SOURCE,
        TARGET,
        add("half", "a.img", "raw"),
        backup(device="no", sync="full"),
        backup(target="no", sync="full"),
        backup(target="n0", sync="full"),
        backup(target="half", sync="full"),
        backup(job_id="0j", sync="full"),
        do("blockdev-backup", device="n0", target="t0", sync="full"),
        backup(sync="full", filter_node_name="0f"),
        backup(sync="full", filter_node_name="n0"),
        backup(sync="full", filter_node_name="f" * 32),
        backup(sync="nonsense"),
        backup(sync="full", speed=-1),
        backup(sync="full", on_source_error="nonsense"),
    ],
    "backup: tuning": [
        SOURCE,
        TARGET,
        add("half", "a.img", "raw"),
        backup(sync="full", x_perf={"max-workers": 0}),
        backup(sync="full", x_perf={"max-workers": 1 << 31}),
        backup(sync="full", x_perf={"max-chunk": -1}),
        backup(sync="full", x_perf={"max-chunk": 512}),
        backup(sync="full", x_perf={"nonsense": 1}),
        backup(sync="full", compress=True, target="half"),
    ],
    "backup: bitmaps without a backup": [
        SOURCE,
        TARGET,
        BITMAP,
        backup(sync="bitmap"),
        backup(sync="incremental"),
        backup(sync="incremental", bitmap_mode="never"),
        backup(sync="incremental", bitmap="b0", bitmap_mode="never"),
        backup(sync="incremental", bitmap="b0", bitmap_mode="always"),
        backup(sync="bitmap", bitmap="no", bitmap_mode="never"),
        backup(sync="full", bitmap="no"),
        backup(sync="bitmap", bitmap="b0"),
        backup(sync="none", bitmap="b0", bitmap_mode="on-success"),
        backup(sync="full", bitmap="b0", bitmap_mode="never"),
        backup(sync="top", bitmap="b0", bitmap_mode="never"),
        backup(sync="full", bitmap_mode="on-success"),
        backup(sync="full", bitmap_mode="nonsense"),
        backup(sync="bitmap", bitmap="b0", bitmap_mode="always", target="n0"),
        backup(sync="bitmap", bitmap="b0", bitmap_mode="always", job_id="0j"),
    ],
    "backup: a busy bitmap": [
        SOURCE,
        TARGET,
        add("t1", "mid.qcow2"),
        BITMAP,
        backup(sync="bitmap", bitmap="b0", bitmap_mode="always", auto_finalize=False),
        wait("j", "pending"),
        backup(job_id="k", target="t1", sync="bitmap", bitmap="b0", bitmap_mode="always"),
        do("block-dirty-bitmap-remove", node="n0", name="b0"),
        do("block-dirty-bitmap-clear", node="n0", name="b0"),
        do("job-finalize", id="j"),
        wait("j", "null"),
        do("block-dirty-bitmap-remove", node="n0", name="b0"),
    ],
    "backup: full": [
        SOURCE,
        TARGET,
        backup(sync="full"),
        wait("j", "null"),
        do("query-jobs"),
    ],
    "backup: top": [
        add("n0", "mid.qcow2"),
        TARGET,
        backup(sync="top", filter_node_name="f0", auto_finalize=False, auto_dismiss=False),
        wait("j", "pending"),
        do("job-finalize", id="j"),
        wait("j", "concluded"),
        do("query-jobs"),
        do("job-dismiss", id="j"),
    ],
    "backup: none, and what it keeps others from": [
        SOURCE,
        TARGET,
        add("t1", "mid.qcow2", read_only=True),
        backup(sync="none", filter_node_name="f0"),
        backup(job_id="k", sync="none", target="t0", device="t1"),
        GOES_ON,
        backup(job_id="k", sync="none", device="f0", target="t1"),
        GOES_ON,
        do("block-stream", job_id="k", device="t0"),
        GOES_ON,
        do("block-stream", job_id="k", device="f0"),
        GOES_ON,
        do("blockdev-del", node_name="t0"),
        do("blockdev-del", node_name="f0"),
        do("blockdev-del", node_name="n0"),
        do("block_resize", node_name="t0", size=1 << 20),
        GOES_ON,
        do("blockdev-snapshot-sync", node_name="t0", snapshot_file="o", snapshot_node_name="o"),
        GOES_ON,
        do("job-pause", id="j"),
        do("job-resume", id="j"),
        do("job-complete", id="j"),
        do("job-cancel", id="j"),
        wait("j", "null"),
        do("query-jobs"),
    ],
    "backup: a target that cannot be written": [
        SOURCE,
        add("t0", "empty.qcow2", read_only=True),
        backup(sync="full"),
    ],
    "drive-backup: refusals": [
        add("n0", "mid.qcow2"),
        drive_backup(device="no", sync="full"),
        drive_backup(sync="full", format="nonsense"),
        drive_backup(sync="full", mode="existing"),
        drive_backup(sync="full", target="/nowhere/new.qcow2"),
        drive_backup(sync="full", target="a.img", mode="existing", format="raw"),
        drive_backup(sync="top", format="raw", target="new.img"),
        drive_backup(sync="full", mode="nonsense"),
        drive_backup(sync="bitmap"),
        drive_backup(sync="none", filter_node_name="f0"),
        drive_backup(job_id="k", device="f0", sync="full"),
        do("job-cancel", id="j"),
        wait("j", "null"),
    ],
    "drive-backup: created": [
        add("n0", "mid.qcow2"),
        drive_backup(sync="full"),
        wait("j", "null"),
        drive_backup(job_id="j1", sync="top", target="new2.qcow2", auto_finalize=False),
        wait("j1", "pending"),
        do("job-finalize", id="j1"),
        wait("j1", "null"),
        drive_backup(job_id="j2", sync="full", target="new.img", format="raw"),
        wait("j2", "null"),
        drive_backup(job_id="j3", sync="full", target="empty.qcow2", mode="existing"),
        wait("j3", "null"),
    ],
    "backup: a read that fails once, ignored": [
        FAILING,
        TARGET,
        backup(sync="full", on_source_error="ignore", auto_dismiss=False),
        wait("j", "concluded"),
        do("job-dismiss", id="j"),
    ],
    "backup: a write that fails once, ignored": [
        SOURCE,
        do(
            "blockdev-add",
            driver="qcow2",
            node_name="t0",
            file={
                "driver": "blkdebug",
                "image": {"driver": "file", "filename": "empty.qcow2"},
                "inject-error": [
                    {"event": "write_aio", "once": True, "immediately": True, "errno": 28}
                ],
            },
        ),
        backup(sync="full", on_target_error="ignore", auto_dismiss=False),
        wait("j", "concluded"),
        do("job-dismiss", id="j"),
    ],
    "copy-before-write": [
        SOURCE,
        TARGET,
        BITMAP,
        do("blockdev-add", driver="copy-before-write", node_name="f0", file="n0", target="t0"),
        do("blockdev-add", driver="raw", node_name="user", file="f0"),
        do("blockdev-del", node_name="user"),
        do("blockdev-del", node_name="f0"),
        do(
            "blockdev-add",
            driver="copy-before-write",
            node_name="f0",
            file="n0",
            target="t0",
            bitmap={"node": "n0", "name": "b0"},
            on_cbw_error="break-snapshot",
            cbw_timeout=5,
        ),
        do("blockdev-del", node_name="f0"),
        do(
            "blockdev-add",
            driver="copy-before-write",
            node_name="f0",
            file="n0",
            target="t0",
            bitmap={"node": "n0", "name": "no"},
        ),
        do(
            "blockdev-add",
            driver="copy-before-write",
            node_name="f0",
            file="n0",
            target="t0",
            bitmap={"node": "no", "name": "b0"},
        ),
        do("blockdev-add", driver="copy-before-write", node_name="f0", file="n0"),
    ],
}

SUCCEEDS: dict[str, str | Never] = {
    "blockdev-backup": "backup: full",
    "drive-backup": "drive-backup: created",
}

NO_MEDIUM = Never("qemu-storage-daemon has no drives; ours: test_hmp.py")
BITMAPS: dict[str, str | Never] = {
    "must provide a valid bitmap name for '%' sync mode": "backup: bitmaps without a backup",
    "Bitmap sync mode must be 'on-success' when using sync mode 'incremental'": (
        "backup: bitmaps without a backup"
    ),
    "Bitmap '%' could not be found": "backup: bitmaps without a backup",
    "Bitmap sync mode must be given when providing a bitmap": "backup: bitmaps without a backup",
    "sync mode 'none' does not produce meaningful bitmap outputs": (
        "backup: bitmaps without a backup"
    ),
    "Bitmap sync mode 'never' has no meaningful effect when combined with sync mode '%'": (
        "backup: bitmaps without a backup"
    ),
    "Cannot specify bitmap sync mode without a bitmap": "backup: bitmaps without a backup",
    "Device '%' has no medium": NO_MEDIUM,
}
REFUSALS: dict[str, dict[str, str | Never]] = {
    "blockdev-backup": {"Cannot find device=% nor node-name=%": "backup: names", **BITMAPS},
    "drive-backup": {
        "Cannot find device=% nor node-name=%": "drive-backup: refusals",
        **BITMAPS,
        "Node '%' is busy: %": "drive-backup: refusals",
    },
}

UNLOOKED = {
    "backup: a read that fails once, ignored",
    "backup: a write that fails once, ignored",
}
"""The names of nodes on blkdebug hold its options in another order."""
