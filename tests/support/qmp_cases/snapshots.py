"""Overlays put on top of nodes."""

from __future__ import annotations

from tests.support.qmp_cases.words import USER, Requests, add, do

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
}
