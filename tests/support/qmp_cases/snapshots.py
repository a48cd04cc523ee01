"""Overlays put on top of nodes."""

from __future__ import annotations

from typing import Any

from tests.support.qmp_cases import Never
from tests.support.qmp_cases.words import USER, Requests, add, do, wait


def sync(node: str, overlay: str, filename: str, **options: Any) -> dict[str, Any]:
    return do(
        "blockdev-snapshot-sync",
        node_name=node,
        snapshot_node_name=overlay,
        snapshot_file=filename,
        **options,
    )


CASES: dict[str, Requests] = {
    "snapshot-sync of an unused node": [
        add("n0", "empty.qcow2"),
        do(
            "blockdev-snapshot-sync",
            node_name="n0",
            snapshot_node_name="s0",
            snapshot_file="s0.qcow2",
        ),
    ],
    "snapshot-sync of a used node": [
        add("n0", "empty.qcow2"),
        USER,
        do(
            "blockdev-snapshot-sync",
            node_name="n0",
            snapshot_node_name="s0",
            snapshot_file="s0.qcow2",
        ),
        do(
            "blockdev-snapshot-sync",
            node_name="s0",
            snapshot_node_name="s1",
            snapshot_file="s1.qcow2",
        ),
    ],
    "new images where there are no files": [
        add("n0", "empty.qcow2"),
        sync("n0", "s0", "blkdebug::s.qcow2"),
        sync("n0", "s0", "null-co://"),
        sync("n0", "s0", "blkdebug::s", format="raw"),
        sync("n0", "s0", "blkdebug::s", format="nope"),
        do("drive-backup", device="n0", target="blkdebug::b", sync="full", job_id="b"),
        do("drive-mirror", device="n0", target="blkdebug::m", sync="full", job_id="m"),
    ],
    "snapshot-sync refusals": [
        add("n0", "empty.qcow2"),
        do("blockdev-snapshot-sync", snapshot_file="s.qcow2"),
        do("blockdev-snapshot-sync", device="n0", snapshot_file="s.qcow2"),
        do("blockdev-snapshot-sync", node_name="n0", snapshot_file="s.qcow2"),
        do("blockdev-snapshot-sync", node_name="no", snapshot_file="s.qcow2"),
        do(
            "blockdev-snapshot-sync",
            node_name="n0",
            snapshot_node_name="n0",
            snapshot_file="s.qcow2",
        ),
        do(
            "blockdev-snapshot-sync",
            node_name="n0",
            snapshot_node_name="s",
            snapshot_file="/nowhere/s.qcow2",
        ),
        do(
            "blockdev-snapshot-sync",
            node_name="n0",
            snapshot_node_name="s",
            snapshot_file="s.img",
            format="nonsense",
        ),
        do(
            "blockdev-snapshot-sync",
            node_name="n0",
            snapshot_node_name="s",
            snapshot_file="s.img",
            format="raw",
        ),
    ],
    "snapshot-sync onto an existing image": [
        add("n0", "empty.qcow2"),
        USER,
        do(
            "blockdev-snapshot-sync",
            node_name="n0",
            snapshot_node_name="s",
            snapshot_file="top.qcow2",
            mode="existing",
        ),
    ],
    "snapshot": [
        add("n0", "base.qcow2"),
        USER,
        add("ov", "mid.qcow2", backing=None),
        do("blockdev-snapshot", node="n0", overlay="ov"),
    ],
    "snapshot refusals": [
        add("n0", "base.qcow2"),
        USER,
        add("ov", "top.qcow2"),
        add("r", "a.img", "raw"),
        do("blockdev-snapshot", node="n0", overlay="ov"),
        do("blockdev-snapshot", node="n0", overlay="r"),
        do("blockdev-snapshot", node="no", overlay="ov"),
        do("blockdev-snapshot", node="n0", overlay="no"),
        do("blockdev-snapshot", node="n0", overlay="user"),
        do("blockdev-snapshot", node="n0", overlay="n0"),
    ],
    "snapshot-sync: names": [
        add("n0", "empty.qcow2"),
        USER,
        sync("n0", "0s", "s.qcow2"),
        sync("n0", "user", "s.qcow2"),
        sync("n0", "s" * 32, "s.qcow2"),
        do("blockdev-snapshot-sync", device="", snapshot_file="s.qcow2"),
        do("blockdev-snapshot-sync", device="n0", node_name="n0", snapshot_file="s.qcow2"),
        do("blockdev-snapshot-sync", node_name="n0", snapshot_node_name="s"),
        do("blockdev-snapshot-sync", node_name="n0", snapshot_node_name="s", snapshot_file=5),
        sync("n0", "s", "s.qcow2", mode="nope"),
        sync("n0", "s", "s.qcow2", size=5),
    ],
    "snapshot-sync: existing images": [
        add("n0", "empty.qcow2"),
        USER,
        sync("n0", "s", "no.qcow2", mode="existing"),
        sync("n0", "s", "a.img", mode="existing"),
        sync("n0", "s", "a.img", mode="existing", format="raw"),
        sync("n0", "s", "base.qcow2", mode="existing"),
    ],
    "snapshot-sync: the images themselves": [
        add("n0", "empty.qcow2"),
        USER,
        sync("n0", "s", "empty.qcow2"),
        sync("n0", "s", "empty.qcow2", mode="existing"),
        sync("n0", "s", ""),
        sync("n0", "s", "/"),
    ],
    "snapshot-sync: of raw": [
        add("n0", "a.img", "raw"),
        USER,
        sync("n0", "s0", "s0.qcow2"),
        sync("s0", "s1", "s1.qcow2"),
        sync("n0", "s2", "s2.qcow2"),
    ],
    "snapshot-sync: of a file of an odd length": [
        do("blockdev-add", driver="file", node_name="n0", filename="empty.qcow2"),
        sync("n0", "s0", "s0.qcow2"),
    ],
    "snapshot-sync: of a read-only image": [
        add("n0", "base.qcow2", read_only=True),
        USER | {"arguments": USER["arguments"] | {"read-only": True}},
        sync("n0", "s0", "s0.qcow2"),
    ],
    "snapshot-sync: while a job runs": [
        add("n0", "top.qcow2"),
        do("block-stream", job_id="j", device="n0", speed=1),
        sync("n0", "s0", "s0.qcow2"),
        add("ov", "empty.qcow2"),
        do("blockdev-snapshot", node="n0", overlay="ov"),
        do("block-stream", job_id="k", device="n0"),
        do("job-cancel", id="j"),
        wait("j", "null"),
    ],
    "snapshot: an overlay in use": [
        add("n0", "base.qcow2"),
        USER,
        add("ov", "empty.qcow2"),
        do("blockdev-add", driver="raw", node_name="reader", file="ov"),
        do("block-stream", device="ov", job_id="j"),
        wait("j", "null"),
        do("blockdev-snapshot", node="n0", overlay="ov"),
    ],
    "snapshot: of an image with a backing one": [
        add("n0", "empty.qcow2"),
        USER,
        add("ov", "top.qcow2"),
        do("blockdev-snapshot", node="n0", overlay="ov"),
        do("blockdev-snapshot", node="ov", overlay="n0"),
    ],
    "snapshot: arguments": [
        do("blockdev-snapshot"),
        do("blockdev-snapshot", node="n0"),
        do("blockdev-snapshot", node=1, overlay="n0"),
        do("blockdev-snapshot", node="n0", overlay="n1", mode="existing"),
    ],
    "snapshot: onto itself and its own layers": [
        add("b", "base.qcow2", read_only=True),
        add("n0", "mid.qcow2", backing="b"),
        do("blockdev-snapshot", node="n0", overlay="b"),
        do("blockdev-snapshot", node="b", overlay="n0"),
        do("blockdev-snapshot", node="b", overlay="b"),
    ],
}

SUCCEEDS: dict[str, str | Never] = {
    "blockdev-snapshot": "snapshot",
    "blockdev-snapshot-sync": "snapshot-sync of a used node",
}

NO_DRIVES = Never("the daemon has no drives")
NO_READER = Never("only a reader's, a drive's or an export's, and the daemon has no drives")
FLUSH_FAILS = Never("a disk that fails: unit/handlers")

REFUSALS: dict[str, dict[str, str | Never]] = {
    "blockdev-snapshot": {
        "Cannot find device=% nor node-name=%": "snapshot refusals",
        "Device '%' has no medium": NO_DRIVES,
        "Node '%' is busy: %": "snapshot-sync: while a job runs",
        "An IO error has occurred": FLUSH_FAILS,
        "The overlay is already in use": NO_READER,
        "The overlay already has a backing image": "snapshot: of an image with a backing one",
        "The overlay does not support backing images": "snapshot refusals",
    },
    "blockdev-snapshot-sync": {
        "Cannot find device=% nor node-name=%": "snapshot-sync refusals",
        "Device '%' has no medium": "hmp: snapshots",
        "Node '%' is busy: %": "snapshot-sync: while a job runs",
        "An IO error has occurred": FLUSH_FAILS,
        "New overlay node-name missing": "snapshot-sync refusals",
        "New overlay node-name already in use": "snapshot-sync refusals",
        "bdrv_getlength failed: %": Never("an open image's length is known"),
        "The overlay is already in use": Never("the overlay is opened by the request itself"),
        "The overlay already has a backing image": Never("it is opened without one"),
        "The overlay does not support backing images": "snapshot-sync: existing images",
    },
}

UNLOOKED = {"snapshot-sync: while a job runs"}
