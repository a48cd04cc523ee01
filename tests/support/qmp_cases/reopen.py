"""blockdev-reopen and x-blockdev-change: nodes that are open given other options or children."""

from __future__ import annotations

from typing import Any

from tests.support.qmp_cases import Never
from tests.support.qmp_cases.words import Requests, add, do, file, wait


def reopen(*options: dict[str, Any]) -> dict[str, Any]:
    return do("blockdev-reopen", options=list(options))


def top(**options: Any) -> dict[str, Any]:
    """Options of ``n0``, which is top.qcow2."""
    return _of("qcow2", "n0", {"file": file("top.qcow2"), **options})


def raw(**options: Any) -> dict[str, Any]:
    """Options of ``r``, which is a.img."""
    return _of("raw", "r", {"file": file("a.img"), **options})


def null(**options: Any) -> dict[str, Any]:
    """Options of ``z``, a null-co that was added with two."""
    return _of("null-co", "z", {"size": 65536, "read-zeroes": True, **options})


def _of(driver: str, name: str, options: dict[str, Any]) -> dict[str, Any]:
    spelt = {key.replace("_", "-"): value for key, value in options.items()}
    return {"driver": driver, "node-name": name, **spelt}


ADD_NULL = do("blockdev-add", driver="null-co", node_name="z", size=65536, read_zeroes=True)
ADD_TOP = add("n0", "top.qcow2")
ADD_RAW = add("r", "a.img", "raw")
NO_SIZE = {"driver": "null-co", "node-name": "z"}
MID = {"driver": "qcow2", "file": file("mid.qcow2")}

CASES: dict[str, Requests] = {
    "reopen: what is no list of options": [
        do("blockdev-reopen"),
        do("blockdev-reopen", options=5),
        do("blockdev-reopen", options=[5]),
        do("blockdev-reopen", options=[{}]),
        do("blockdev-reopen", options=[{"driver": "nope"}]),
        do("blockdev-reopen", options=[null(), {"driver": "null-co", "size": "x"}]),
        do("blockdev-reopen", options=[null()], force=True),
    ],
    "reopen: which node": [
        ADD_TOP,
        reopen({"driver": "qcow2", "file": "x"}),
        reopen({"driver": "null-co", "node-name": "no"}),
        reopen(top(backing=None, read_only=True), {"driver": "null-co", "node-name": "no"}),
        reopen(top(backing=None, read_only=True), {"driver": "null-co"}),
    ],
    "reopen: modes": [
        ADD_TOP,
        reopen(top(backing=None, read_only=True)),
        reopen(top(backing=None)),
        reopen(top(backing=None, cache={"no-flush": True})),
        reopen(top(backing=None, cache={"direct": True})),
        reopen(top(backing=None, auto_read_only=True)),
        reopen(top(backing=None, auto_read_only=True, read_only=True)),
        reopen(top(backing=None)),
    ],
    "reopen: discard and zeroes": [
        ADD_TOP,
        reopen(top(backing=None, detect_zeroes="unmap")),
        reopen(top(backing=None, detect_zeroes="on")),
        reopen(top(backing=None, detect_zeroes="unmap", discard="unmap")),
        reopen(top(backing=None, detect_zeroes="unmap")),
        reopen(top(backing=None, detect_zeroes="unmap", discard="ignore")),
        reopen(top(backing=None, discard="ignore")),
    ],
    "reopen: qcow2's own options": [
        ADD_TOP,
        reopen(top(backing=None, lazy_refcounts=True, pass_discard_request=True)),
        reopen(top(backing=None, cache_size=1 << 20, l2_cache_entry_size=4096)),
        reopen(top(backing=None, cache_size=1 << 20, l2_cache_size=2 << 20)),
        reopen(top(backing=None, l2_cache_entry_size=100)),
        reopen(top(backing=None, cache_clean_interval=5, overlap_check="all")),
        reopen(top(backing=None, overlap_check={"template": "none", "main-header": True})),
        reopen(top(backing=None)),
    ],
    "reopen: lazy refcounts of an old image": [
        do(
            "blockdev-create",
            job_id="c",
            options={"driver": "file", "filename": "old.qcow2", "size": 0},
        ),
        wait("c", "concluded"),
        do("job-dismiss", id="c"),
        do("blockdev-add", driver="file", node_name="f", filename="old.qcow2"),
        do(
            "blockdev-create",
            job_id="d",
            options={"driver": "qcow2", "file": "f", "size": 1 << 20, "version": "v2"},
        ),
        wait("d", "concluded"),
        do("job-dismiss", id="d"),
        do("blockdev-add", driver="qcow2", node_name="o", file="f"),
        reopen({"driver": "qcow2", "node-name": "o", "file": "f", "lazy-refcounts": True}),
        reopen({"driver": "qcow2", "node-name": "o", "file": "f"}),
    ],
    "reopen: options that stay": [
        ADD_NULL,
        reopen(NO_SIZE),
        reopen({**NO_SIZE, "size": 65536}),
        reopen({**NO_SIZE, "read-zeroes": True}),
        reopen(null()),
        reopen(null(size=1)),
        reopen(null(size=1, read_zeroes=False)),
        reopen(null(latency_ns=5)),
        reopen(null(force_share=False)),
        reopen(null(read_only=True)),
        reopen(null(read_only=True, force_share=True)),
        reopen(null() | {"driver": "null-aio"}),
        reopen({"driver": "file", "node-name": "z", "filename": "a.img"}),
    ],
    "reopen: force-share": [
        add("n0", "top.qcow2", read_only=True, force_share=True),
        reopen(top(backing=None, read_only=True)),
        reopen(top(backing=None, read_only=True, force_share=True)),
        reopen(top(backing=None, force_share=True)),
    ],
    "reopen: another driver": [
        ADD_TOP,
        ADD_RAW,
        reopen({"driver": "raw", "node-name": "n0", "file": file("top.qcow2")}),
        reopen({"driver": "qcow2", "node-name": "r", "file": file("a.img")}),
        reopen({"driver": "qcow2", "node-name": "r", "file": file("a.img"), "backing": None}),
        reopen({"driver": "qcow2", "node-name": "r", "file": file("a.img"), "backing": "n0"}),
        reopen({"driver": "null-co", "node-name": "r"}),
    ],
    "reopen: the file's options": [
        ADD_RAW,
        ADD_TOP,
        reopen(raw(file=file("a.img", read_only=True))),
        reopen(raw(file=file("a.img", locking="off"))),
        reopen(raw(file=file("a.img", aio="threads"))),
        reopen(raw(file=file("a.img", node_name="f"))),
        reopen(raw(file=file("mid.qcow2"))),
        reopen(raw(file={"driver": "null-co"})),
        reopen(top(file=file("mid.qcow2"), backing=None)),
    ],
    "reopen: a part of the file": [
        ADD_RAW,
        reopen(raw(offset=512, size=1024)),
        reopen(raw(offset=512, size=1 << 40)),
        reopen(raw(offset=1 << 40)),
        reopen(raw(size=100)),
        reopen(raw(offset=0)),
        reopen(raw()),
    ],
    "reopen: another file": [
        ADD_RAW,
        ADD_NULL,
        reopen(raw(file="z")),
        reopen(raw()),
        reopen(raw(file="no")),
        reopen(raw(file="z")),
        do("blockdev-del", node_name="z"),
        do("blockdev-add", driver="raw", node_name="u", file="r"),
        reopen(raw(file="u")),
        reopen(raw(file="r")),
        reopen({"driver": "raw", "node-name": "u", "file": {"driver": "null-co"}}),
        do("blockdev-del", node_name="r"),
        do("blockdev-del", node_name="u"),
        do("blockdev-del", node_name="r"),
        do("blockdev-del", node_name="z"),
    ],
    "reopen: the file that it has": [
        do("blockdev-add", driver="file", node_name="f", filename="top.qcow2"),
        do("blockdev-add", driver="qcow2", node_name="n0", file="f"),
        reopen(top(file="f", backing=None)),
        reopen(top(file="f", backing=None, read_only=True)),
        reopen({"driver": "file", "node-name": "f", "filename": "top.qcow2", "read-only": True}),
        reopen(top(file="f", backing=None)),
        reopen({"driver": "file", "node-name": "f", "filename": "top.qcow2"}),
        reopen(
            {"driver": "file", "node-name": "f", "filename": "top.qcow2"},
            top(file="f", backing=None),
        ),
    ],
    "reopen: the backing image has to be said": [
        ADD_TOP,
        reopen(top()),
        reopen(top(backing="no")),
        reopen(top(backing={**MID, "backing": {"driver": "qcow2", "file": file("base.qcow2")}})),
        reopen(top(backing=MID)),
        reopen(top(backing={**MID, "backing": None})),
        reopen(top(backing=None)),
        reopen(top()),
        reopen(top(backing=MID)),
    ],
    "reopen: another backing image": [
        add("b", "base.qcow2", read_only=True),
        ADD_TOP,
        ADD_NULL,
        reopen(top(backing="b")),
        do("blockdev-del", node_name="b"),
        reopen(top(backing="z")),
        do("blockdev-del", node_name="b"),
        reopen(top(backing=None)),
        do("blockdev-del", node_name="z"),
    ],
    "reopen: a backing image within its own chain": [
        add("n0", "top.qcow2", backing={**MID, "node-name": "m"}),
        reopen(top(backing="m")),
        reopen(top(backing="m", read_only=True)),
        reopen({"driver": "qcow2", "node-name": "m", "file": file("mid.qcow2"), "backing": None}),
        reopen(top(backing="m")),
    ],
    "reopen: loops": [
        ADD_TOP,
        reopen(top(backing="n0")),
        add("o", "empty.qcow2", backing="n0"),
        reopen(top(backing="o")),
        reopen(
            {"driver": "qcow2", "node-name": "o", "file": file("empty.qcow2"), "backing": None},
            top(backing="o"),
        ),
        reopen(
            top(backing=None),
            {"driver": "qcow2", "node-name": "o", "file": file("empty.qcow2"), "backing": "n0"},
        ),
    ],
    "reopen: read-only while it is written to": [
        ADD_TOP,
        do("blockdev-add", driver="raw", node_name="u", file="n0"),
        add("b", "empty.qcow2"),
        do("blockdev-add", driver="qcow2", node_name="w", file="b"),
        reopen(top(backing=None, read_only=True)),
        reopen(
            {"driver": "raw", "node-name": "u", "file": "n0", "read-only": True},
            top(backing=None, read_only=True),
        ),
        reopen({"driver": "raw", "node-name": "u", "file": "n0"}),
        reopen(
            top(backing=None),
            {"driver": "raw", "node-name": "u", "file": "n0"},
        ),
    ],
    "reopen: one refused, none changed": [
        ADD_TOP,
        ADD_RAW,
        ADD_NULL,
        reopen(top(backing=None, read_only=True), raw(offset=512), null(size=1)),
        reopen(top(backing=None, detect_zeroes="on"), raw(file="z"), null(latency_ns=1)),
        reopen(top(backing="z"), raw(file="z", offset=1 << 30)),
    ],
    "reopen: one node twice": [
        ADD_TOP,
        reopen(top(backing=None, read_only=True), top(backing=None)),
        reopen(top(backing=None, detect_zeroes="on"), top(read_only=True)),
    ],
    "reopen: options of a child that another opened": [
        add("b", "base.qcow2", read_only=True),
        add("n0", "mid.qcow2", backing="b"),
        reopen(
            _of(
                "qcow2",
                "n0",
                {
                    "file": file("mid.qcow2"),
                    "backing": {"driver": "qcow2", "file": file("base.qcow2")},
                },
            )
        ),
        reopen(_of("qcow2", "n0", {"file": file("mid.qcow2"), "backing": "b"})),
    ],
    "x-blockdev-change": [
        ADD_TOP,
        ADD_NULL,
        do("x-blockdev-change", parent="no", child="file"),
        do("x-blockdev-change", parent="n0", child="file", node="z"),
        do("x-blockdev-change", parent="n0"),
        do("x-blockdev-change", parent="n0", child="children.0"),
        do("x-blockdev-change", parent="n0", child="file"),
        do("x-blockdev-change", parent="n0", node="no"),
        do("x-blockdev-change", parent="n0", node="z"),
        do("x-blockdev-change", child="file"),
    ],
}

SUCCEEDS: dict[str, str | Never] = {
    "blockdev-reopen": "reopen: modes",
    "x-blockdev-change": Never("only quorum takes children in any number; there is no such driver"),
}

REFUSALS: dict[str, dict[str, str | Never]] = {
    "blockdev-reopen": {
        "node-name not specified": "reopen: which node",
        "Failed to find node with node-name='%'": "reopen: which node",
    },
    "x-blockdev-change": {
        "Cannot find device=% nor node-name=%": "x-blockdev-change",
        "Device '%' has no medium": Never("the daemon has no drives"),
        "The parameters child and node are in conflict": "x-blockdev-change",
        "Either child or node must be specified": "x-blockdev-change",
        "Node '%' does not have child '%'": "x-blockdev-change",
        "Node '%' not found": "x-blockdev-change",
    },
}
