"""Requests on one image as it stands: its size, links, thresholds and figures."""

from __future__ import annotations

from tests.support.qmp_cases import Never
from tests.support.qmp_cases.words import Requests, add, do, wait

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
    "resize: in its chain": [
        add("n0", "top.qcow2"),
        do("block_resize", node_name="n0", size=4 << 20),
        do("block_resize", node_name="n0", size=16 << 20),
        add("b", "empty.qcow2"),
        do("blockdev-add", driver="raw", node_name="u", file="b"),
        do("block_resize", node_name="b", size=1 << 20),
        do("block_resize", node_name="u", size=2 << 20),
    ],
    "resize: odd sizes": [
        add("n0", "empty.qcow2"),
        do("block_resize", node_name="n0", size=0),
        do("block_resize", node_name="n0", size=513),
        do("block_resize", node_name="n0", size=(1 << 63) - 1),
        do("block_resize", node_name="n0", size=1 << 62),
        do("block_resize", node_name="n0", size=1 << 63),
        add("r", "a.img", "raw"),
        do("block_resize", node_name="r", size=0),
        do("block_resize", node_name="r", size=1000),
    ],
    "resize: what has its size": [
        do("blockdev-add", driver="null-co", node_name="z"),
        do("block_resize", node_name="z", size=512),
        add("p", "a.img", "raw", size=4096),
        do("block_resize", node_name="p", size=512),
        add("o", "empty.qcow2", "raw", offset=512),
        do("block_resize", node_name="o", size=65536),
        do("blockdev-add", driver="file", node_name="f", filename="base.qcow2", read_only=True),
        do("block_resize", node_name="f", size=512),
    ],
    "resize: while a job runs": [
        add("n0", "top.qcow2"),
        do("block-stream", job_id="j", device="n0", speed=1),
        do("block_resize", node_name="n0", size=16 << 20),
        do("job-cancel", id="j"),
        wait("j", "null"),
        do("block_resize", node_name="n0", size=16 << 20),
    ],
}

NO_DRIVES = Never("the daemon has no drives")

SUCCEEDS: dict[str, str | Never] = {
    "block_set_io_throttle": Never(
        "the daemon has no such request: unit/handlers/test_throttle.py"
    ),
    "block-set-write-threshold": "write thresholds",
    "block_resize": "resize",
    "change-backing-file": "change-backing-file",
    "query-blockstats": "statistics of nodes",
}

REFUSALS: dict[str, dict[str, str | Never]] = {
    "block_resize": {
        "Cannot find device=% nor node-name=%": "resize",
        "Device '%' has no medium": "hmp: resize",
        "Parameter 'size' expects a >0 size": "resize",
        "Device '%' is in use": "resize: while a job runs",
    },
    "change-backing-file": {
        "Cannot find device=% nor node-name=%": "change-backing-file refusals",
        "Device '%' has no medium": NO_DRIVES,
        "Need a root block node": "change-backing-file refusals",
        "image file not found": Never("7.2: Cannot find device='' nor node-name='N'"),
        "not allowing backing file change on an image without a backing file": (
            "change-backing-file refusals"
        ),
        "Node '%' is busy: %": Never("what a job works on is no root: its filter is above it"),
        "'%' and image file are not in the same chain": "change-backing-file refusals",
        "Could not change backing file to '%': %": "change-backing-file",
    },
    "block_passwd": {
        "Setting block passwords directly is no longer supported": (
            "unit/handlers/test_node.py::test_passwords_are_refused"
        ),
    },
}

UNLOOKED = {"resize: while a job runs"}
