"""Jobs: streams, creations, and what is said to them."""

from __future__ import annotations

from tests.support.qmp_cases.words import Requests, add, do, wait

CASES: dict[str, Requests] = {
    "stream": [
        add("n0", "top.qcow2"),
        do("block-stream", job_id="j", device="n0"),
        wait("j", "null"),
        do("query-jobs"),
    ],
    "stream to a base": [
        add("n0", "top.qcow2"),
        do("block-stream", job_id="j", device="n0", base="base.qcow2"),
        wait("j", "null"),
        do("query-jobs"),
    ],
    "stream, kept": [
        add("n0", "top.qcow2"),
        do("block-stream", job_id="j", device="n0", auto_finalize=False, auto_dismiss=False),
        wait("j", "pending"),
        do("job-dismiss", id="j"),
        do("job-finalize", id="j"),
        wait("j", "concluded"),
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
        wait("c", "concluded"),
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
        wait("c2", "concluded"),
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
        wait("c", "concluded"),
        do("query-jobs"),
        do("job-dismiss", id="c"),
    ],
}

UNLOOKED = {"stream, kept"}
"""Of a concluded stream that is not dismissed, the daemon dies when asked about the graph."""
