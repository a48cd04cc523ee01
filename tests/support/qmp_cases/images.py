"""Requests on one image as it stands: its size, links, thresholds and figures."""

from __future__ import annotations

from tests.support.qmp_cases.words import Requests, add, do

CASES: dict[str, Requests] = {
    "resize": [
        add("n0", "empty.qcow2"),
        do("block_resize", node_name="n0", size=16777216),
        do("block_resize", node_name="n0", size=-1),
        do("block_resize", node_name="no", size=512),
        do("block_resize", device="n0", size=512),
        do("block_resize", size=512),
    ],
    "resize raw": [
        add("r", "a.img", "raw"),
        do("block_resize", node_name="r", size=65536),
        do("block_resize", node_name="r", size=2097152),
    ],
    "resize read-only": [
        add("n0", "empty.qcow2", read_only=True),
        do("block_resize", node_name="n0", size=16777216),
    ],
    "write thresholds": [
        add("n0", "top.qcow2"),
        do("block-set-write-threshold", node_name="n0", write_threshold=4096),
        do("block-set-write-threshold", node_name="n0", write_threshold=0),
        do("block-set-write-threshold", node_name="n0", write_threshold=-1),
        do("block-set-write-threshold", node_name="n0", write_threshold=(1 << 64) - 2),
        do("block-set-write-threshold", node_name="no", write_threshold=1),
        do("block-set-write-threshold", node_name="n0"),
        do("block-set-write-threshold", write_threshold=1),
        do("block-set-write-threshold", node_name="n0", write_threshold="1"),
    ],
    "statistics of nodes": [
        add("n0", "top.qcow2"),
        add("r", "a.img", "raw"),
        do("query-blockstats"),
        do("query-blockstats", query_nodes=False),
        do("query-blockstats", query_nodes=True),
        do("query-blockstats", query_nodes=1),
    ],
    "change-backing-file": [
        add("n0", "top.qcow2"),
        do("change-backing-file", device="n0", image_node_name="n0", backing_file="base.qcow2"),
        do("change-backing-file", device="n0", image_node_name="n0", backing_file="mid.qcow2"),
        do("change-backing-file", device="n0", image_node_name="n0", backing_file=""),
        do("change-backing-file", device="n0", image_node_name="n0", backing_file="x" * 2000),
    ],
    "change-backing-file below the top": [
        add("b", "mid.qcow2", read_only=True),
        add("n0", "top.qcow2", backing="b"),
        do("change-backing-file", device="n0", image_node_name="b", backing_file="a.img"),
        do("change-backing-file", device="b", image_node_name="b", backing_file="a.img"),
    ],
    "change-backing-file of a read-only image": [
        add("b", "mid.qcow2", read_only=True),
        do("change-backing-file", device="b", image_node_name="b", backing_file="other.qcow2"),
    ],
    "change-backing-file refusals": [
        add("n0", "top.qcow2"),
        add("r", "a.img", "raw"),
        do("blockdev-add", driver="file", node_name="f", filename="empty.qcow2"),
        do("blockdev-add", driver="qcow2", node_name="e", file="f"),
        do("change-backing-file", device="no", image_node_name="n0", backing_file="x"),
        do("change-backing-file", device="f", image_node_name="n0", backing_file="x"),
        do("change-backing-file", device="n0", image_node_name="no", backing_file="x"),
        do("change-backing-file", device="n0", image_node_name="r", backing_file="x"),
        do("change-backing-file", device="n0", image_node_name="e", backing_file="x"),
        do("change-backing-file", device="r", image_node_name="n0", backing_file="x"),
        do("change-backing-file", device="n0", image_node_name="n0"),
    ],
}
