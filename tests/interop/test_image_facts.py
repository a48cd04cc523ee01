"""What queries say of an image, beside what qemu-img says of the same file."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.support import tools
from tests.support.side_by_side import OURS, converse


def test_internal_snapshots_and_the_format_are_told_as_qemu_img_tells_them(tmp_path: Path) -> None:
    tools.need("qemu-img")
    for command in (
        ["qemu-img", "create", "-q", "-f", "qcow2", "a.qcow2", "1M"],
        ["qemu-img", "snapshot", "-c", "first", "a.qcow2"],
        ["qemu-img", "snapshot", "-c", "second", "a.qcow2"],
    ):
        subprocess.run(command, cwd=tmp_path, check=True, timeout=20)
    info = ["qemu-img", "info", "--output=json", "a.qcow2"]
    theirs = json.loads(subprocess.run(info, cwd=tmp_path, check=True, capture_output=True).stdout)
    file = {"driver": "file", "filename": "a.qcow2"}
    add = {"driver": "qcow2", "node-name": "n0", "read-only": True, "file": file}
    requests = [
        {"execute": "blockdev-add", "arguments": add},
        {"execute": "query-named-block-nodes"},
    ]
    nodes = converse(OURS, tmp_path, requests).replies[1]["return"]
    (ours,) = (node["image"] for node in nodes if node["node-name"] == "n0")
    assert [snapshot["name"] for snapshot in ours["snapshots"]] == ["first", "second"]
    assert ours["snapshots"] == theirs["snapshots"]
    assert ours["format-specific"] == theirs["format-specific"]
