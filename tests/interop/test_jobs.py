"""Jobs as qemu-storage-daemon has them: verbs by state, order of events, error policies, images."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import graphs, tools
from tests.support.bench import Bench
from tests.support.qmp_cases.words import IMAGES, add, do, wait
from tests.support.side_by_side import OURS, QSD, Session, comparable, converse

Requests = list[dict[str, Any]]


def both(tmp_path: Path, requests: Requests, prepare: list[list[str]] = IMAGES) -> Session:
    """The same conversation with both sides; replies and events are equal. Returns ours."""
    tools.need("qemu-storage-daemon", "qemu-img", "qemu-io")
    sessions = []
    for side, command in (("theirs", QSD), ("ours", OURS)):
        folder = tmp_path / side
        folder.mkdir()
        for make in prepare:
            subprocess.run(make, cwd=folder, check=True, capture_output=True, timeout=20)
        sessions.append(converse(command, folder, requests))
    theirs, ours = sessions
    asked = [request for request in requests if "wait" not in request]
    for request, their, our in zip(asked, theirs.replies, ours.replies, strict=False):
        assert comparable(our) == comparable(their), request
    assert len(ours.replies) == len(theirs.replies)
    assert events(ours) == events(theirs)
    return ours


def events(session: Session) -> list[Any]:
    """Without how far a job was when it was cancelled: that is a matter of time."""
    shown = []
    for event in session.events:
        data = dict(event["data"] or {})
        if event["event"] == "BLOCK_JOB_CANCELLED":
            del data["offset"]
        shown.append((event["event"], data))
    return shown


# Verbs

VERBS = [
    do("job-pause", id="j"),
    do("job-resume", id="j"),
    do("job-complete", id="j"),
    do("job-finalize", id="j"),
    do("job-dismiss", id="j"),
    do("block-job-pause", device="j"),
    do("block-job-resume", device="j"),
    do("block-job-complete", device="j"),
    do("block-job-finalize", id="j"),
    do("block-job-dismiss", id="j"),
    do("block-job-set-speed", device="j", speed=-1),
    do("block-job-set-speed", device="j", speed=2),
    do("block-job-cancel", device="j"),
]


def stream(**options: Any) -> dict[str, Any]:
    return do("block-stream", job_id="j", device="n0", **options)


WAYS: dict[str, Requests] = {
    "running": [stream(speed=1)],
    "paused": [stream(speed=1), do("job-pause", id="j"), wait("j", "paused")],
    "pending": [stream(auto_finalize=False), wait("j", "pending")],
    "concluded": [stream(auto_dismiss=False), wait("j", "concluded")],
    "cancelled": [
        stream(speed=1, auto_dismiss=False),
        do("job-cancel", id="j"),
        wait("j", "concluded"),
    ],
}


def without(*names: str) -> Requests:
    return [verb for verb in VERBS if verb["execute"] not in names]


TRIED: dict[str, Requests] = {
    "running": [
        *without("job-pause", "block-job-pause", "block-job-cancel"),
        do("block-job-pause", device="j"),
        do("job-pause", id="j"),
        wait("j", "paused"),
        do("block-job-resume", device="j"),
        do("block-job-cancel", device="j"),
        wait("j", "null"),
        do("block-job-cancel", device="j"),
    ],
    "paused": [
        *without("job-resume", "block-job-resume"),
        do("job-resume", id="j"),
        do("job-resume", id="j"),
        do("job-cancel", id="j"),
        wait("j", "null"),
    ],
    "pending": [*without("job-finalize", "block-job-finalize"), wait("j", "null")],
    "concluded": [
        *without("job-dismiss", "block-job-dismiss"),
        do("job-cancel", id="j"),
        do("query-jobs"),
        do("query-block-jobs"),
        do("block-job-dismiss", id="j"),
        do("block-job-dismiss", id="j"),
    ],
    "cancelled": [
        *without("job-dismiss", "block-job-dismiss"),
        do("job-dismiss", id="j"),
        do("query-jobs"),
    ],
}


@pytest.mark.parametrize("state", TRIED)
def test_verbs(tmp_path: Path, state: str) -> None:
    both(tmp_path, [add("n0", "top.qcow2"), *WAYS[state], *TRIED[state]])


def test_a_paused_job_is_cancelled_by_force_only(tmp_path: Path) -> None:
    requests = [
        *WAYS["paused"],
        do("block-job-cancel", device="j", force=False),
        do("block-job-cancel", device="j", force=True),
        wait("j", "null"),
    ]
    both(tmp_path, [add("n0", "top.qcow2"), *requests])


# Ends


@pytest.mark.parametrize("auto_dismiss", [False, True])
@pytest.mark.parametrize("auto_finalize", [False, True])
def test_ends(tmp_path: Path, auto_finalize: bool, auto_dismiss: bool) -> None:
    requests = [stream(auto_finalize=auto_finalize, auto_dismiss=auto_dismiss)]
    if not auto_finalize:
        requests += [wait("j", "pending"), do("query-block-jobs"), do("job-finalize", id="j")]
    if not auto_dismiss:
        requests += [wait("j", "concluded"), do("query-block-jobs"), do("job-dismiss", id="j")]
    both(tmp_path, [add("n0", "top.qcow2"), *requests, wait("j", "null"), do("query-jobs")])


def test_a_job_dropped_while_it_is_pending(tmp_path: Path) -> None:
    requests = [stream(auto_finalize=False, auto_dismiss=False), wait("j", "pending")]
    requests += [do("job-cancel", id="j"), wait("j", "concluded"), do("query-block-jobs")]
    again = [do("job-dismiss", id="j"), do("block-stream", job_id="k", device="n0")]
    again.append(wait("k", "null"))
    both(tmp_path, [add("n0", "top.qcow2"), *requests, *again])


# Errors: a compressed cluster that cannot be read

SPOIL = "with open('base.qcow2', 'r+b') as f: f.seek(0x50000); f.write(b'spoilt' * 20)"
SPOILT = [
    ["qemu-img", "create", "-q", "-f", "qcow2", "base.qcow2", "8M"],
    ["qemu-io", "-f", "qcow2", "-c", "write -c -P 9 2M 64k", "base.qcow2"],
    ["qemu-io", "-f", "qcow2", "-c", "write -P 1 0 2M", "-c", "write -P 1 3M 3M", "base.qcow2"],
    [sys.executable, "-c", SPOIL],
    ["qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "top.qcow2"],
]


@pytest.mark.parametrize("policy", ["report", "ignore", "enospc", "auto"])
def test_an_unreadable_cluster(tmp_path: Path, policy: str) -> None:
    requests = [stream(on_error=policy, auto_dismiss=False), wait("j", "concluded")]
    requests += [do("query-jobs"), do("query-block-jobs"), do("job-dismiss", id="j")]
    ours = both(tmp_path, [add("n0", "top.qcow2"), *requests], SPOILT)
    assert "BLOCK_JOB_ERROR" in [event["event"] for event in ours.events]


def test_an_unreadable_cluster_stops_the_job(tmp_path: Path) -> None:
    requests = [stream(on_error="stop"), wait("j", "paused"), do("query-block-jobs")]
    requests += [do("block-job-pause", device="j"), do("block-job-cancel", device="j")]
    requests += [do("block-job-cancel", device="j", force=True), wait("j", "null")]
    both(tmp_path, [add("n0", "top.qcow2"), *requests], SPOILT)


# Images


def info(image: Path) -> dict[str, Any]:
    described = json.loads(tools.run("qemu-img", "info", "--output=json", image))
    return {
        name: described[name]
        for name in ("virtual-size", "backing-filename", "backing-filename-format")
        if name in described
    }


SHAPES: dict[str, dict[str, Any]] = {
    "whole": {},
    "base": {"base": "base.qcow2"},
    "base, link as wanted": {"base": "base.qcow2", "backing_file": "./base.qcow2"},
    "bottom": {"base_node": "b"},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_images_afterwards(tmp_path: Path, shape: str) -> None:
    """As QEMU leaves them: the same bytes, the same link, and the same clusters allocated."""
    below = {
        "driver": "qcow2",
        "node-name": "m",
        "file": {"driver": "file", "filename": "mid.qcow2"},
        "backing": {
            "driver": "qcow2",
            "node-name": "b",
            "file": {"driver": "file", "filename": "base.qcow2"},
        },
    }
    chain = add("n0", "top.qcow2", backing=below)
    both(tmp_path, [chain, stream(**SHAPES[shape]), wait("j", "null")])
    ours, theirs = tmp_path / "ours" / "top.qcow2", tmp_path / "theirs" / "top.qcow2"
    assert info(ours) == info(theirs)
    tools.run("qemu-img", "check", "-q", ours)
    tools.run("qemu-img", "compare", "-q", ours, theirs)
    assert layout(ours) == layout(theirs)


def layout(image: Path) -> list[Any]:
    """Where each kind of run begins; the host's offsets are a matter of taste."""
    shown: list[Any] = []
    for run in json.loads(tools.run("qemu-img", "map", "--output=json", image)):
        kind = run["depth"], run["zero"], run["data"]
        if not shown or shown[-1][1] != kind:
            shown.append((run["start"], kind))
    return shown


SIZES = [
    ["qemu-img", "create", "-q", "-f", "qcow2", "base.qcow2", "6M"],
    ["qemu-io", "-f", "qcow2", "-c", "write -P 1 0 6M", "base.qcow2"],
    ["qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "mid.qcow2"],
    ["qemu-img", "resize", "-q", "--shrink", "mid.qcow2", "2560k"],
    ["qemu-io", "-f", "qcow2", "-c", "write -P 2 1M 192k", "-c", "write -z 2M 64k", "mid.qcow2"],
    ["qemu-img", "create", "-q", "-f", "qcow2", "-b", "mid.qcow2", "-F", "qcow2", "top.qcow2"],
    ["qemu-img", "resize", "-q", "top.qcow2", "8M"],
    ["qemu-io", "-f", "qcow2", "-c", "write -P 3 5M 64k", "top.qcow2"],
]


@pytest.mark.parametrize("options", [{}, {"base": "base.qcow2"}], ids=["whole", "base"])
def test_images_of_different_sizes(tmp_path: Path, options: dict[str, Any]) -> None:
    """Held against the disk before: streaming to a base below a shorter image, 7.2 lets the base's
    bytes show where zeroes were."""
    before = ["qemu-img", "convert", "-O", "raw", "top.qcow2", "before.raw"]
    requests = [add("n0", "top.qcow2"), stream(**options), wait("j", "null")]
    both(tmp_path, requests, [*SIZES, before])
    ours = tmp_path / "ours"
    tools.run("qemu-img", "check", "-q", ours / "top.qcow2")
    tools.run("qemu-img", "compare", "-q", "-F", "raw", ours / "top.qcow2", ours / "before.raw")
    if not options:
        assert layout(ours / "top.qcow2") == layout(tmp_path / "theirs" / "top.qcow2")


# Creating

CREATE: list[dict[str, Any]] = [
    {"driver": "raw"},
    {"driver": "null-co"},
    {"driver": "file", "filename": "/nowhere/n.img", "size": 0},
    {"driver": "qcow2", "file": "nope", "size": 1048576},
    {"driver": "qcow2", "file": "f", "size": 1048576, "cluster-size": 3},
    {"driver": "qcow2", "file": "f", "size": 1000},
    {"driver": "qcow2", "file": "f", "size": 1048576, "version": "v2", "lazy-refcounts": True},
    {"driver": "qcow2", "file": "f", "size": 1048576, "backing-fmt": "raw"},
    {"driver": "qcow2", "file": "f", "size": 1048576, "backing-file": "b", "backing-fmt": "raw"},
    {"driver": "qcow2", "file": {"driver": "file", "filename": "a.img"}, "size": 65536},
    {"driver": "qcow2", "file": "used", "size": 65536},
]


def test_creating(tmp_path: Path) -> None:
    requests = [
        do("blockdev-add", driver="file", node_name="f", filename="a.img"),
        do("blockdev-add", driver="file", node_name="used", filename="empty.qcow2"),
        do("blockdev-add", driver="qcow2", node_name="user", file="used"),
        do("blockdev-create", job_id="0", options=CREATE[-1]),
    ]
    for number, options in enumerate(CREATE):
        job = f"c{number}"
        requests.append(do("blockdev-create", job_id=job, options=options))
        if "file" in options or "filename" in options:
            requests += [wait(job, "concluded"), do("query-jobs")]
            requests += [do("block-job-dismiss", id=job), do("job-pause", id=job)]
            requests.append(do("job-dismiss", id=job))
    both(tmp_path, requests)


def test_a_stream_leaves_data_to_the_host_and_zeroes_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, top = tmp_path / "base", tmp_path / "top"
    tools.run("qemu-img", "create", "-q", "-f", "qcow2", base, "2M")
    tools.run("qemu-io", "-f", "qcow2", "-c", "write -P 7 0 1M", "-c", "write -P 0 1M 1M", base)
    tools.run("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", top)
    copied: list[int] = []
    copy = os.copy_file_range

    def counted(*args: int) -> int:
        copied.append(copy(*args))
        return copied[-1]

    monkeypatch.setattr(os, "copy_file_range", counted)

    async def main() -> None:
        bench = Bench()
        await bench.open(top, "qcow2")
        await bench.do("block-stream", job_id="j", device="d0")
        await bench.ended()
        await bench.engine.shut_down()

    graphs.run(main())
    assert sum(copied) == 1 << 20
    tools.run("qemu-img", "compare", base, top)
    assert top.stat().st_blocks * 512 < (2 << 20)
