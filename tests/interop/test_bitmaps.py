"""Dirty bitmaps beside qemu-storage-daemon: every message, every listing, equal contents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.bitmaps import ABORT, bitmap, command, merge, sha256, transaction
from tests.support.side_by_side import compare

NAMED = ({"execute": "query-named-block-nodes", "arguments": {"flat": True}},)

IMAGES = [
    ["qemu-img", "create", "-q", "-f", "qcow2", "a.qcow2", "1M"],
    ["qemu-img", "create", "-q", "-f", "qcow2", "b.qcow2", "2M"],
    ["qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=2M", "large.qcow2", "64M"],
    ["qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=512", "small.qcow2", "1M"],
    ["qemu-io", "-f", "qcow2", "-c", "write 64k 100k", "-c", "write 1M 512", "b.qcow2"],
    ["qemu-img", "create", "-q", "-f", "qcow2", "-b", "b.qcow2", "-F", "qcow2", "top.qcow2", "2M"],
    ["truncate", "-s", "1M", "r.raw"],
]


def opened(name: str, image: str, driver: str = "qcow2", **more: Any) -> dict[str, Any]:
    file = {"driver": "file", "filename": image, "node-name": f"{name}-file"}
    return command("blockdev-add", driver=driver, node_name=name, file=file, **more)


def null(name: str, size: int) -> dict[str, Any]:
    return command("blockdev-add", driver="null-co", node_name=name, size=size)


N0 = opened("n0", "a.qcow2")
LONG = "ü" * 511 + "x"  # 1,023 bytes

CASES: dict[str, list[dict[str, Any]]] = {
    "adding": [
        N0,
        bitmap("add", name=""),
        bitmap("add", "no"),
        bitmap("add", "no", ""),
        *(bitmap("add", granularity=size) for size in (0, 511, 1000, 256, -1, 1 << 32)),
        bitmap("add", granularity=512),
        bitmap("add"),
        bitmap("add", granularity=3),
        bitmap("add", name="b1", granularity=1 << 31),
        bitmap("add", name="off", disabled=True),
        bitmap("add", name=LONG),
        bitmap("add", name=LONG + "y"),
        bitmap("add", name="a b,c='\"\\ü\n"),
        command("block-dirty-bitmap-add", name="b0"),
        command("block-dirty-bitmap-add", node="n0"),
        bitmap("add", name="b2", granularity="64k"),
        bitmap("add", name="b2", bogus=1),
    ],
    "default granularity": [
        opened("large", "large.qcow2"),
        opened("small", "small.qcow2"),
        opened("raw", "r.raw", "raw"),
        null("null", 1 << 20),
        *(bitmap("add", node) for node in ("large", "small", "raw", "raw-file", "null")),
        *(sha256(node) for node in ("large", "small", "raw", "null")),
    ],
    "not kept by the image": [
        opened("raw", "r.raw", "raw"),
        null("null", 1 << 20),
        *(bitmap("add", node, persistent=True) for node in ("raw", "raw-file", "null")),
        bitmap("add", "null", "", persistent=True),
        bitmap("add", "null", persistent=True, granularity=1),
    ],
    "names that are not there": [
        N0,
        *(bitmap(verb, "no") for verb in ("remove", "clear", "enable", "disable")),
        *(bitmap(verb) for verb in ("remove", "clear", "enable", "disable")),
        *(command(f"block-dirty-bitmap-{v}", name="b0") for v in ("remove", "clear", "enable")),
        *(command(f"block-dirty-bitmap-{v}", node="n0") for v in ("disable", "clear", "remove")),
        sha256("no"),
        sha256(),
        merge("no", "b0"),
        merge("n0", "b0"),
    ],
    "switching": [
        N0,
        bitmap("add"),
        bitmap("disable"),
        bitmap("disable"),
        bitmap("enable"),
        bitmap("enable"),
        bitmap("clear"),
        bitmap("remove"),
        bitmap("remove"),
        bitmap("add", disabled=True),
        bitmap("enable"),
    ],
    "merging": [
        N0,
        opened("n1", "b.qcow2"),
        *(bitmap("add", name=name, granularity=512) for name in ("b0", "b1")),
        bitmap("add", "n1", "b0"),
        merge("n0", "b0", "b1"),
        merge("n0", "b0", "b0"),
        merge("n0", "b0", "b1", "b0", {"node": "n0", "name": "b1"}),
        merge("n0", "b0", "no"),
        merge("n0", "no", "no"),
        merge("n0", "b0", "b1", "no"),
        merge("n0", "b0", {"node": "n1", "name": "b0"}),
        merge("n0", "b0", {"node": "n1", "name": "no"}),
        merge("n0", "b0", {"node": "no", "name": "b0"}),
        merge("n0", "b0", {"node": "n1"}),
        merge("n0", "b0", {"node": "n1", "name": "b0", "more": 1}),
        merge("n0", "b0", 3),
        command("block-dirty-bitmap-merge", node="n0", target="b0", bitmaps="b1"),
        command("block-dirty-bitmap-merge", node="n0", bitmaps=["b1"]),
    ],
    "filled by a stream, and merged across granularities": [
        opened("n0", "top.qcow2"),
        *(bitmap("add", name=f"g{g}", granularity=g) for g in (512, 4096, 65536, 1 << 20)),
        bitmap("add", "n0-file", "below"),
        bitmap("add", name="off", disabled=True),
        command("block-stream", device="n0", job_id="s0"),
        {"wait": "s0", "until": "null"},
        *(sha256("n0", f"g{g}") for g in (512, 4096, 65536, 1 << 20)),
        sha256("n0", "off"),
        *(bitmap("add", name=f"to{g}", granularity=g) for g in (512, 4096, 65536, 1 << 20)),
        *(merge("n0", f"to{g}", "g4096") for g in (512, 4096, 65536, 1 << 20)),
        *(sha256("n0", f"to{g}") for g in (512, 4096, 65536, 1 << 20)),
        merge("n0", "to512", "g1048576"),
        sha256("n0", "to512"),
        bitmap("clear", "n0", "to4096"),
        sha256("n0", "to4096"),
    ],
    "resizing": [
        opened("n0", "top.qcow2"),
        bitmap("add", granularity=4096),
        bitmap("add", name="b1", granularity=1 << 20),
        command("block-stream", device="n0", job_id="s0"),
        {"wait": "s0", "until": "null"},
        *(
            step
            for size in (1 << 20, 70_144, 3 << 20, 512)
            for step in (
                command("block_resize", node_name="n0", size=size),
                sha256(),
                sha256("n0", "b1"),
            )
        ),
    ],
    "snapshots leave them at their node": [
        N0,
        command("blockdev-add", driver="raw", node_name="user", file="n0"),
        bitmap("add"),
        command(
            "blockdev-snapshot-sync",
            node_name="n0",
            snapshot_file="ov.qcow2",
            snapshot_node_name="ov",
        ),
        bitmap("add", "ov"),
        sha256("ov"),
    ],
    "transactions": [
        N0,
        opened("n1", "b.qcow2"),
        transaction(bitmap("add"), bitmap("add", "n1"), bitmap("add", name="b1", disabled=True)),
        transaction(bitmap("add", name="new"), ABORT),
        transaction(bitmap("add", name="new"), bitmap("add", name="new")),
        transaction(bitmap("clear"), bitmap("clear", name="no")),
        transaction(bitmap("enable", name="b1"), ABORT),
        transaction(bitmap("disable"), ABORT),
        transaction(bitmap("disable"), bitmap("enable"), bitmap("disable")),
        transaction(bitmap("disable", name="no")),
        transaction(merge("n0", "b1", "b0"), ABORT),
        transaction(merge("n0", "b1", "b0", "no")),
        transaction(merge("n0", "b1", {"node": "n1", "name": "b0"})),
        transaction(bitmap("remove"), ABORT),
        transaction(bitmap("remove"), bitmap("clear")),
        transaction(bitmap("remove"), bitmap("add")),
        transaction(bitmap("remove", name="no")),
        transaction(bitmap("remove"), bitmap("remove", "n1")),
        transaction(bitmap("add", "no")),
        transaction(bitmap("add", name="")),
        transaction(bitmap("add", name="new", granularity=5)),
        *(
            transaction(one, completion_mode="grouped")
            for one in (
                bitmap("add", name="new"),
                *(bitmap(v, name="b1") for v in ("clear", "disable", "remove")),
                merge("n0", "b1", "b1"),
            )
        ),
    ],
}
"""Requests by what they are about; qemu-storage-daemon 7.2 itself crashes where an enabling fails
in a transaction, and for an empty list to merge: those are ours alone."""


@pytest.mark.parametrize("case", CASES)
def test_as_qemu_storage_daemon(tmp_path: Path, case: str) -> None:
    compare(tmp_path, IMAGES, CASES[case], NAMED)
