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
