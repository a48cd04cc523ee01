"""Commands that are one request: what they ask for, and how they say that it failed."""

from __future__ import annotations

import pytest

from monitor.commands.errors import Verbatim
from monitor.commands.render import error_text
from monitor.engine.errors import DeviceNotFound, Refused
from monitor.engine.schema.base import Request
from monitor.engine.schema.decode import MissingParameter
from monitor.engine.schema.extra import CreateImage, DriveAdd, DriveDel
from monitor.engine.schema.graph import BlockdevDel, BlockdevSnapshotSync, BlockResize
from monitor.engine.schema.job import (
    BlockJobCancel,
    BlockJobComplete,
    BlockJobPause,
    BlockJobResume,
    BlockJobSetSpeed,
)
from monitor.engine.schema.stream import BlockStream
from tests.support.commands import AnsweringEngine, FakeSession, run, typed

MIB = 1 << 20


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        ("block_stream d0", BlockStream(job_id="d0", device="d0", on_error="report")),
        (
            "block_stream d0 2 base.img",
            BlockStream(
                job_id="d0", device="d0", speed=2 * MIB, base="base.img", on_error="report"
            ),
        ),
        ("block_stream d0 0", BlockStream(job_id="d0", device="d0", speed=0, on_error="report")),
        ("block_resize d0 128", BlockResize(device="d0", size=128 * MIB)),
        ("block_resize d0 64k", BlockResize(device="d0", size=65536)),
        ("block_job_cancel d0", BlockJobCancel(device="d0", force=False)),
        ("block_job_cancel -f d0", BlockJobCancel(device="d0", force=True)),
        ("block_job_pause d0", BlockJobPause(device="d0")),
        ("block_job_resume d0", BlockJobResume(device="d0")),
        ("block_job_complete d0", BlockJobComplete(device="d0")),
        ("block_job_set_speed d0 1", BlockJobSetSpeed(device="d0", speed=MIB)),
        (
            "snapshot_blkdev d0 o.img",
            BlockdevSnapshotSync(device="d0", snapshot_file="o.img", mode="absolute-paths"),
        ),
        (
            "snapshot_blkdev -n d0 o.img raw",
            BlockdevSnapshotSync(device="d0", snapshot_file="o.img", format="raw", mode="existing"),
        ),
        ("drive_del d0", DriveDel(id="d0")),
        ("create a.img 10M", CreateImage(filename="a.img", format="raw", size=10 * MIB)),
        ("create a.img 4096", CreateImage(filename="a.img", format="raw", size=4096)),
        (
            "create -f qcow2 -b base -F raw -o cluster_size=4k,compat=1.1 a.img",
            CreateImage(
                filename="a.img",
                format="qcow2",
                backing_file="base",
                backing_format="raw",
                options="cluster_size=4k,compat=1.1",
            ),
        ),
    ],
)
def test_what_a_line_asks_for(line: str, request_: Request) -> None:
    assert typed(line) == ("", [request_])


def test_a_drive_is_added_with_ok() -> None:
    options = "if=none,id=d0,file=a,,b.img"
    assert typed(f"drive_add 0 {options}") == ("OK", [DriveAdd(options=options)])


def test_a_node_is_added_in_silence() -> None:
    text, requests = typed(
        "drive_add -n 0 driver=qcow2,node-name=n0,file.driver=file,file.filename=a"
    )
    assert text == ""
    options = "driver=qcow2,node-name=n0,file.driver=file,file.filename=a"
    assert requests == [DriveAdd(options=options, node=True)]


def test_a_node_is_deleted_as_blockdev_del_does_it() -> None:
    async def work() -> list[Request]:
        engine = AnsweringEngine()
        engine.nodes["n0"] = "qcow2 64M rw"
        await FakeSession(engine).type("drive_del n0")
        return engine.requests

    assert run(work()) == [BlockdevDel(node_name="n0")]


@pytest.mark.parametrize(
    "line", ["drive_add 0 id=d0", "drive_del d0", "drive_add -n 0 driver=null-co,node-name=x"]
)
def test_errors_about_drives_stand_as_they_are_and_keep_their_hint(line: str) -> None:
    refusal = Refused('Failed to get "write" lock').with_hint("Is another process using it?")
    with pytest.raises(Verbatim) as caught:
        typed(line, {DriveAdd: refusal, DriveDel: refusal})
    assert error_text(caught.value) == 'Failed to get "write" lock\nIs another process using it?'


def test_other_errors_come_through() -> None:
    with pytest.raises(DeviceNotFound) as caught:
        typed("block_resize d0 1", {BlockResize: DeviceNotFound("d0")})
    assert error_text(caught.value) == "Error: Device 'd0' not found"


def test_a_snapshot_needs_a_file() -> None:
    with pytest.raises(MissingParameter) as caught:
        typed("snapshot_blkdev d0")
    assert error_text(caught.value) == "Error: Parameter 'snapshot-file' is missing"
