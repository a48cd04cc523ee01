"""What jobs' requests say when two things are wrong, and what jobs leave: links, names, holds."""

from __future__ import annotations

from typing import Any

from tests.support.qmp_cases.words import Requests, add, do, file, wait

NAMED: Requests = [
    add("low", "base.qcow2"),
    add("middle", "mid.qcow2", backing="low"),
    add("n0", "top.qcow2", backing="middle"),
    add("t0", "empty.qcow2"),
]
HALF = add("half", "a.img", "raw")
BITMAP = do("block-dirty-bitmap-add", node="n0", name="b0")


def stream(**options: Any) -> dict[str, Any]:
    return do("block-stream", **{"job_id": "j", "device": "n0", **options})


def commit(**options: Any) -> dict[str, Any]:
    return do("block-commit", **{"job_id": "j", "device": "n0", **options})


def backup(**options: Any) -> dict[str, Any]:
    common = {"job_id": "j", "device": "n0", "target": "t0", "sync": "full"}
    return do("blockdev-backup", **{**common, **options})


def drive_backup(**options: Any) -> dict[str, Any]:
    common = {"job_id": "j", "device": "n0", "target": "new.qcow2", "sync": "full"}
    return do("drive-backup", **{**common, **options})


def mirror(**options: Any) -> dict[str, Any]:
    common = {"job_id": "j", "device": "n0", "target": "t0", "sync": "full"}
    return do("blockdev-mirror", **{**common, **options})


def export(**options: Any) -> dict[str, Any]:
    common = {"type": "nbd", "id": "e", "node_name": "n0"}
    return do("block-export-add", **{**common, **options})


def link(device: str, image: str, to: str) -> dict[str, Any]:
    return do("change-backing-file", device=device, image_node_name=image, backing_file=to)


def action(command: str, **arguments: Any) -> dict[str, Any]:
    """One of a transaction's."""
    return {"type": command, "data": do(command, **arguments)["arguments"]}


KEPT = {"auto_finalize": False, "auto_dismiss": False}
WITHOUT_LINK = add("n0", "top.qcow2", backing=None)
"""Its name has to tell that it has another backing image than its header says: none."""
FINALIZED = [do("job-finalize", id="j"), wait("j", "concluded")]
DELETED = [do("blockdev-del", node_name=name) for name in ("n0", "middle", "t0")]
DISMISSED = [do("job-dismiss", id="j"), *DELETED]

CASES: dict[str, Requests] = {
    # -- of two mistakes the one that QEMU finds first -----------------------------------------
    "two mistakes: a backup": [
        *NAMED,
        HALF,
        BITMAP,
        backup(device="no", target="no2"),
        backup(target="no2", sync="bitmap"),
        backup(target="n0", sync="bitmap"),
        backup(target="half", compress=True, job_id="0j"),
        backup(target="half", speed=-1),
        backup(target="half", x_perf={"max-workers": 0, "max-chunk": -1}),
        backup(x_perf={"max-workers": 0}, job_id="0j"),
        backup(x_perf={"max-chunk": 512}, job_id="0j"),
        backup(x_perf={"max-chunk": 65536}, job_id="0j"),
        backup(x_perf={"max-chunk": 65535, "max-workers": 1}),
        backup(job_id="0j", speed=-1),
        backup(job_id="0j", speed=-1, filter_node_name="0f"),
        backup(filter_node_name="n0", speed=-1),
        backup(sync="bitmap", bitmap="no"),
        backup(sync="incremental", bitmap="no", bitmap_mode="never"),
        backup(bitmap="no", bitmap_mode="never"),
        backup(sync="none", bitmap="b0", bitmap_mode="never"),
        backup(sync="none", bitmap="b0"),
        backup(sync="none", bitmap_mode="never"),
        backup(sync="bitmap", bitmap="b0", bitmap_mode="never", target="n0"),
        backup(sync="bitmap", bitmap="b0", bitmap_mode="never", compress=True, target="half"),
        backup(sync="bitmap", bitmap="b0", bitmap_mode="always", x_perf={"max-chunk": 512}),
        backup(sync="bitmap", bitmap="b0", bitmap_mode="always", filter_node_name="n0"),
        backup(sync="incremental", bitmap=""),
        backup(job_id=""),
        backup(filter_node_name=""),
        backup(speed=1 << 63),
    ],
    "two mistakes: a backup into a file": [
        *NAMED,
        drive_backup(sync="bitmap", format="nope"),
        drive_backup(sync="incremental", target="/nowhere/x"),
        drive_backup(job_id="0j", format="nope"),
        drive_backup(job_id="0j", mode="existing"),
        drive_backup(target="a.img", mode="existing", format="qcow2"),
        drive_backup(target="top.qcow2"),
        drive_backup(target="base.qcow2"),
        drive_backup(sync="none", format="raw"),
        drive_backup(format="raw", compress=True, target="new.img"),
        drive_backup(target=""),
        drive_backup(format=""),
        drive_backup(filter_node_name="n0"),
        drive_backup(x_perf={"max-workers": 0}),
    ],
    "two mistakes: a stream": [
        *NAMED,
        stream(device="no", base="x", base_node="y"),
        stream(base="x", base_node="y", bottom="z"),
        stream(base="x", bottom="z"),
        stream(base_node="no", bottom="z"),
        stream(bottom="z", backing_file="x"),
        stream(bottom="low", backing_file="x"),
        stream(bottom="middle", base_node="low"),
        stream(bottom="t0"),
        stream(base="no", backing_file="x"),
        stream(base=""),
        stream(base="top.qcow2"),
        stream(backing_file="x", job_id="0"),
        stream(job_id="0", filter_node_name="n0"),
        stream(job_id="0", speed=-1),
        do("block-stream", device="n0", speed=-1),
        do("block-stream", device="n0", filter_node_name="n0"),
    ],
    "two mistakes: a commit": [
        *NAMED,
        commit(device="no", top="x", top_node="y"),
        commit(device="low", top="x", top_node="y"),
        commit(top="x", top_node="y", base="x", base_node="y"),
        commit(top="x", base="x", base_node="y"),
        commit(top_node="no", base="x", base_node="y"),
        commit(top_node="middle", base="x", base_node="y"),
        commit(top_node="middle", base_node="n0"),
        commit(top_node="middle", base="top.qcow2"),
        commit(top_node="middle", base_node="middle"),
        commit(top_node="low"),
        commit(top="base.qcow2"),
        commit(top=""),
        commit(top="top.qcow2", base="top.qcow2"),
        commit(base="mid.qcow2", backing_file="x"),
        commit(backing_file="x", job_id="0"),
        commit(job_id="0", filter_node_name="9"),
        commit(job_id="0", speed=-1),
        commit(job_id="0", filter_node_name="9", top_node="middle"),
        commit(filter_node_name="9", top_node="middle", speed=-1),
        do("block-commit", device="n0", speed=-1),
        do("block-commit", device="n0", top_node="middle", speed=-1),
        do("block-commit", device="n0", filter_node_name="9"),
        commit(device="t0", base_node="t0"),
        commit(device="t0", top="nope"),
    ],
    "two mistakes: a link": [
        *NAMED,
        HALF,
        link("no", "no", "x"),
        link("n0", "no", "x"),
        link("no", "n0", "x"),
        link("low", "low", "x"),
        link("n0", "low", "x"),
        link("n0", "t0", "x"),
        link("t0", "n0", "x"),
        link("half", "half", "x"),
        link("middle", "n0", "x"),
        link("n0", "n0", "x" * 1024),
        backup(sync="none"),
        link("n0", "n0", "x"),
        link("n0", "low", "x"),
        do("job-cancel", id="j"),
        wait("j", "null"),
    ],
    "a base that another chain has locked": [
        add("n0", "mid.qcow2"),
        add("other", "top.qcow2", read_only=True, backing=None),
        add("holder", "base.qcow2", read_only=True),
        commit(),
        commit(job_id="0"),
        commit(job_id="0", filter_node_name="9"),
        commit(speed=-1),
    ],
    "a base of the middle that another chain has locked": [
        add("n0", "top.qcow2"),
        add("holder", "base.qcow2", read_only=True),
        commit(top="mid.qcow2"),
        commit(top="mid.qcow2", filter_node_name="9"),
        commit(top="mid.qcow2", job_id="0"),
        commit(top="mid.qcow2", speed=-1),
    ],
    "two mistakes: an export beside a backup": [
        *NAMED,
        backup(sync="none"),
        export(id="0", node_name="no"),
        export(writable=True),
        export(writable=True, name="x" * 300),
        do("nbd-server-start", addr={"type": "unix", "data": {"path": "sock"}}),
        export(writable=True),
        export(),
        export(id="e2", writable=True),
        export(id="e2", writable=True, bitmaps=["no"]),
        export(id="e2", bitmaps=["no"]),
        export(id="e2", name="other", bitmaps=["no"]),
        export(id="e2", name="z" * 300, description="d" * 5000),
        do("nbd-server-stop"),
        do("job-cancel", id="j"),
        wait("j", "null"),
    ],
    # -- what the graph refuses -----------------------------------------------------------------
    "a backup into what its disk shows": [
        *NAMED,
        backup(device="middle", target="low"),
        backup(device="n0", target="low", filter_node_name="f"),
        do("blockdev-add", driver="raw", node_name="user", file="n0"),
        backup(target="user"),
        backup(device="user", target="n0"),
    ],
    "a new disk below which nothing can be": [
        add("n0", "narrow.qcow2"),
        drive_backup(sync="none", target="a.img", format="raw", mode="existing"),
        drive_backup(target="a.img", format="raw", mode="existing"),
        wait("j", "null"),
    ],
    "a size above what is read-only": [
        add("n0", "empty.qcow2", read_only=True),
        do("blockdev-add", driver="raw", node_name="user", file="n0"),
        do("block_resize", node_name="user", size=16 << 20),
        do("block_resize", node_name="n0", size=16 << 20),
    ],
    # -- what is left ---------------------------------------------------------------------------
    "no link left: a stream": [*NAMED, stream(base_node="low", backing_file=""), wait("j", "null")],
    "no link left: a commit": [
        *NAMED,
        commit(top_node="middle", backing_file=""),
        wait("j", "null"),
        do("blockdev-del", node_name="n0"),
        add("n0", "top.qcow2"),
    ],
    "concluded and kept: a commit": [
        *NAMED,
        commit(top_node="middle", **KEPT),
        wait("j", "pending"),
        *FINALIZED,
        commit(top_node="middle"),
        *DELETED,
        *DISMISSED,
    ],
    "concluded and kept: a commit that was cancelled": [
        *NAMED,
        commit(top_node="middle", **KEPT),
        wait("j", "pending"),
        do("job-cancel", id="j"),
        wait("j", "concluded"),
        *DISMISSED,
    ],
    "concluded and kept: an active commit": [
        *NAMED,
        commit(**KEPT),
        wait("j", "ready"),
        do("block-job-cancel", device="j"),
        wait("j", "pending"),
        *FINALIZED,
        do("x-debug-query-block-graph"),
        *DISMISSED,
    ],
    "concluded and kept: a backup": [
        *NAMED,
        backup(**KEPT),
        wait("j", "pending"),
        *FINALIZED,
        backup(),
        do("blockdev-del", node_name="t0"),
        *DISMISSED,
    ],
    "concluded and kept: a mirror": [
        *NAMED,
        mirror(**KEPT),
        wait("j", "ready"),
        do("job-cancel", id="j"),
        wait("j", "concluded"),
        *DISMISSED,
    ],
    # -- quit ends what there is before it is answered ------------------------------------------
    "quit: a job that never ends": [*NAMED, backup(sync="none")],
    "quit: a paused job": [*NAMED, stream(speed=1), do("job-pause", id="j"), wait("j", "paused")],
    "quit: a ready mirror, standing by": [
        *NAMED,
        mirror(),
        wait("j", "ready"),
        do("job-pause", id="j"),
        wait("j", "standby"),
    ],
    "quit: a pending commit": [*NAMED, commit(top_node="middle", **KEPT), wait("j", "pending")],
    "quit: a concluded backup": [*NAMED, backup(auto_dismiss=False), wait("j", "concluded")],
    "quit: several jobs": [
        *NAMED,
        do("blockdev-add", driver="null-co", node_name="sink", size=8 << 20),
        backup(**KEPT),
        wait("j", "pending"),
        backup(job_id="k", device="low", target="sink", **KEPT),
        wait("k", "pending"),
    ],
    "quit: a group that waits": [
        *NAMED,
        do("blockdev-add", driver="null-co", node_name="sink", size=8 << 20),
        do(
            "transaction",
            actions=[
                action("blockdev-backup", job_id="j", device="n0", target="t0", sync="full"),
                action("blockdev-backup", job_id="k", device="low", target="sink", sync="none"),
            ],
            properties={"completion-mode": "grouped"},
        ),
        wait("j", "waiting"),
    ],
    # -- what nodes are called while jobs run ---------------------------------------------------
    "names above a backup's filter": [
        WITHOUT_LINK,
        add("t0", "empty.qcow2"),
        do("blockdev-add", driver="raw", node_name="user", file="n0"),
        backup(sync="none"),
        do("job-cancel", id="j"),
        wait("j", "null"),
        backup(sync="none", filter_node_name="f"),
        do("job-cancel", id="j"),
        wait("j", "null"),
    ],
    **{
        f"names above a commit's {kind} filter": [
            *NAMED,
            commit(top_node="middle", auto_finalize=False, **name),
            wait("j", "pending"),
            do("job-finalize", id="j"),
            wait("j", "null"),
        ]
        for kind, name in (("own", {}), ("named", {"filter_node_name": "f"}))
    },
    "too large": [
        add("half", "a.img", "raw"),
        do("block_resize", node_name="half", size=1 << 62),
        do(
            "blockdev-create",
            job_id="c",
            options=file("new.img", size=1 << 62, preallocation="full"),
        ),
        wait("c", "concluded"),
        do("job-dismiss", id="c"),
    ],
}

UNLOOKED = {
    "concluded and kept: an active commit",
    *(case for case in CASES if case.startswith("quit: ")),
}
"""A mirror that waits to be finalized holds up its guests in QEMU, which counts as a pause; of
those that quit ends, what is told is looked at."""
