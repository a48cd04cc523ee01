"""A corrupt image found while a job reads it: the events, as qemu-storage-daemon sends them."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.side_by_side import compare

UNALIGN = """
import struct
with open("bad.qcow2", "r+b") as image:
    l1_offset, = struct.unpack_from(">Q", image.read(48), 40)
    image.seek(l1_offset)
    table = struct.unpack(">Q", image.read(8))[0] & 0x00FFFFFFFFFFFE00
    image.seek(table)
    entry, = struct.unpack(">Q", image.read(8))
    image.seek(table)
    image.write(struct.pack(">Q", entry | 0x1000))
"""

IMAGES = [
    ["qemu-img", "create", "-q", "-f", "qcow2", "bad.qcow2", "1M"],
    ["qemu-io", "-f", "qcow2", "-c", "write -P 1 0 1M", "bad.qcow2"],
    ["qemu-img", "create", "-q", "-f", "qcow2", "-b", "bad.qcow2", "-F", "qcow2", "top.qcow2"],
    [sys.executable, "-c", UNALIGN],
]


def test_the_image_is_reported_and_the_job_fails(tmp_path: Path) -> None:
    session = compare(
        tmp_path,
        IMAGES,
        [
            {
                "execute": "blockdev-add",
                "arguments": {
                    "driver": "qcow2",
                    "node-name": "n0",
                    "file": {"driver": "file", "filename": "top.qcow2"},
                },
            },
            {"execute": "block-stream", "arguments": {"job-id": "j", "device": "n0"}},
            {"wait": "j", "until": "null"},
        ],
    )
    assert "BLOCK_IMAGE_CORRUPTED" in [event["event"] for event in session.events]
