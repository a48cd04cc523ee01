"""``drive_add`` with all its options, and what then shows of the drive, as in QEMU 7.2."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support import tools
from tests.support.hmp import Exchange, blkmon, converse, qemu, side_by_side

IMAGES = [
    ["qemu-img", "create", "-q", "-f", "qcow2", "base.qcow2", "1M"],
    ["qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "top.qcow2"],
    ["qemu-img", "create", "-q", "-f", "raw", "a.img", "1M"],
]

RAW = "drive_add 0 if=none,id=a,file=a.img,format=raw"
NULL = "drive_add 0 if=none,driver=null-co"

FILE = "drive_add 0 if=none,file.filename=a.img"
BLKDEBUG = "drive_add 0 if=none,driver=blkdebug,image.driver=null-co"
CBW = "drive_add 0 if=none,id=x,driver=copy-before-write,file.driver=null-co"

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
    "statistics": [
        f"{RAW},stats-account-invalid=off,stats-account-failed=off,stats-intervals.0=1",
        "info blockstats",
        f"{NULL},id=b,stats-account-invalid=maybe",
        f"{NULL},id=b,stats-account-failed=",
        f"{NULL},id=b,stats-intervals=5",
        *(f"{NULL},id=b,stats-intervals.0={n}" for n in ("0", "x", "", "-1", 1 << 32, "0x10")),
        f"{NULL},id=b,stats-intervals.1=1",
        f"{NULL},id=b,stats-intervals.0=1,stats-intervals.2=1",
        f"{NULL},id=b,stats-intervals.0.a=1",
        f"{NULL},id=b,stats-intervals.0=1,stats-intervals.x=1",
        f"{NULL},id=b,stats-intervals.0=1,stats-intervals.0.b=1",
        "drive_add 0 if=none,id=b,file=nowhere,stats-intervals.0=0",
        "drive_add 0 if=none,id=b,file=nowhere,stats-intervals.1=0",
        "drive_add 0 if=none,id=c,stats-intervals.0=0",
        "drive_add 0 if=none,id=d,stats-intervals.1=0,bps=1,bps_rd=1",
        "drive_add 0 if=none,id=d,stats-intervals.1=0,stats-account-failed=x",
        "drive_add 0 if=none,id=d,bps=x,stats-account-failed=x",
        "drive_add 0 if=none,id=d,detect-zeroes=x,bps=1,bps_rd=1",
        "drive_add 0 if=none,id=d,aio=x,bps=1,bps_rd=1",
        "drive_add 0 if=none,id=d,format=x,driver=y,bps=1,bps_rd=1",
        "drive_add 0 if=none,id=d,werror=x,bps=1,bps_rd=1",
        "drive_add 0 if=none,id=d,werror=x,format=z,driver=y",
        "info block",
    ],
    "thrown away in the end": [
        "drive_add 0 if=none,id=x,snapshot=maybe",
        "drive_add 0 if=none,id=e,snapshot=on",
        f"{NULL},id=n,snapshot=on",
        "drive_add 0 if=none,id=t,snapshot=on,file=top.qcow2,node-name=nn",
        "info block -v t",
        "info block -n",
        "drive_add 0 if=none,id=s,snapshot=on,file=base.qcow2,readonly=on,file.locking=off",
        "info block s",
        f"{RAW},snapshot=on,cache=directsync,discard=unmap,detect-zeroes=unmap",
        "info block -v a",
        "drive_add 0 if=none,id=c,snapshot=on,file=top.qcow2,copy-on-read=on,file.locking=off",
        "drive_add 0 if=none,id=x,snapshot=on,file=nowhere",
        "drive_add 0 if=none,id=x,snapshot=on,file=a.img,format=qcow2",
        "block_resize t 2M",
        "info block -v t",
        "drive_del s",
        "drive_del c",
        "drive_del a",
        "commit t",
        "drive_del t",
        "info block -n",
    ],
    "nodes": [
        "drive_add -n 0 node-name=n1,file.filename=base.qcow2",
        "drive_add -n 0 node-name=n2,driver=raw,file.filename=a.img",
        "drive_add -n 0 node-name=n3,driver=raw,file=n2,read-only=on",
        "drive_add -n 0 node-name=n4,driver=qcow2,file.filename=top.qcow2,backing=",
        "drive_add -n 0 node-name=x,driver=qcow2,file=n2",
        "drive_add -n 0 node-name=x,file.filename=nowhere",
        "drive_add -n 0 node-name=x,file=a.img",
        "drive_add -n 0 node-name=x",
        "drive_add -n 0 driver=null-co",
        "drive_add -n 0 node-name=x,driver=nope",
        "drive_add -n 0 node-name=x,driver=raw",
        "drive_add -n 0 node-name=n2,driver=null-co",
        "drive_add -n 0 node-name=8bad,driver=null-co",
        "drive_add -n 0 node-name=x,driver=null-co,nope=1",
        "drive_add -n 0 node-name=x,driver=null-co,nope.y=1",
        "drive_add -n 0 node-name=x,driver=null-co,file=x",
        "drive_add -n 0 node-name=x,driver=null-co,snapshot=on",
        "drive_add -n 0 node-name=x,driver=raw,file.filename=a.img,nope=1",
        "drive_add -n 0 node-name=x,driver=raw,file.filename=a.img,file.nope=1",
        "drive_add -n 0 node-name=x,driver=raw,file.filename=nowhere,nope=1",
        "drive_add -n 0 node-name=x,format=raw,file.filename=a.img",
        "drive_add -n 0 node-name=x,file.filename=a.img,cache=none",
        "drive_add -n 0 node-name=x,driver=null-co,discard=x",
        "drive_add -n 0 node-name=x,driver=null-co,detect-zeroes=x",
        "drive_add -n 0 node-name=x,driver=null-co,read-only=x",
        "info block -n",
        "drive_del n3",
        "drive_del n2",
        "info block -n",
    ],
    "words alone": [
        f"{RAW},readonly",
        f"{NULL},id=b,noreadonly,nope",
        f"{NULL},id=b,copy-on-read,media",
        "drive_add 0 if=none,id=a,readonly",
        "drive_add 0 if=none,id=8,readonly",
        "drive_add 0 readonly,readonly",
        "drive_add 0 no",
        "drive_add 0 help",
        "drive_add 0 ,",
        "drive_add 0 if=none,id=e,",
        "drive_add -n 0 node-name=q,driver=null-co,read-only",
        "drive_add -n 0 node-name,driver=null-co",
        "drive_add 0 if=none,id=none4",
        "drive_add 0 if=none",
        "drive_add 0 if=none,unit=9",
        "drive_add 0 if=none,media=cdrom,id=c,readonly,copy-on-read,werror=x",
        "info block",
    ],
    "numbers and words": [
        *(f"{FILE},id=x,driver=raw,{given}" for given in (
            "file.locking=x", "file.locking=", "file.aio=x", "file.discard=x",
            "file.detect-zeroes=x", "file.aio-max-batch=x", "detect-zeroes=x", "size=x",
        )),
        *(f"drive_add 0 if=none,id=x,driver=qcow2,file.filename=base.qcow2,{given}" for given in (
            "cache-clean-interval=x", "cache-clean-interval=1k", "overlap-check=x",
            "overlap-check.template=x", "overlap-check.main-header=x", "overlap-check.x=on",
            "lazy-refcounts=x", "discard=x", "cache-size=1x",
        )),
        *(f"drive_add 0 if=none,id=x,driver=nbd,{given}" for given in (
            "export=x", "server=x", "server.0=x", "server.0=x,server.2=y",
            "server.0=x,server.x=y", "server.path=x", "server.type=x", "server.type=unix",
            "server.type=inet,server.host=h", "server.type=unix,server.path=x,server.y=z",
            "server.type=unix,server.path=x,reconnect-delay=1k",
            "server.type=unix,server.path=x,open-timeout=1.5",
        )),
        *(f"{BLKDEBUG},id=x,{given}" for given in (
            "inject-error=5", "inject-error.0=5", "inject-error.1.event=read_aio",
            "inject-error.0.event=read_aio,inject-error.2.event=read_aio",
            "inject-error.0.event=read_aio,inject-error.x.event=read_aio",
            "inject-error.0.event=x", "inject-error.0.errno=5",
            "inject-error.0.event=read_aio,inject-error.0.errno=x",
            "inject-error.0.event=read_aio,inject-error.0.once=x",
            "inject-error.0.event=read_aio,inject-error.0.iotype=x",
            "inject-error.0.event=read_aio,inject-error.0.x=1",
            "set-state.0.event=read_aio,set-state.0.new_state=x",
        )),
        f"{CBW},target.driver=null-co,cbw-timeout=x",
        f"{CBW},target.driver=null-co,on-cbw-error=x",
        CBW,
        "info block",
    ],
    "names in options are files": [
        "drive_add 0 if=none,id=x,format=raw,file.filename=nbd:unix:x",
        "drive_add 0 if=none,id=x,file.filename=nbd://x/x",
        "drive_add 0 if=none,id=x,driver=raw,file.filename=json:{}",
        "drive_add 0 if=none,id=x,file.driver=raw,file.file.filename=json:{}",
        "drive_add 0 if=none,id=x,driver=file",
        "drive_add 0 if=none,id=x,driver=raw,file.driver=file",
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_answers_are_qemus(tmp_path: Path, name: str) -> None:
    tools.need("qemu-system-x86_64", "qemu-img")
    theirs, ours = side_by_side(tmp_path, IMAGES, SCRIPTS[name])
    assert _nameless(ours) == _nameless(theirs)


def _nameless(exchange: Exchange) -> Exchange:
    """Without temporary names."""
    return [(line, re.sub(r"[^\s\"]*/vl\.\w+", "vl…", text)) for line, text in exchange]


STATISTICS = [
    f"{RAW},stats-account-invalid=off,stats-account-failed=off,stats-intervals.0=3600,"
    "stats-intervals.1=1000000",
    "drive_add 0 if=none,id=e,stats-account-failed=off",
    'qemu-io a "aio_write 0 64k"',
    'qemu-io a "aio_read 0 64k"',
    "qemu-io a aio_flush",
    'qemu-io a "aio_read 20M 64k"',
]


def test_what_statistics_take_in_is_qemus(tmp_path: Path) -> None:
    """The times are each side's own; what has one and what has none is the same."""
    tools.need("qemu-system-x86_64", "qemu-img")
    told = []
    for name, start in (("qemu", qemu), ("blkmon", blkmon)):
        folder = tmp_path / name
        folder.mkdir()
        subprocess.run(IMAGES[-1], cwd=folder, check=True, capture_output=True, timeout=20)
        with start(folder) as monitor:
            converse(monitor, STATISTICS)
            stats = [drive["stats"] for drive in monitor.execute("query-blockstats")]
        told.append([_plain(entry) for entry in stats])
    assert told[0] == told[1]
    first, _ = told[1]
    assert [timed["interval_length"] for timed in first["timed_stats"]] == [3600, 1000000]


def _plain(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _plain(member, key) for key, member in value.items()}
    if isinstance(value, list):
        return [_plain(member) for member in value]
    return value > 0 if name.endswith(("_ns", "_depth")) else value
