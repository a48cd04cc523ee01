"""Nodes: opened and deleted."""

from __future__ import annotations

from tests.support.qmp_cases.words import USER, Requests, add, do

CASES: dict[str, Requests] = {
    "add a chain": [add("n0", "top.qcow2")],
    "add a chain read-only": [add("n0", "top.qcow2", read_only=True)],
    "add without a backing image": [add("n0", "top.qcow2", backing=None)],
    "add with a backing node": [
        add("b", "mid.qcow2", read_only=True),
        add("n0", "top.qcow2", backing="b"),
        do("blockdev-del", node_name="b"),
    ],
    "add with backing options": [
        add(
            "n0",
            "top.qcow2",
            backing={
                "driver": "raw",
                "node-name": "b",
                "file": {"driver": "file", "filename": "a.img"},
            },
        ),
    ],
    "add raw with offset and size": [add("r", "a.img", "raw", offset=512, size=4096)],
    "add raw past the end": [add("r", "a.img", "raw", offset=1048576, size=512)],
    "add raw with an odd offset": [add("r", "a.img", "raw", offset=100)],
    "add null": [
        do("blockdev-add", driver="null-co", node_name="z", size=65536, read_zeroes=True),
        do("blockdev-add", driver="null-aio", node_name="y"),
    ],
    "add a file alone": [do("blockdev-add", driver="file", node_name="f", filename="a.img")],
    "add what does not exist": [add("n0", "nowhere.qcow2")],
    "add what is no qcow2": [add("n0", "a.img")],
    "add a directory": [add("n0", "/", "raw")],
    "add without a name": [do("blockdev-add", driver="null-co")],
    "add a taken name": [
        do("blockdev-add", driver="null-co", node_name="n0"),
        do("blockdev-add", driver="null-co", node_name="n0"),
    ],
    "add a bad name": [do("blockdev-add", driver="null-co", node_name="0n")],
    "add a long name": [do("blockdev-add", driver="null-co", node_name="n" * 32)],
    "add on a node that is not there": [do("blockdev-add", driver="raw", node_name="r", file="no")],
    "add twice for writing": [
        add("n0", "empty.qcow2"),
        add("n1", "empty.qcow2"),
        add("n2", "empty.qcow2", read_only=True),
    ],
    "add with force-share": [
        add("n0", "empty.qcow2"),
        add("n1", "empty.qcow2", read_only=True, force_share=True),
        add("n2", "empty.qcow2", force_share=True),
    ],
    "two formats on one file": [
        do("blockdev-add", driver="file", node_name="f", filename="empty.qcow2"),
        do("blockdev-add", driver="qcow2", node_name="n0", file="f"),
        do("blockdev-add", driver="qcow2", node_name="n1", file="f"),
        do("blockdev-add", driver="raw", node_name="n2", file="f"),
    ],
    "cache modes": [
        add("n0", "empty.qcow2", cache={"direct": False, "no-flush": True}),
    ],
    "detect-zeroes": [
        add("n0", "empty.qcow2", detect_zeroes="on"),
        add("n1", "top.qcow2", detect_zeroes="unmap"),
        add("n2", "top.qcow2", detect_zeroes="unmap", discard="unmap"),
    ],
    "missing, extra and ill-typed arguments": [
        do("blockdev-add"),
        do("blockdev-add", driver="qcow2", node_name="n0"),
        do("blockdev-add", driver="nonsense", node_name="n0"),
        do("blockdev-add", driver="null-co", node_name="n0", colour="red"),
        do("blockdev-add", driver="null-co", node_name=7),
        do("blockdev-add", driver="null-co", node_name="n0", size="big"),
        do("blockdev-add", driver="raw", node_name="n0", file=7),
        do("blockdev-add", driver="null-co", node_name="n0", read_only="yes"),
        do("blockdev-del"),
        do("block_resize", size=512),
        do("nonsense"),
    ],
    "delete": [
        add("n0", "top.qcow2"),
        do("blockdev-del", node_name="n0"),
        do("blockdev-del", node_name="n0"),
    ],
    "delete what is used": [
        add("n0", "empty.qcow2"),
        USER,
        do("blockdev-del", node_name="n0"),
        do("blockdev-del", node_name="user"),
        do("blockdev-del", node_name="n0"),
    ],
}
