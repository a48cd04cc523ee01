"""What reads leave in an image that copies on read: the clusters that QEMU 7.2 leaves there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import tools
from tests.support.hmp import side_by_side

IMAGES = [
    ["qemu-img", "create", "-q", "-f", "qcow2", "base.qcow2", "6M"],
    ["qemu-io", "-f", "qcow2", "-c", "write -P 1 0 3M", "-c", "write -z 5M 64k", "base.qcow2"],
    ["qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "mid.qcow2",
     "5M"],
    ["qemu-io", "-f", "qcow2", "-c", "write -P 2 1M 1M", "-c", "write -P 0 3M 64k", "mid.qcow2"],
    ["qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=128k", "-b", "mid.qcow2", "-F",
     "qcow2", "top.qcow2", "7M"],
    ["qemu-io", "-f", "qcow2", "-c", "write -P 3 1536k 128k", "top.qcow2"],
]  # fmt: skip

NODES = (
    "drive_add -n 0 driver=qcow2,node-name=b,read-only=on,file.driver=file,"
    "file.filename=base.qcow2",
    "drive_add -n 0 driver=qcow2,node-name=m,read-only=on,backing=b,file.driver=file,"
    "file.filename=mid.qcow2",
    "drive_add -n 0 driver=qcow2,node-name=n0,backing=m,file.driver=file,file.filename=top.qcow2",
)
COPIES: dict[str, tuple[str, ...]] = {
    "a drive": ("drive_add 0 if=none,id=c,file=top.qcow2,node-name=n0,copy-on-read=on",),
    "a drive with a snapshot": (
        "drive_add 0 if=none,id=c,file=top.qcow2,node-name=n0,copy-on-read=on",
        "snapshot_blkdev c s.qcow2",
    ),
    "a filter": (*NODES, "drive_add -n 0 driver=copy-on-read,node-name=c,file=n0"),
    "a filter and a drive": (
        "drive_add 0 if=none,id=c,driver=copy-on-read,file.driver=qcow2,file.node-name=n0,"
        "file.file.filename=top.qcow2",
    ),
    "down to the middle": (
        *NODES,
        "drive_add -n 0 driver=copy-on-read,node-name=c,file=n0,bottom=m",
    ),
    "down to the base": (
        *NODES,
        "drive_add -n 0 driver=copy-on-read,node-name=c,file=n0,bottom=b",
    ),
    "two filters": (
        *NODES,
        "drive_add -n 0 driver=copy-on-read,node-name=d,file=n0",
        "drive_add -n 0 driver=copy-on-read,node-name=c,file=d,bottom=m",
    ),
}
READS = (
    'qemu-io c "read -P 1 0 4k"',
    'qemu-io c "read -P 1 300k 200k"',
    'qemu-io c "read -P 2 1100k 100k"',
    'qemu-io c "read -P 3 1600k 1k"',
    'qemu-io c "read -P 0 3100k 10k"',
    'qemu-io c "read -P 0 5M 64k"',
    'qemu-io c "read -P 0 6100k 500k"',
    'qemu-io c "read -P 0 7100k 60k"',
    'qemu-io c "write -P 4 2300k 4k"',
    'qemu-io c "read -P 4 2300k 4k"',
    'qemu-io c "read -P 1 2400k 1k"',
    'qemu-io n0 "flush"',
)


def layout(image: Path) -> list[tuple[int, int, int, bool, bool]]:
    runs: list[dict[str, Any]] = json.loads(tools.run("qemu-img", "map", "--output=json", image))
    shown: list[tuple[int, int, int, bool, bool]] = []
    for run in runs:
        kind = run["depth"], run["zero"], run["data"]
        if shown and shown[-1][2:] == kind and sum(shown[-1][:2]) == run["start"]:
            shown[-1] = (shown[-1][0], shown[-1][1] + run["length"], *kind)
        else:
            shown.append((run["start"], run["length"], *kind))
    return shown


@pytest.mark.parametrize("what", COPIES)
def test_the_images_are_those_that_qemu_leaves(tmp_path: Path, what: str) -> None:
    _, answers = side_by_side(tmp_path, IMAGES, [*COPIES[what], *READS])
    assert not [text for _, text in answers if "ailed" in text or "annot" in text]
    theirs, ours = tmp_path / "qemu", tmp_path / "blkmon"
    for name in ("top.qcow2", "mid.qcow2", "base.qcow2"):
        tools.run("qemu-img", "check", "-q", ours / name)
        tools.run("qemu-img", "compare", "-q", ours / name, theirs / name)
        assert layout(ours / name) == layout(theirs / name), name
