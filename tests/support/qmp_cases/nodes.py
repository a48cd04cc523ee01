"""Nodes: opened and deleted."""

from __future__ import annotations

from tests.support.qmp_cases import Never
from tests.support.qmp_cases.words import USER, Requests, add, do, file, wait

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
    "add: names": [
        do("blockdev-add", driver="null-co", node_name=""),
        do("blockdev-add", driver="null-co", node_name="#block1"),
        do("blockdev-add", driver="null-co", node_name="a b"),
        do("blockdev-add", driver="null-co", node_name="é"),
        do("blockdev-add", driver="null-co", node_name="a-b.c_d"),
        do("blockdev-add", driver="null-co", node_name="n" * 31),
    ],
    "add: a taken name deep inside": [
        do("blockdev-add", driver="null-co", node_name="z"),
        add("n0", "base.qcow2", backing={"driver": "null-co", "node-name": "z"}),
        do(
            "blockdev-add",
            driver="qcow2",
            node_name="n0",
            file=file("empty.qcow2", **{"node-name": "n0"}),
        ),
    ],
    "add: sizes of null": [
        do("blockdev-add", driver="null-co", node_name="a", size=0),
        do("blockdev-add", driver="null-co", node_name="b", size=1),
        do("blockdev-add", driver="null-co", node_name="c", size=513, latency_ns=0),
        do("blockdev-add", driver="null-co", node_name="d", size=(1 << 63) - 1),
        do("blockdev-add", driver="null-co", node_name="e", size=1 << 63),
        do("blockdev-add", driver="null-co", node_name="f", latency_ns=1 << 63),
        do("blockdev-add", driver="null-aio", node_name="g", read_zeroes=True),
    ],
    "add: formats upon formats": [
        do("blockdev-add", driver="raw", node_name="r1", file={"driver": "null-co"}),
        do("blockdev-add", driver="raw", node_name="r2", file="r1"),
        do("blockdev-add", driver="raw", node_name="r3", file="r2", offset=512),
        do("blockdev-add", driver="raw", node_name="r4", file="r3", size=1024),
        do("blockdev-add", driver="qcow2", node_name="q", file="r4"),
        do(
            "blockdev-add",
            driver="qcow2",
            node_name="n0",
            file={"driver": "raw", "node-name": "inner", "file": file("empty.qcow2")},
        ),
        do("blockdev-del", node_name="inner"),
    ],
    "add: caches of qcow2": [
        add("a", "empty.qcow2", cache_size=1 << 20, l2_cache_size=2 << 20),
        add("a", "empty.qcow2", cache_size=1 << 20, refcount_cache_size=2 << 20),
        add(
            "a",
            "empty.qcow2",
            cache_size=1 << 20,
            refcount_cache_size=1 << 19,
            l2_cache_size=1 << 19,
        ),
        add("a", "empty.qcow2", l2_cache_entry_size=100),
        add("a", "empty.qcow2", l2_cache_entry_size=1 << 20),
        add("a", "empty.qcow2", cache_clean_interval=5, cache_size=1 << 20),
    ],
    "add: overlap checks": [
        add("a", "base.qcow2", overlap_check="none"),
        add("b", "empty.qcow2", overlap_check={"template": "cached", "active-l1": False}),
        add("c", "top.qcow2", overlap_check="some"),
        add("c", "top.qcow2", overlap_check={"template": "some"}),
        add("c", "top.qcow2", overlap_check={"nothing": True}),
    ],
    "add: how files are opened": [
        do("blockdev-add", driver="file", node_name="a", filename="a.img", aio="native"),
        do("blockdev-add", driver="file", node_name="a", filename="a.img", aio="nope"),
        do("blockdev-add", driver="file", node_name="a", filename="a.img", locking="off"),
        do("blockdev-add", driver="file", node_name="b", filename="a.img", locking="on"),
        do("blockdev-add", driver="file", node_name="c", filename="a.img", read_only=True),
        do("blockdev-add", driver="file", node_name="d", filename=""),
        do("blockdev-add", driver="file", node_name="d", filename="json:{}"),
        do("blockdev-add", driver="file", node_name="d", filename="/dev/null"),
        do("blockdev-add", driver="file", node_name="e"),
    ],
    "add: modes": [
        add("a", "base.qcow2", auto_read_only=True),
        add("b", "empty.qcow2", read_only=True, auto_read_only=True),
        add("c", "mid.qcow2", cache={"direct": True}, read_only=True, force_share=True),
        add(
            "d", "top.qcow2", cache={"direct": True, "no-flush": True}, discard="unmap", backing="c"
        ),
        add("e", "a.img", "raw", discard="maybe"),
        add("e", "a.img", "raw", detect_zeroes="maybe"),
        add("e", "a.img", "raw", detect_zeroes="unmap", discard="ignore"),
        add("e", "a.img", "raw", cache={"writeback": True}),
    ],
    "add: modes of the file": [
        do(
            "blockdev-add",
            driver="raw",
            node_name="a",
            file=file("a.img", **{"read-only": True, "detect-zeroes": "on"}),
        ),
        do(
            "blockdev-add",
            driver="raw",
            node_name="b",
            read_only=True,
            file=file("empty.qcow2", **{"read-only": False, "discard": "unmap"}),
        ),
        do(
            "blockdev-add",
            driver="qcow2",
            node_name="c",
            file=file("base.qcow2", **{"read-only": True}),
        ),
        do(
            "blockdev-add",
            driver="qcow2",
            node_name="d",
            read_only=True,
            file=file("top.qcow2", cache={"no-flush": True}),
        ),
    ],
    "add: backing images that are wrong": [
        add("n0", "top.qcow2", backing="no"),
        add("n0", "top.qcow2", backing={"driver": "qcow2", "file": file("a.img")}),
        add("n0", "top.qcow2", backing={"driver": "qcow2", "file": file("no.img")}),
        add("n0", "top.qcow2", backing={"driver": "qcow2"}),
        add("n0", "a.img", "raw", backing=None),
        add("n0", "top.qcow2", backing=""),
    ],
    "add: a backing image that is written to": [
        add("b", "base.qcow2"),
        do("blockdev-add", driver="qcow2", node_name="w", file="b"),
        add("n0", "mid.qcow2", backing="b"),
        add("n1", "top.qcow2", backing="n0"),
    ],
    "add: refused in the middle": [
        do(
            "blockdev-add",
            driver="raw",
            node_name="r",
            offset=1 << 40,
            file=file("a.img", **{"node-name": "f"}),
        ),
        do("blockdev-add", driver="file", node_name="f", filename="a.img"),
    ],
    "add: mistakes in their order": [
        do("blockdev-add", driver="raw", node_name="r", file={"driver": "file"}),
        do("blockdev-add", driver="raw", node_name="r", file={}),
        do("blockdev-add", driver="raw", node_name="r", file=None),
        do("blockdev-add", driver="raw", node_name="r", file=[]),
        do("blockdev-add", driver="raw", node_name="r", file=file("a.img", colour="red")),
        do("blockdev-add", driver="raw", node_name="r", file=file("a.img"), a=1, b=2, c=3),
        do("blockdev-add", node_name="r", driver=None),
        do("blockdev-add", driver="null-co", node_name="r", size=1.5),
        do("blockdev-add", driver="null-co", node_name="r", cache={"direct": "on"}),
        do("blockdev-del", node_name=None),
        do("blockdev-del", node_name=["a"]),
        do("blockdev-del", node_name="a", force=True),
        {"execute": "blockdev-del", "arguments": []},
        {"execute": "blockdev-del", "arguments": {"node-name": "no"}, "id": [1, {"a": None}]},
        {"execute": "blockdev-del", "surplus": 1},
    ],
    "delete: who uses it": [
        add("b", "base.qcow2"),
        add("n0", "mid.qcow2", backing="b"),
        do("blockdev-del", node_name="b"),
        do("blockdev-add", driver="raw", node_name="u", file="n0"),
        do("blockdev-del", node_name="n0"),
        do("blockdev-del", node_name="u"),
        do("blockdev-del", node_name="n0"),
        do("blockdev-del", node_name="b"),
        do("blockdev-del", node_name="b"),
    ],
    "delete: what the monitor does not own": [
        do(
            "blockdev-add",
            driver="qcow2",
            node_name="n0",
            file=file("top.qcow2", **{"node-name": "f"}),
        ),
        do("blockdev-del", node_name="f"),
        do("blockdev-del", node_name="n0"),
    ],
    "delete: while a job runs": [
        add("n0", "top.qcow2"),
        do("block-stream", job_id="j", device="n0", speed=1),
        do("blockdev-del", node_name="n0"),
        do("job-cancel", id="j"),
        wait("j", "null"),
        do("blockdev-del", node_name="n0"),
    ],
    "questions": [
        do("query-version"),
        do("query-jobs", id="x"),
        do("query-block"),
        do("query-block", device="x"),
        do("query-named-block-nodes", flat=True),
        do("query-named-block-nodes", flat="on"),
        add("n0", "top.qcow2"),
        do("query-named-block-nodes", flat=True),
        do("query-named-block-nodes", flat=False),
        do("query-block"),
        do("query-version", verbose=True),
        do("no-such-request"),
        do("Query-Version"),
        do("query_version"),
    ],
}

SUCCEEDS: dict[str, str | Never] = {
    "blockdev-add": "add a chain",
    "blockdev-del": "delete",
    "query-block": "questions",
    "query-block-jobs": "add a chain",
    "query-commands": "interop/test_qmp_schema.py::test_the_commands_are_among_the_daemons",
    "query-jobs": "add a chain",
    "query-named-block-nodes": "questions",
    "query-qmp-schema": (
        "interop/test_qmp_schema.py::test_shared_commands_and_events_have_the_same_types"
    ),
    "query-version": "questions",
    "quit": "add a chain",
    "x-debug-query-block-graph": "add a chain",
}

NO_INTERVALS = Never("there are no statistics over intervals yet (docs/differences.md)")

REFUSALS: dict[str, dict[str, str | Never]] = {
    "blockdev-add": {
        "'node-name' must be specified for the root node": "add without a name",
    },
    "blockdev-del": {
        "Failed to find node with node-name='%'": "delete",
        "Node % is in use": "hmp: nodes in use",
        "Node '%' is busy: %": "delete: while a job runs",
        "Node % is not owned by the monitor": "delete: what the monitor does not own",
        "Block device % is in use": "delete: who uses it",
    },
    "x-blkmon-drive-add": {
        "'%' invalid % error action": "hmp: drives refused",
        "Invalid interval length: %": NO_INTERVALS,
        "The specification of stats-intervals is invalid": NO_INTERVALS,
        "invalid aio option": "hmp: drives refused by their options",
        "invalid cache option": "hmp: drives refused",
        "Cannot specify both 'driver' and 'format'": "hmp: drives refused",
        "'%' and its alias '%' can't be used at the same time": (
            "hmp: drives refused by their options"
        ),
        "'%' invalid media": "hmp: drives refused",
        "unsupported bus type '%'": "hmp: drives refused",
        "index cannot be used with bus and unit": "hmp: drives refused by their places",
        "unit % too big (max is %)": "hmp: drives refused by their places",
        "drive with bus=%, unit=% (index=%) exists": "hmp: drives refused by their places",
        "werror is not supported by this bus type": "hmp: drives refused by their places",
        "rerror is not supported by this bus type": "hmp: drives refused by their places",
    },
}

UNLOOKED = {"delete: while a job runs"}
"""Where QEMU has a filter node of the stream's that is not there in ours."""
