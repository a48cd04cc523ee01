"""``info …``: the texts are those that QEMU 7.2 prints for the same answers."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from monitor.commands.info import JobStanding
from monitor.engine.api import JobSnapshot
from monitor.engine.schema.image import ImageInfoSpecificQcow2
from monitor.engine.schema.job import QueryBlockJobs
from monitor.engine.schema.monitor import QueryVersion, VersionInfo, VersionTriple
from monitor.engine.schema.query import CacheInfo, ImageInfo, QueryBlock, QueryNamedBlockNodes
from tests.support.answers import block_job, device, drive, image
from tests.support.commands import FakeSession, run, typed
from tests.support.fake_engine import MIB, FakeEngine, job

TWO = [drive("d0", inserted=device()), drive("d1")]


def test_drives_with_an_empty_line_between() -> None:
    text, requests = typed("info block", {QueryBlock: TWO})
    assert text == (
        "d0 (n0): a.qcow2 (qcow2)\n"
        "    Removable device: not locked, tray closed\n"
        "    Cache mode:       writeback\n"
        "\n"
        "d1: [not inserted]\n"
        "    Removable device: not locked, tray closed"
    )
    assert requests == [QueryBlock()]


def test_nothing_for_no_drives() -> None:
    assert typed("info block", {QueryBlock: []}) == ("", [QueryBlock()])


def test_one_drive_that_is_not_the_first_has_an_empty_line_before_it() -> None:
    assert typed("info block d1", {QueryBlock: TWO})[0] == (
        "\nd1: [not inserted]\n    Removable device: not locked, tray closed"
    )


def test_a_name_that_is_no_drives_is_looked_for_among_the_nodes() -> None:
    text, _ = typed("info block n0", {QueryBlock: TWO, QueryNamedBlockNodes: [device()]})
    assert text == "n0: a.qcow2 (qcow2)\n    Cache mode:       writeback"


def test_an_unknown_name_shows_nothing() -> None:
    assert typed("info block nope", {QueryBlock: TWO, QueryNamedBlockNodes: []})[0] == ""


def test_named_nodes_do_not_ask_for_drives() -> None:
    text, requests = typed(
        "info block -n", {QueryNamedBlockNodes: [device(), device(node="n1", ro=True)]}
    )
    assert text == (
        "n0: a.qcow2 (qcow2)\n    Cache mode:       writeback\n\n"
        "n1: a.qcow2 (qcow2, read-only)\n    Cache mode:       writeback"
    )
    assert requests == [QueryNamedBlockNodes()]


def test_what_is_out_of_the_ordinary() -> None:
    node = device(
        encrypted=True,
        cache=CacheInfo(writeback=False, direct=True, no_flush=True),
        backing_file="base.qcow2",
        backing_file_depth=2,
        detect_zeroes="unmap",
        iops=7,
        iops_max=70,
        group="g",
    )
    shown = drive("d0", inserted=node, qdev="/x", locked=True, tray_open=True, io_status="nospace")
    assert typed("info block", {QueryBlock: [shown]})[0] == (
        "d0 (n0): a.qcow2 (qcow2, encrypted)\n"
        "    Attached to:      /x\n"
        "    I/O status:       nospace\n"
        "    Removable device: locked, tray open\n"
        "    Cache mode:       writethrough, direct, ignore flushes\n"
        "    Backing file:     base.qcow2 (chain depth: 2)\n"
        "    Detect zeroes:    unmap\n"
        "    I/O throttling:   bps=0 bps_rd=0 bps_wr=0 bps_max=0 bps_rd_max=0 bps_wr_max=0 "
        "iops=7 iops_rd=0 iops_wr=0 iops_max=70 iops_rd_max=0 iops_wr_max=0 iops_size=0 group=g"
    )


def test_a_drive_without_a_name_shows_its_node() -> None:
    shown = [drive("", inserted=device()), drive("", qdev="q0"), drive("")]
    firsts = [
        part.splitlines()[0] for part in typed("info block", {QueryBlock: shown})[0].split("\n\n")
    ]
    assert firsts == ["n0: a.qcow2 (qcow2)", "q0: [not inserted]", "<anonymous>: [not inserted]"]


def test_details_are_qemu_imgs() -> None:
    specific = {
        "type": "qcow2",
        "data": {
            "compat": "1.1",
            "compression-type": "zlib",
            "lazy-refcounts": False,
            "refcount-bits": 16,
            "corrupt": False,
            "extended-l2": False,
            "bitmaps": [{"flags": ["auto"], "name": "b0", "granularity": 65536}],
        },
    }
    top = image(
        "dir/a.qcow2",
        actual_size=200704,
        cluster_size=65536,
        dirty_flag=True,
        backing_filename="base",
        full_backing_filename="dir/base",
        backing_filename_format="raw",
        format_specific=msgspec.convert(specific, ImageInfoSpecificQcow2),
        backing_image=ImageInfo(filename="dir/base", format="raw", virtual_size=512),
    )
    text, _ = typed("info block -v", {QueryBlock: [drive("d0", inserted=device(image=top))]})
    assert text.split("\n\n")[1] == (
        "Images:\n"
        "image: dir/a.qcow2\n"
        "file format: qcow2\n"
        "virtual size: 64 MiB (67108864 bytes)\n"
        "disk size: 196 KiB\n"
        "cluster_size: 65536\n"
        "cleanly shut down: no\n"
        "backing file: base (actual path: dir/base)\n"
        "backing file format: raw\n"
        "Format specific information:\n"
        "    compat: 1.1\n"
        "    compression type: zlib\n"
        "    lazy refcounts: false\n"
        "    bitmaps:\n"
        "        [0]:\n"
        "            flags:\n"
        "                [0]: auto\n"
        "            name: b0\n"
        "            granularity: 65536\n"
        "    refcount bits: 16\n"
        "    corrupt: false\n"
        "    extended l2: false\n"
        "image: dir/base\n"
        "file format: raw\n"
        "virtual size: 512 B (512 bytes)\n"
        "disk size: unavailable"
    )


def test_a_backing_file_that_cannot_be_found() -> None:
    top = image("json:{}", backing_filename="base")
    text, _ = typed("info block -v", {QueryBlock: [drive("d0", inserted=device(image=top))]})
    assert "backing file: base (cannot determine actual path)\n" in text + "\n"


def test_block_jobs() -> None:
    jobs = [block_job(), block_job(type="commit", device="d1", speed=0)]
    assert typed("info block-jobs", {QueryBlockJobs: jobs})[0] == (
        "Streaming device d0: Completed 524288 of 67108864 bytes, speed limit 1048576 bytes/s\n"
        "Type commit, device d1: Completed 524288 of 67108864 bytes, speed limit 0 bytes/s"
    )
    assert typed("info block-jobs", {QueryBlockJobs: []})[0] == "No active jobs"


def test_jobs() -> None:
    running = job("s0", current=26 * MIB, rate=10.0 * MIB)
    failed = job(
        "c0", type="create", status="concluded", error="No space left on device", total=0,
        verbs=frozenset({"dismiss"}),
    )  # fmt: skip
    assert jobs_of("info jobs", running, failed) == (
        "s0: stream, running, 40% (27262976 of 67108864), 10.0 MiB/s, 0:04 left\n"
        "c0: create, concluded, 0% (0 of 0): failed: No space left on device; waiting for dismiss"
    )
    assert jobs_of("info jobs") == "No active jobs"


def test_a_job_that_had_nothing_to_do_has_done_all_of_it() -> None:
    nothing = job("m0", type="mirror", status="ready", total=0, verbs=frozenset({"complete"}))
    line = "m0: mirror, ready, 100% (0 of 0): waiting for complete"
    assert jobs_of("info jobs", nothing) == line
    assert (nothing.percent, nothing.fraction) == (100, 1.0)


def test_a_job_that_only_a_cancel_ends() -> None:
    """sync=none: how much of the disk guests overwrite tells of no end."""
    backup = job("n", type="backup", current=MIB, rate=2.0 * MIB, endless=True)
    expected = "n: backup, running, 1% (1048576 of 67108864), 2.0 MiB/s: waiting for cancel"
    assert jobs_of("info jobs", backup) == expected


@pytest.mark.parametrize(
    ("status", "verb", "outlook"),
    [
        ("running", "complete", ""),
        ("ready", "complete", ": waiting for complete"),
        ("ready", None, ""),  # it ends
        ("standby", "resume", ": waiting for resume"),
        ("paused", "resume", ": waiting for resume"),
        ("paused", None, ""),  # by the engine, for a moment
        ("pending", "finalize", ": waiting for finalize"),
        ("waiting", None, ": waiting for the other jobs of its group"),
    ],
)
def test_what_a_job_waits_for(status: str, verb: str | None, outlook: str) -> None:
    each = job("d0", status=status, current=32 * MIB, verbs=frozenset({verb} - {None}))
    text = f"d0: stream, {status}, 50% (33554432 of 67108864){outlook}"
    assert jobs_of("info jobs", each) == text


def test_a_job_that_an_error_has_stopped_says_at_which() -> None:
    each = job(
        "d0", status="paused", verbs=frozenset({"resume"}),
        stopped="write error: No space left on device",
    )  # fmt: skip
    assert jobs_of("info jobs", each) == (
        "d0: stream, paused, 0% (0 of 67108864): "
        "stopped at a write error: No space left on device; waiting for resume"
    )


def test_a_cancelled_job_that_is_kept_has_not_failed() -> None:
    each = job("c0", status="concluded", error="Operation canceled", verbs=frozenset({"dismiss"}))
    assert jobs_of("info jobs", each).endswith(": cancelled; waiting for dismiss")


def test_programs_are_told_what_jobs_wait_for_too() -> None:
    def data(*jobs: JobSnapshot) -> Any:
        return msgspec.to_builtins([JobStanding.of(each) for each in jobs])

    figures = {"current-progress": 26 * MIB, "total-progress": 64 * MIB}
    moves = job("s0", current=26 * MIB, rate=10.0 * MIB)
    stands = job("s1", status="ready", current=26 * MIB, rate=1.0, verbs=frozenset({"complete"}))
    assert data(moves, stands) == [
        {"id": "s0", "type": "stream", "status": "running", **figures,
         "rate": 10 * MIB, "seconds-left": 4},
        {"id": "s1", "type": "stream", "status": "ready", **figures, "waits-for": "complete"},
    ]  # fmt: skip


def jobs_of(line: str, *jobs: JobSnapshot) -> str:
    """What ``line`` prints while there are these jobs."""

    async def work() -> str:
        session = FakeSession(FakeEngine())
        for each in jobs:
            session.engine.start(each)
        await session.type(line)
        return session.text

    return run(work())


@pytest.mark.parametrize(
    ("package", "text"),
    [
        ("blkmon 0.1.0", "7.2.0 (blkmon 0.1.0)"),
        (" (v7.2.0)", "7.2.0 (v7.2.0)"),
        ("", "7.2.0"),
    ],
)
def test_the_version_stands_before_the_package(package: str, text: str) -> None:
    version = VersionInfo(qemu=VersionTriple(major=7, minor=2, micro=0), package=package)
    assert typed("info version", {QueryVersion: version})[0] == text
