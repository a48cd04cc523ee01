"""The copy-on-read filter: made by hand, and by streams. Streams stand before their end, since each
drained section lets a throttled job of QEMU's go on a bit."""

from __future__ import annotations

from typing import Any

from tests.support.qmp_cases.words import USER, Requests, add, do, file, wait

SNAPSHOT = do(
    "blockdev-snapshot-sync", node_name="n0", snapshot_file="x.qcow2", snapshot_node_name="x"
)
CHAIN = add(
    "n0",
    "top.qcow2",
    backing={
        "driver": "qcow2",
        "node-name": "m",
        "file": file("mid.qcow2"),
        "backing": {"driver": "qcow2", "node-name": "b", "file": file("base.qcow2")},
    },
)


def cor(name: str = "c", file: Any = "n0", **options: Any) -> dict[str, Any]:
    return do("blockdev-add", driver="copy-on-read", node_name=name, file=file, **options)


def reopen(**options: Any) -> dict[str, Any]:
    renamed = {name.replace("_", "-"): value for name, value in options.items()}
    return do("blockdev-reopen", options=[renamed])


def stream(job: str = "j", device: str = "n0", **options: Any) -> Requests:
    return [
        do("block-stream", job_id=job, device=device, auto_finalize=False, **options),
        wait(job, "pending"),
    ]


def end(job: str = "j") -> Requests:
    """As it has come to its end."""
    return [do("job-finalize", id=job), wait(job, "null"), do("query-jobs")]


def drop(job: str = "j") -> Requests:
    return [do("job-cancel", id=job), wait(job, "null"), do("query-jobs")]


CASES: dict[str, Requests] = {
    "copy-on-read": [
        CHAIN,
        cor(),
        cor("d", "c"),
        do("block_resize", node_name="c", size=9 << 20),
        do("blockdev-del", node_name="c"),
        do("blockdev-del", node_name="d"),
        do("blockdev-del", node_name="c"),
    ],
    "copy-on-read: its own image": [
        cor(file={"driver": "qcow2", "file": file("top.qcow2")}, auto_read_only=True),
        do("blockdev-del", node_name="c"),
        cor(file={"driver": "qcow2", "file": file("top.qcow2")}, read_only=True),
        do("blockdev-add", driver="copy-on-read", node_name="c"),
        cor(file="no"),
        cor(file=None),
        cor(file={"driver": "null-co"}),
    ],
    "copy-on-read: read-only": [
        add("n0", "top.qcow2", read_only=True),
        cor(),
        add("n1", "empty.qcow2", read_only=True, auto_read_only=True),
        cor(file="n1"),
        cor(file="n1", read_only=True),
    ],
    "copy-on-read: reads only, of what can be written": [CHAIN, cor(read_only=True)],
    "copy-on-read: the bottom": [
        CHAIN,
        cor(bottom="no"),
        cor(bottom="c"),
        cor(bottom=1),
        cor("d", bottom="n0"),
        cor("e", "d"),
        cor("f", "e", bottom="d"),
        do("blockdev-del", node_name="e"),
        do("blockdev-del", node_name="d"),
        cor(bottom="m"),
        cor("d", bottom="m"),
        cor("d", "c", bottom="b"),
        reopen(driver="qcow2", node_name="n0", file=file("top.qcow2"), backing=None),
        do("blockdev-snapshot-sync", node_name="m", snapshot_file="x", snapshot_node_name="x"),
        SNAPSHOT,
        do("block-commit", job_id="k", device="c", base_node="m", top_node="n0"),
        do("block-stream", job_id="k", device="c"),
        do("block-stream", job_id="k", device="n0"),
        do("block-stream", job_id="k", device="m"),
        do("blockdev-del", node_name="n0"),
        do("x-blockdev-change", parent="c", child="file"),
        do("blockdev-del", node_name="c"),
        SNAPSHOT,
    ],
    "copy-on-read: reopened": [
        CHAIN,
        cor(bottom="m"),
        reopen(driver="copy-on-read", node_name="c"),
        reopen(driver="copy-on-read", node_name="c", file="n0"),
        reopen(driver="copy-on-read", node_name="c", file="n0", bottom="m"),
        reopen(driver="copy-on-read", node_name="c", file="m", bottom="b"),
        reopen(driver="copy-on-read", node_name="c", file="n0", read_only=True),
        reopen(driver="raw", node_name="c", file="n0"),
    ],
    "copy-on-read: below a snapshot": [
        CHAIN,
        cor(),
        SNAPSHOT,
        do("blockdev-add", driver="raw", node_name="user", file="c"),
        do("blockdev-snapshot-sync", node_name="c", snapshot_file="y", snapshot_node_name="y"),
    ],
    "copy-on-read: of jobs' filters": [
        CHAIN,
        add("t", "empty.qcow2"),
        do(
            "blockdev-mirror",
            job_id="j",
            device="n0",
            target="t",
            sync="none",
            filter_node_name="f",
        ),
        wait("j", "ready"),
        do("job-pause", id="j"),
        wait("j", "standby"),
        cor(file="f", bottom="m"),
        cor(file="f"),
        do("blockdev-del", node_name="c"),
        do("block-job-cancel", device="j", force=True),
        wait("j", "null"),
        do("query-jobs"),
    ],
    "copy-on-read: compressed": [
        add("n0", "empty.qcow2"),
        add("n1", "mid.qcow2"),
        cor(),
        do("blockdev-backup", job_id="j", device="n1", target="c", sync="full", compress=True),
        wait("j", "null"),
    ],
    "streams: the filter": [CHAIN, *stream(), *end()],
    "streams: the filter has users": [
        CHAIN,
        USER,
        *stream(filter_node_name="f"),
        SNAPSHOT,
        do("blockdev-snapshot-sync", node_name="f", snapshot_file="x", snapshot_node_name="x"),
        do("block-commit", job_id="k", device="user"),
        do("block-commit", job_id="k", device="f"),
        do("block-stream", job_id="k", device="f"),
        do("block-stream", job_id="k", device="n0"),
        do("block-stream", job_id="k", device="m"),
        do("blockdev-del", node_name="f"),
        do("blockdev-del", node_name="n0"),
        do("block_resize", node_name="n0", size=9 << 20),
        do("block_resize", node_name="f", size=9 << 20),
        do("block_resize", node_name="user", size=9 << 20),
        reopen(driver="copy-on-read", node_name="f", file="n0"),
        do("blockdev-add", driver="raw", node_name="p", file="f"),
        do("blockdev-add", driver="raw", node_name="q", file="n0"),
        *end(),
    ],
    "streams: the filter and a base": [CHAIN, *stream(base_node="b", filter_node_name="f"), *end()],
    "streams: the filter and a bottom": [CHAIN, *stream(bottom="m"), *end()],
    "streams: the filter where nothing is to do": [CHAIN, *stream(base_node="m"), *end()],
    "streams: the filter, dropped": [CHAIN, *stream(filter_node_name="f"), *drop()],
    "streams: of an image that is read-only": [
        CHAIN,
        *stream(device="m"),
        do("block-stream", job_id="k", device="n0"),
        do("block-stream", job_id="k", device="n0", base_node="m"),
        do("block-stream", job_id="j", device="n0", bottom="n0"),
        do("block-commit", job_id="k", device="n0", base_node="m", top_node="n0"),
        do("block-commit", job_id="k", device="n0", base_node="b", top_node="m"),
        reopen(driver="qcow2", node_name="n0", file=file("top.qcow2"), backing=None),
        *end(),
    ],
    "streams: two in a chain": [
        CHAIN,
        do("block-stream", job_id="j", device="n0", base_node="m", auto_finalize=False),
        wait("j", "pending"),
        *stream("k", "m"),
        do("job-finalize", id="j"),
        wait("j", "null"),
        do("query-jobs"),
        *end("k"),
    ],
    "streams: above another filter": [CHAIN, cor(), *stream(device="c"), *end()],
    "streams: below another filter": [
        CHAIN,
        cor(bottom="n0"),
        *stream(device="m"),
        SNAPSHOT,
        *end(),
    ],
    "streams: of a filter that is written through": [
        CHAIN,
        do("blockdev-add", driver="blkdebug", node_name="d", image="n0"),
        do("nbd-server-start", addr={"type": "unix", "data": {"path": "s"}}),
        do("block-export-add", type="nbd", id="e", node_name="d", writable=True),
        do("block-stream", job_id="j", device="d"),
        do("block-export-del", id="e"),
    ],
    "streams: of an image that is written through a filter": [
        CHAIN,
        do("blockdev-add", driver="blkdebug", node_name="d", image="n0"),
        do("nbd-server-start", addr={"type": "unix", "data": {"path": "s"}}),
        do("block-export-add", type="nbd", id="e", node_name="d", writable=True),
        *stream(filter_node_name="f"),
        do("block-export-add", type="nbd", id="g", node_name="n0", name="n", writable=True),
        do("block-export-add", type="nbd", id="h", node_name="m", name="m", writable=True),
        *end(),
        do("block-export-del", id="e"),
        do("block-export-del", id="g"),
    ],
    "streams: of a filter that is read-only": [
        add("n0", "top.qcow2", read_only=True),
        do("blockdev-add", driver="blkdebug", node_name="d", image="n0", read_only=True),
        do("block-stream", job_id="j", device="d"),
        cor("e", "n0", read_only=True),
    ],
}

UNLOOKED = {
    "streams: of a filter that is written through",  # QEMU leaves a backend of the job's behind
}
