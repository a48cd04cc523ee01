"""Requests answered as qemu-storage-daemon answers them, refusals and state afterwards included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.side_by_side import STATE, compare

IMAGES = [
    ["qemu-img", "create", "-q", "-f", "qcow2", "base.qcow2", "8M"],
    ["qemu-io", "-f", "qcow2", "-c", "write -P 1 0 3M", "base.qcow2"],
    ["qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "mid.qcow2"],
    ["qemu-io", "-f", "qcow2", "-c", "write -P 2 1M 1M", "mid.qcow2"],
    ["qemu-img", "create", "-q", "-f", "qcow2", "-b", "mid.qcow2", "-F", "qcow2", "top.qcow2"],
    ["qemu-img", "create", "-q", "-f", "qcow2", "empty.qcow2", "8M"],
    ["qemu-img", "create", "-q", "-f", "raw", "a.img", "1M"],
]


def do(command: str, **arguments: Any) -> dict[str, Any]:
    return {
        "execute": command,
        "arguments": {name.replace("_", "-"): value for name, value in arguments.items()},
    }


def add(name: str, filename: str, driver: str = "qcow2", **options: Any) -> dict[str, Any]:
    return do(
        "blockdev-add",
        driver=driver,
        node_name=name,
        file={"driver": "file", "filename": filename},
        **options,
    )


USER = do("blockdev-add", driver="raw", node_name="user", file="n0")
"""A parent for n0: without one, QEMU drops a snapshot's overlay at once."""

CASES: dict[str, list[dict[str, Any]]] = {
    "add a chain": [add("n0", "top.qcow2")],
    "add a chain read-only": [add("n0", "top.qcow2", read_only=True)],
    "add without a backing image": [add("n0", "top.qcow2", backing=None)],
    "add with a backing node": [
        add("b", "mid.qcow2", read_only=True),
        add("n0", "top.qcow2", backing="b"),
        do("blockdev-del", node_name="b"),
    ],
    "add with backing options": [
        add(
            "n0",
            "top.qcow2",
            backing={
                "driver": "raw",
                "node-name": "b",
                "file": {"driver": "file", "filename": "a.img"},
            },
        ),
    ],
    "add raw with offset and size": [add("r", "a.img", "raw", offset=512, size=4096)],
    "add raw past the end": [add("r", "a.img", "raw", offset=1048576, size=512)],
    "add raw with an odd offset": [add("r", "a.img", "raw", offset=100)],
    "add null": [
        do("blockdev-add", driver="null-co", node_name="z", size=65536, read_zeroes=True),
        do("blockdev-add", driver="null-aio", node_name="y"),
    ],
    "add a file alone": [do("blockdev-add", driver="file", node_name="f", filename="a.img")],
    "add what does not exist": [add("n0", "nowhere.qcow2")],
    "add what is no qcow2": [add("n0", "a.img")],
    "add a directory": [add("n0", "/", "raw")],
    "add without a name": [do("blockdev-add", driver="null-co")],
    "add a taken name": [
        do("blockdev-add", driver="null-co", node_name="n0"),
        do("blockdev-add", driver="null-co", node_name="n0"),
    ],
    "add a bad name": [do("blockdev-add", driver="null-co", node_name="0n")],
    "add a long name": [do("blockdev-add", driver="null-co", node_name="n" * 32)],
    "add on a node that is not there": [do("blockdev-add", driver="raw", node_name="r", file="no")],
    "add twice for writing": [
        add("n0", "empty.qcow2"),
        add("n1", "empty.qcow2"),
        add("n2", "empty.qcow2", read_only=True),
    ],
    "add with force-share": [
        add("n0", "empty.qcow2"),
        add("n1", "empty.qcow2", read_only=True, force_share=True),
        add("n2", "empty.qcow2", force_share=True),
    ],
    "two formats on one file": [
        do("blockdev-add", driver="file", node_name="f", filename="empty.qcow2"),
        do("blockdev-add", driver="qcow2", node_name="n0", file="f"),
        do("blockdev-add", driver="qcow2", node_name="n1", file="f"),
        do("blockdev-add", driver="raw", node_name="n2", file="f"),
    ],
    "cache modes": [
        add("n0", "empty.qcow2", cache={"direct": False, "no-flush": True}),
    ],
    "detect-zeroes": [
        add("n0", "empty.qcow2", detect_zeroes="on"),
        add("n1", "top.qcow2", detect_zeroes="unmap"),
        add("n2", "top.qcow2", detect_zeroes="unmap", discard="unmap"),
    ],
    "missing, extra and ill-typed arguments": [
        do("blockdev-add"),
        do("blockdev-add", driver="qcow2", node_name="n0"),
        do("blockdev-add", driver="nonsense", node_name="n0"),
        do("blockdev-add", driver="null-co", node_name="n0", colour="red"),
        do("blockdev-add", driver="null-co", node_name=7),
        do("blockdev-add", driver="null-co", node_name="n0", size="big"),
        do("blockdev-add", driver="raw", node_name="n0", file=7),
        do("blockdev-add", driver="null-co", node_name="n0", read_only="yes"),
        do("blockdev-del"),
        do("block_resize", size=512),
        do("nonsense"),
    ],
    "delete": [
        add("n0", "top.qcow2"),
        do("blockdev-del", node_name="n0"),
        do("blockdev-del", node_name="n0"),
    ],
    "delete what is used": [
        add("n0", "empty.qcow2"),
        USER,
        do("blockdev-del", node_name="n0"),
        do("blockdev-del", node_name="user"),
        do("blockdev-del", node_name="n0"),
    ],
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
    "stream": [
        add("n0", "top.qcow2"),
        do("block-stream", job_id="j", device="n0"),
        {"wait": "j", "until": "null"},
        do("query-jobs"),
    ],
    "stream to a base": [
        add("n0", "top.qcow2"),
        do("block-stream", job_id="j", device="n0", base="base.qcow2"),
        {"wait": "j", "until": "null"},
        do("query-jobs"),
    ],
    "stream, kept": [
        add("n0", "top.qcow2"),
        do("block-stream", job_id="j", device="n0", auto_finalize=False, auto_dismiss=False),
        {"wait": "j", "until": "pending"},
        do("job-dismiss", id="j"),
        do("job-finalize", id="j"),
        {"wait": "j", "until": "concluded"},
        do("job-finalize", id="j"),
        do("job-dismiss", id="j"),
        do("job-dismiss", id="j"),
    ],
    "stream refusals": [
        add("n0", "top.qcow2"),
        do("block-stream", device="no"),
        do("block-stream", device="n0"),
        do("block-stream", job_id="j", device="n0", base="no.qcow2"),
        do("block-stream", job_id="j", device="n0", base_node="n0"),
        do("block-stream", job_id="j", device="n0", base_node="no"),
        do("block-stream", job_id="j", device="n0", base="base.qcow2", base_node="n0"),
        do("block-stream", job_id="j", device="n0", backing_file="x"),
        do("block-stream", job_id="0j", device="n0"),
        do("block-stream", job_id="j", device="n0", speed=-1),
        do("block-stream", job_id="j", device="n0", on_error="nonsense"),
        add("ro", "base.qcow2", read_only=True),
        do("block-stream", job_id="j", device="ro"),
    ],
    "verbs on no job": [
        do("job-pause", id="j"),
        do("job-cancel", id="j"),
        do("block-job-pause", device="j"),
        do("block-job-cancel", device="j"),
        do("block-job-complete", device="j"),
        do("block-job-finalize", id="j"),
        do("block-job-set-speed", device="j", speed=1),
    ],
    "create a file and an image in it": [
        do(
            "blockdev-create",
            job_id="c",
            options={"driver": "file", "filename": "new.qcow2", "size": 0},
        ),
        {"wait": "c", "until": "concluded"},
        do("job-dismiss", id="c"),
        do("blockdev-add", driver="file", node_name="f", filename="new.qcow2"),
        do(
            "blockdev-create",
            job_id="c2",
            options={
                "driver": "qcow2",
                "file": "f",
                "size": 1048576,
                "cluster-size": 4096,
                "version": "v3",
            },
        ),
        {"wait": "c2", "until": "concluded"},
        do("job-dismiss", id="c2"),
        do("blockdev-add", driver="qcow2", node_name="n0", file="f"),
    ],
    "create refusals": [
        do("blockdev-create", job_id="c", options={"driver": "file", "filename": "n.img"}),
        do(
            "blockdev-create",
            job_id="c",
            options={"driver": "file", "filename": "/nowhere/n.img", "size": 0},
        ),
        {"wait": "c", "until": "concluded"},
        do("query-jobs"),
        do("job-dismiss", id="c"),
    ],
}


UNLOOKED = {"stream, kept"}
"""Not looked at after each request: with a concluded stream that is not yet dismissed,
qemu-storage-daemon 7.2 dies of any question about the graph."""


@pytest.mark.parametrize("name", CASES)
def test_as_qemu_storage_daemon(tmp_path: Path, name: str) -> None:
    compare(tmp_path, IMAGES, CASES[name], () if name in UNLOOKED else STATE)
