"""``drive_add`` with all its options, and what then shows of the drive, as in QEMU 7.2."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import tools
from tests.support.hmp import side_by_side

IMAGES = [
    ["qemu-img", "create", "-q", "-f", "qcow2", "base.qcow2", "1M"],
    ["qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "top.qcow2"],
    ["qemu-img", "create", "-q", "-f", "raw", "a.img", "1M"],
]

RAW = "drive_add 0 if=none,id=a,file=a.img,format=raw"
NULL = "drive_add 0 if=none,driver=null-co"

SCRIPTS: dict[str, list[str]] = {
    "json names": [
        'drive_add 0 if=none,id=a,file=json:{"driver":"raw",,"file.filename":"a.img",,"size":512}',
        "info block a",
        'drive_add 0 if=none,id=b,driver=raw,file=json:{"driver":"qcow2",,"file.filename":"a.img"}',
        'drive_add 0 if=none,id=c,file=json:{"file":{"filename":"top.qcow2"},,"backing":null}',
        "info block -v c",
        "drive_add 0 if=none,id=x,file=json:{",
        "drive_add 0 if=none,id=x,format=raw,file=json:[]",
        "drive_add 0 if=none,id=x,file=json:{}",
        "drive_add 0 if=none,id=x,driver=file,file=json:{}",
        'drive_add 0 if=none,id=x,file=json:{"driver":"nope"}',
        'drive_add 0 if=none,id=x,driver=file,file=json:{"driver":"raw",,"filename":"nowhere"}',
    ],
    "limits": [
        f"{RAW},bps=1000000,iops=10",
        "info block",
        "drive_del a",
        f"{RAW},throttling.bps-read=1000000,bps_wr=0x10,iops_rd=5,iops_rd_max=9,iops_size=4096,"
        "throttling.iops-read-max-length=3,group=g",
        "info block a",
        f"{NULL},id=b,group=g",
        "info block b",
        f"{NULL},id=c,group=g,bps=77",
        "info block c",
        "info block a",
        "drive_add 0 if=none,id=e,bps=100",
        "info block e",
        "block_set_io_throttle c 0 0 0 0 0 0",
        "info block c",
        "info block a",
        "block_set_io_throttle a 0 1 2 0 3 4",
        "info block a",
        "block_set_io_throttle b 5 0 0 6 0 0",
        "info block b",
        "drive_del a",
        f"{RAW},bps=1,group=g",
        "info block a",
    ],
    "limits refused": [
        f"{RAW},bps=1000000,iops_size=5",
        f"{RAW},throttling.bps-total=1M",
        f"{RAW},throttling.bps-total=x",
        f"{RAW},bps=",
        f"{RAW},bps=-1",
        f"{RAW},bps=99999999999999999999999",
        f"{RAW},bps=1000000000000001",
        f"{RAW},bps=1,bps_rd=1",
        f"{RAW},iops=1,iops_wr=1",
        f"{RAW},iops_rd=1,iops_max=1,iops_wr_max=1",
        f"{RAW},bps=1,throttling.bps-total=1",
        f"{RAW},group=1,throttling.group=1",
        f"{RAW},iops=1,throttling.iops-total=1,bps=1,throttling.bps-total=1",
        f"{RAW},bps=1,throttling.bps-total=1,iops_max=1,throttling.iops-total-max=1",
        f"{RAW},bps_max=1",
        f"{RAW},bps=10,bps_max=1",
        f"{RAW},bps=10,throttling.bps-total-max-length=0",
        f"{RAW},bps=10,throttling.bps-total-max-length=5",
        f"{RAW},bps=10,bps_max=100000000,throttling.bps-total-max-length=500000000",
        f"{RAW},bps=10,bps_max_length=5",
        f"{RAW},throttling.nope=5",
        f"{RAW},throttling=5",
        "drive_add 0 if=none,id=a,file=nowhere,bps=1,bps_rd=1",
        "drive_add 0 if=none,id=a,bps=1,bps_rd=1",
        RAW,
        "drive_add 0 if=none,id=e",
        "block_set_io_throttle",
        "block_set_io_throttle a 1 2 3 4 5",
        "block_set_io_throttle a 1 2 3 4 5 6",
        "block_set_io_throttle a x 0 0 0 0 0",
        "block_set_io_throttle a 1k 0 0 0 0 0",
        "block_set_io_throttle a -1 0 0 0 0 0",
        "block_set_io_throttle nope 1 0 0 0 0 0",
        "block_set_io_throttle e 1 0 0 0 0 0",
        "block_set_io_throttle a 0 0 0 0 0 1000000000000001",
        "info block a",
    ],
    "names in options are files": [
        "drive_add 0 if=none,id=x,format=raw,file.filename=nbd:unix:x",
        "drive_add 0 if=none,id=x,file.filename=nbd://x/x",
        "drive_add 0 if=none,id=x,driver=raw,file.filename=json:{}",
        "drive_add 0 if=none,id=x,file.driver=raw,file.file.filename=json:{}",
        "drive_add 0 if=none,id=x,driver=file",
        "drive_add 0 if=none,id=x,driver=raw,file.driver=file",
    ],
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_answers_are_qemus(tmp_path: Path, name: str) -> None:
    tools.need("qemu-system-x86_64", "qemu-img")
    theirs, ours = side_by_side(tmp_path, IMAGES, SCRIPTS[name])
    assert ours == theirs
