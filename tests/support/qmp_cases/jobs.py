"""Jobs: streams, creations, and what is said to them."""

from __future__ import annotations

from typing import Any

from tests.support.qmp_cases import Never
from tests.support.qmp_cases.words import Requests, add, do, wait

WRONG: list[dict[str, Any]] = [
    {"cluster-size": 1000},
    {"cluster-size": 256},
    {"cluster-size": 4 << 20},
    {"refcount-bits": 3},
    {"refcount-bits": 128},
    {"version": "v2", "refcount-bits": 8},
    {"version": "v2", "lazy-refcounts": True},
    {"version": "v2", "compression-type": "zstd"},
    {"size": 1000},
    {"size": 1 << 62},
    {"backing-fmt": "raw"},
]
"""Options for a new qcow2 image, each refused."""

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
    "stream: from node to node": [
        add("b", "mid.qcow2", read_only=True),
        add("n0", "top.qcow2", backing="b"),
        do("block-stream", job_id="j", device="n0", base_node="b"),
        wait("j", "null"),
        do("block-stream", job_id="j", device="n0", base_node="n0"),
        do("block-stream", job_id="j", device="b"),
        wait("j", "null"),
    ],
    "stream: the link renamed": [
        add("n0", "top.qcow2"),
        do("block-stream", job_id="j", device="n0", base="base.qcow2", backing_file="other.qcow2"),
        wait("j", "null"),
    ],
    "stream: the middle of a chain": [
        add("b", "mid.qcow2"),
        add("n0", "top.qcow2", backing="b"),
        do("block-stream", job_id="j", device="b"),
        wait("j", "null"),
        do("query-jobs"),
    ],
    "stream: nothing below": [
        add("n0", "base.qcow2"),
        do("block-stream", job_id="j", device="n0"),
        wait("j", "null"),
        add("r", "a.img", "raw"),
        do("block-stream", job_id="k", device="r"),
        wait("k", "null"),
    ],
    "stream: bottom": [
        add("b", "mid.qcow2", read_only=True),
        add("n0", "top.qcow2", backing="b"),
        do("block-stream", job_id="j", device="n0", bottom="b", base_node="b"),
        do("block-stream", job_id="j", device="n0", bottom="no"),
        do("block-stream", job_id="j", device="n0", bottom="b"),
        wait("j", "null"),
    ],
    "stream: filter names": [
        add("n0", "top.qcow2"),
        do("block-stream", job_id="j", device="n0", filter_node_name="n0"),
        do("block-stream", job_id="j", device="n0", filter_node_name="0f"),
        do("block-stream", job_id="j", device="n0", filter_node_name="f"),
        wait("j", "null"),
    ],
    "stream: arguments": [
        do("block-stream"),
        do("block-stream", device=1),
        do("block-stream", device="n0", speed="fast"),
        do("block-stream", device="n0", auto_finalize=1),
        do("block-stream", device="n0", job="j"),
    ],
    "verbs: paused, resumed, ended": [
        add("n0", "top.qcow2"),
        do("block-stream", job_id="j", device="n0", speed=1),
        do("block-stream", job_id="j", device="n0"),
        do("job-pause", id="j"),
        wait("j", "paused"),
        do("job-pause", id="j"),
        do("job-resume", id="j"),
        do("job-resume", id="j"),
        do("job-complete", id="j"),
        do("job-cancel", id="j"),
        wait("j", "null"),
        do("job-cancel", id="j"),
    ],
    "verbs: of block jobs": [
        add("n0", "top.qcow2"),
        do("block-stream", job_id="j", device="n0", speed=1),
        do("block-job-set-speed", device="j", speed=2),
        do("block-job-set-speed", device="j", speed=-1),
        do("block-job-pause", device="j"),
        wait("j", "paused"),
        do("block-job-cancel", device="j"),
        do("block-job-resume", device="j"),
        do("block-job-complete", device="j"),
        do("block-job-finalize", id="j"),
        do("block-job-dismiss", id="j"),
        do("block-job-cancel", device="j"),
        wait("j", "null"),
    ],
    "verbs: finalized and dismissed": [
        add("n0", "top.qcow2"),
        do("block-stream", job_id="j", device="n0", auto_finalize=False, auto_dismiss=False),
        wait("j", "pending"),
        do("block-job-finalize", id="j"),
        wait("j", "concluded"),
        do("block-job-dismiss", id="j"),
    ],
    "verbs: of no block job": [
        do("block-job-resume", device="j"),
        do("block-job-dismiss", id="j"),
        do("job-resume", id="j"),
        do("job-complete", id="j"),
        do("job-finalize", id="j"),
        do("job-dismiss", id="j"),
        do("job-dismiss"),
        do("block-job-cancel", device="j", force=1),
        do("block-job-set-speed", device="j"),
    ],
    "create: what there is": [
        do(
            "blockdev-create",
            job_id="c",
            options={"driver": "file", "filename": "new.img", "size": 1 << 20, "nocow": True},
        ),
        wait("c", "concluded"),
        do("job-cancel", id="c"),
        do("job-complete", id="c"),
        do("job-pause", id="c"),
        do("block-job-dismiss", id="c"),
        do("job-dismiss", id="c"),
        do("blockdev-create", job_id="c", options={"driver": "raw"}),
        do("blockdev-create", job_id="c", options={"driver": "null-co"}),
        do("blockdev-create", job_id="c", options={"driver": "nope"}),
        do("blockdev-create", job_id="0c", options={"driver": "file", "filename": "x", "size": 0}),
        do("blockdev-create", options={"driver": "file", "filename": "x", "size": 0}),
        do("blockdev-create", job_id="c"),
    ],
    "create: qcow2 refused": [
        do("blockdev-add", driver="file", node_name="f", filename="a.img"),
        *(
            step
            for number, options in enumerate(WRONG)
            for step in (
                do(
                    "blockdev-create",
                    job_id=f"c{number}",
                    options={"driver": "qcow2", "file": "f", "size": 1 << 20, **options},
                ),
                wait(f"c{number}", "concluded"),
                do("query-jobs"),
                do("job-dismiss", id=f"c{number}"),
            )
        ),
    ],
    "create: over what is in use": [
        add("n0", "empty.qcow2"),
        do(
            "blockdev-create",
            job_id="c",
            options={"driver": "file", "filename": "empty.qcow2", "size": 512},
        ),
        wait("c", "concluded"),
        do("query-jobs"),
        do("job-dismiss", id="c"),
    ],
}

SUCCEEDS: dict[str, str | Never] = {
    "block-job-cancel": "verbs: of block jobs",
    "block-job-complete": "commit: completed by its old verb",
    "block-job-dismiss": "verbs: finalized and dismissed",
    "block-job-finalize": "verbs: finalized and dismissed",
    "block-job-pause": "verbs: of block jobs",
    "block-job-resume": "verbs: of block jobs",
    "block-job-set-speed": "verbs: of block jobs",
    "block-stream": "stream",
    "blockdev-create": "create a file and an image in it",
    "job-cancel": "verbs: paused, resumed, ended",
    "job-complete": "mirror: full",
    "job-dismiss": "stream, kept",
    "job-finalize": "stream, kept",
    "job-pause": "verbs: paused, resumed, ended",
    "job-resume": "verbs: paused, resumed, ended",
}

NO_JOB = "Block job '%' not found"

REFUSALS: dict[str, dict[str, str | Never]] = {
    "block-stream": {
        "Cannot find device=% nor node-name=%": "stream refusals",
        "Device '%' has no medium": "hmp: streaming",
        "'base' and 'base-node' cannot be specified at the same time": "stream refusals",
        "Can't find '%' in the backing chain": "stream refusals",
        "Node '%' is not a backing image of '%'": "stream refusals",
        "Node '%' is busy: %": "snapshot-sync: while a job runs",
        "backing file specified, but streaming the entire chain": "stream refusals",
    },
    "block-job-set-speed": {NO_JOB: "verbs on no job"},
    "block-job-cancel": {
        NO_JOB: "verbs on no job",
        "The block job for device '%' is currently paused": "verbs: of block jobs",
    },
    "block-job-pause": {NO_JOB: "verbs on no job"},
    "block-job-resume": {NO_JOB: "verbs: of no block job"},
    "block-job-complete": {NO_JOB: "verbs on no job"},
    "block-job-finalize": {NO_JOB: "verbs on no job"},
    "block-job-dismiss": {NO_JOB: "verbs: of no block job"},
}

UNLOOKED = {
    "stream, kept",
    "verbs: paused, resumed, ended",
    "verbs: of block jobs",
    "verbs: finalized and dismissed",
}
"""While a stream is there, QEMU has a filter node that is not in ours; and of a concluded one that
is not dismissed, the daemon dies when asked about the graph."""
