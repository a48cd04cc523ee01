"""Transactions, and snapshots kept in the image itself."""

from __future__ import annotations

from typing import Any

from tests.support.qmp_cases import Never
from tests.support.qmp_cases.words import USER, Requests, add, do


def act(kind: str, **data: Any) -> dict[str, Any]:
    """An action; an underscore in the name of a member is a dash."""
    return {"type": kind, "data": do(kind, **data)["arguments"]}


def transaction(*actions: dict[str, Any], **properties: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {"actions": list(actions)}
    if properties:
        arguments["properties"] = do("", **properties)["arguments"]
    return {"execute": "transaction", "arguments": arguments}


def overlay(node: str, name: str, **more: Any) -> dict[str, Any]:
    return act(
        "blockdev-snapshot-sync",
        node_name=node,
        snapshot_node_name=name,
        snapshot_file=f"{name}.qcow2",
        **more,
    )


def internal(device: str, name: str) -> dict[str, Any]:
    return do("blockdev-snapshot-internal-sync", device=device, name=name)


def delete(device: str, **what: str) -> dict[str, Any]:
    return do("blockdev-snapshot-delete-internal-sync", device=device, **what)


ABORT = act("abort")
KEPT = act("blockdev-snapshot-internal-sync", device="n1", name="kept")
N0 = add("n0", "base.qcow2")
N1 = add("n1", "empty.qcow2")
BUSY = "interop/test_transactions.py::test_a_node_at_work_is_busy"

CASES: dict[str, Requests] = {
    "transaction": [
        N0,
        N1,
        USER,
        transaction(),
        transaction(KEPT, overlay("n0", "s0")),
        transaction(act("blockdev-snapshot", node="n1", overlay="n1")),
        delete("n1", name="kept"),
        transaction(overlay("s0", "s1"), KEPT, overlay("n1", "s2")),
    ],
    "transaction undone": [
        N0,
        N1,
        USER,
        transaction(ABORT),
        transaction(KEPT, ABORT),
        transaction(KEPT, KEPT),
        transaction(overlay("n0", "s0"), ABORT),
        transaction(overlay("n0", "s1"), overlay("n1", "s1")),
        transaction(overlay("n1", "s2"), overlay("n0", "s3"), ABORT),
        transaction(overlay("n1", "s4", mode="existing")),
        transaction(KEPT),
    ],
    "transaction, overlays that are there": [
        N0,
        N1,
        USER,
        add("ov", "mid.qcow2", backing=None),
        add("r", "a.img", "raw"),
        transaction(act("blockdev-snapshot", node="n0", overlay="ov"), ABORT),
        transaction(
            act("blockdev-snapshot", node="n0", overlay="ov"),
            act("blockdev-snapshot", node="ov", overlay="r"),
        ),
        transaction(act("blockdev-snapshot", node="n0", overlay="ov"), KEPT),
        transaction(act("blockdev-snapshot", node="n0", overlay="ov")),
    ],
    "transaction mistakes": [
        N0,
        N1,
        do("transaction"),
        do("transaction", actions={}),
        do("transaction", actions=[1]),
        do("transaction", actions=[{"data": {}}]),
        transaction({"type": "abort"}),
        transaction({"type": "nope", "data": {}}),
        transaction(act("abort", more=1)),
        transaction(ABORT | {"more": 1}),
        transaction(ABORT, act("blockdev-snapshot", node="n0")),
        transaction(ABORT, act("blockdev-snapshot", node=1, overlay="x")),
        transaction(completion_mode="nope"),
        transaction(completion_mode=None),
        transaction(nope=1),
        transaction(KEPT, completion_mode="grouped"),
        transaction(overlay("n0", "s0"), completion_mode="grouped"),
        transaction(act("blockdev-snapshot", node="no", overlay="no"), completion_mode="grouped"),
        transaction(ABORT, KEPT, completion_mode="grouped"),
        transaction(KEPT, completion_mode="individual"),
        transaction(completion_mode="grouped"),
    ],
    "internal snapshots": [
        N0,
        internal("n0", "one"),
        internal("n0", "two"),
        internal("n0", "x" * 300),
        delete("n0", name="one"),
        internal("n0", "three"),
        delete("n0", id="2"),
        delete("n0", id="4", name="three"),
    ],
    "internal snapshot refusals": [
        N0,
        add("ro", "empty.qcow2", read_only=True),
        add("r", "a.img", "raw"),
        add("up", "top.qcow2", backing="n0"),
        internal("no", "a"),
        internal("n0", "a"),
        internal("ro", "a"),
        internal("r", "a"),
        internal("up", ""),
        internal("up", "a"),
        internal("up", "a"),
        delete("no", id="1"),
        delete("n0", id="1"),
        delete("up"),
        delete("up", id="7"),
        delete("up", name="b"),
        delete("up", id="1", name="b"),
        delete("ro", id="1"),
        delete("r", id="1"),
        do("blockdev-snapshot-internal-sync", device="up"),
        do("blockdev-snapshot-internal-sync", device="up", name=1),
        do("blockdev-snapshot-delete-internal-sync", id="1"),
    ],
    "internal snapshots of narrow refcounts": [
        N1,
        do("blockdev-add", driver="null-co", node_name="null"),
        do("blockdev-add", driver="file", filename="narrow.qcow2", node_name="f"),
        do("blockdev-add", driver="qcow2", file="f", node_name="narrow"),
        internal("narrow", "a"),
        transaction(KEPT, act("blockdev-snapshot-internal-sync", device="narrow", name="a")),
        internal("null", "a"),
    ],
}

JOBS = "interop/test_internal_snapshots.py::test_the_jobs_are_qemus"

SUCCEEDS = {
    "transaction": "transaction",
    "blockdev-snapshot-internal-sync": "internal snapshots",
    "blockdev-snapshot-delete-internal-sync": "internal snapshots",
    "snapshot-save": JOBS,
    "snapshot-load": JOBS,
    "snapshot-delete": JOBS,
}

REFUSALS: dict[str, dict[str, str | Never]] = {
    "transaction": {
        "Action '%' does not support Transaction property completion-mode = %": (
            "transaction mistakes"
        ),
        "Transaction aborted using Abort action": "transaction undone",
    },
    "blockdev-snapshot-internal-sync": {
        "Cannot find device=% nor node-name=%": "internal snapshot refusals",
        "Device '%' has no medium": Never("qemu-storage-daemon has no drives"),
        "Need a root block node": "internal snapshot refusals",
        "Node '%' is busy: %": BUSY,
        "Device '%' is read only": "internal snapshot refusals",
        "Block format '%' used by device '%' does not support internal snapshots": (
            "internal snapshot refusals"
        ),
        "Name is empty": "internal snapshot refusals",
        "Snapshot with name '%' already exists on device '%'": "internal snapshot refusals",
        "Failed to create snapshot '%' on device '%': %": "internal snapshots of narrow refcounts",
    },
    "blockdev-snapshot-delete-internal-sync": {
        "Cannot find device=% nor node-name=%": "internal snapshot refusals",
        "Device '%' has no medium": Never("qemu-storage-daemon has no drives"),
        "Need a root block node": "internal snapshot refusals",
        "Name or id must be provided": "internal snapshot refusals",
        "Node '%' is busy: %": BUSY,
        "Snapshot with id '%' and name '%' does not exist on device '%'": (
            "internal snapshot refusals"
        ),
    },
}
