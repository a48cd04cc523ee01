"""Backups of one transaction, as qemu-storage-daemon has them: how they end, alone and together.

A conversation is a row of scenes on the same nodes. The disk ``n0`` is copied slowly, so that
its job is the one that the others wait for; ``n1`` at once; ``bad`` cannot be read. Each scene
ends with no job left, and with a look at bitmaps, jobs and the graph.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import tools
from tests.support.qmp_cases.transactions import act, transaction
from tests.support.qmp_cases.words import IMAGES, USER, Requests, add, do, wait
from tests.support.side_by_side import STATE, compare

SPOIL = "with open('bad.qcow2', 'r+b') as f: f.seek(0x70000); f.write(b'spoilt' * 20)"
MORE_IMAGES = [
    *IMAGES,
    ["qemu-img", "create", "-q", "-f", "qcow2", "other.qcow2", "1M"],
    ["qemu-img", "create", "-q", "-f", "qcow2", "bad.qcow2", "1M"],
    ["qemu-img", "create", "-q", "-f", "qcow2", "small.qcow2", "1M"],
    *[["qemu-img", "bitmap", "--add", f"{name}.qcow2", "m"] for name in ("top", "other", "bad")],
    ["qemu-io", "-f", "qcow2", "-c", "write -P 3 512k 4M", "top.qcow2"],
    ["qemu-io", "-f", "qcow2", "-c", "write -P 4 512k 64k", "other.qcow2"],
    ["qemu-io", "-f", "qcow2", "-c", "write -c -P 9 0 64k", "bad.qcow2"],
    [sys.executable, "-c", SPOIL],
]
"""What has been written since is dirty in a bitmap of each disk."""
NODES = [
    add("n0", "top.qcow2"),
    add("t0", "empty.qcow2"),
    add("n1", "other.qcow2"),
    add("t1", "small.qcow2"),
    add("bad", "bad.qcow2"),
]
MODES = ("on-success", "never", "always")
KINDS = ("blockdev-backup", "drive-backup")
J, K, B = "j", "k", "b"
SIDES = ("theirs", "ours")


def backup(kind: str, job: str, **options: Any) -> dict[str, Any]:
    """An action that copies ``n0``, ``n1`` or ``bad``, by the name of its job."""
    source, target = {J: ("n0", "t0"), K: ("n1", "t1"), B: ("bad", "t1")}[job]
    if kind == "drive-backup":
        target = f"{job}.img"
    options = {"job_id": job, "device": source, "target": target, "sync": "full", **options}
    return act(kind, **{"speed": 1 if job == J else 0, **options})


def together(*actions: dict[str, Any]) -> dict[str, Any]:
    return transaction(*actions, completion_mode="grouped")


def waits(*jobs: str, until: str = "null") -> Requests:
    return [wait(job, until) for job in jobs]


FULL_SPEED = do("block-job-set-speed", device=J, speed=0)
LOOK = list(STATE)


def cancel(job: str, **options: Any) -> dict[str, Any]:
    return do("block-job-cancel", device=job, **options)


def well(kind: str, begin: Any) -> Requests:
    """``k`` is over first; together it waits for ``j``."""
    both = begin(backup(kind, J), backup(kind, K))
    until = "waiting" if begin is together else "null"
    return [both, wait(K, until), FULL_SPEED, *waits(J, K), *LOOK]


def cancelled(kind: str, begin: Any) -> Requests:
    """Either one, while it runs or when it waits for the other; without and by force."""
    scenes: Requests = []
    for ending in (cancel(J), cancel(J, force=True), do("job-cancel", id=J)):
        scenes += [begin(backup(kind, J), backup(kind, K)), wait(K, "waiting"), ending]
        scenes += [*waits(J, K), *LOOK]
    if begin is together:
        both = begin(backup(kind, J), backup(kind, K))
        for ending in (cancel(K), cancel(K, force=True), do("job-cancel", id=K)):
            scenes += [both, wait(K, "waiting"), ending, *waits(J, K), *LOOK]
    return scenes


def kept(kind: str, begin: Any) -> Requests:
    """Jobs that wait to be finalized, or dismissed, or both; one that does holds up the others."""
    wants = {"auto_finalize": False}
    stays = {"auto_dismiss": False}
    first = [begin(backup(kind, J, **wants), backup(kind, K, **stays))]
    first += [wait(K, "waiting" if begin is together else "concluded"), FULL_SPEED]
    first += [wait(J, "pending"), do("query-jobs")]
    finalize = [do("job-finalize", id=J), *waits(J), wait(K, "concluded"), *LOOK]
    dismiss = [do("job-dismiss", id=K), *waits(K), *LOOK]
    return [*first, *finalize, *dismiss]


def kept_and_dropped(kind: str, begin: Any) -> Requests:
    """Pending all of them, one of them is cancelled, or finalized by the other's name."""
    wants = {"auto_finalize": False}
    scenes: Requests = []
    for ending in (cancel(J), cancel(K, force=True), do("job-cancel", id=K)):
        scenes += [begin(backup(kind, J, **wants), backup(kind, K)), wait(K, "waiting")]
        scenes += [FULL_SPEED, wait(J, "pending"), do("query-jobs"), ending, *waits(J, K), *LOOK]
    scenes += [begin(backup(kind, J), backup(kind, K, **wants)), wait(K, "waiting"), FULL_SPEED]
    scenes += [wait(J, "pending"), do("query-jobs"), do("job-finalize", id=K), *waits(J, K), *LOOK]
    return scenes


def failing(kind: str, begin: Any) -> Requests:
    stays = {"auto_dismiss": False}
    scenes: Requests = [begin(backup(kind, J, **stays), backup(kind, B, **stays))]
    if begin is together:
        scenes += waits(J, B, until="concluded")  # how far j came is a matter of time
    else:
        scenes += [wait(B, "concluded"), FULL_SPEED, wait(J, "concluded"), do("query-jobs")]
    return [*scenes, *[do("job-dismiss", id=job) for job in (J, B)], *LOOK]


def verbs_on_one_that_waits(kind: str, begin: Any) -> Requests:
    """A job whose run is over waits for the others of its group: each verb, in both languages."""
    scenes: Requests = [begin(backup(kind, J), backup(kind, K)), wait(K, "waiting")]
    for name in ("pause", "resume", "complete", "finalize", "dismiss"):
        name_of = "id" if name in ("finalize", "dismiss") else "device"
        scenes += [do(f"block-job-{name}", **{name_of: K}), do(f"job-{name}", id=K)]
    scenes += [do("block-job-set-speed", device=K, speed=speed) for speed in (-1, 1)]
    return [*scenes, FULL_SPEED, *waits(J, K), *LOOK]


SCENES = {
    "alone": (transaction, [well, kept, failing]),
    "together": (together, [well, cancelled, kept, failing]),
    "together, pending": (together, [kept_and_dropped, verbs_on_one_that_waits]),
}


@pytest.mark.parametrize(
    ("kind", "what"), [*((KINDS[0], what) for what in SCENES), (KINDS[1], "together")]
)
def test_ends(tmp_path: Path, what: str, kind: str) -> None:
    begin, scenes = SCENES[what]
    requests = [request for scene in scenes for request in scene(kind, begin)]
    session = compare(tmp_path, MORE_IMAGES, [*NODES, *requests], state=())
    told = [event["event"] for event in session.events]
    assert "BLOCK_JOB_COMPLETED" in told
    assert ("BLOCK_JOB_CANCELLED" in told) == (begin is together)
    refused = [reply["error"]["desc"] for _, reply in session.exchanges if "error" in reply]
    assert bool(refused) == (what == "together, pending")
    assert all("in state 'waiting' cannot accept" in text for text in refused if f"'{K}'" in text)


def with_bitmaps(kind: str, mode: str) -> Requests:
    """Both bitmaps when one job is cancelled, when one fails, when all had ended well but for the
    last change, and when all ends well."""
    bitmap: dict[str, Any] = {"sync": "bitmap", "bitmap": "m", "bitmap_mode": mode}
    merged = {"node": "n0", "target": "m", "bitmaps": ["all"]}
    dirty_again = do("block-dirty-bitmap-merge", **merged)  # else j would be as quick as k
    # How much a cancelled job has done, so that its bitmap always tells, is a matter of time.
    unsure = [dirty_again] if mode == "always" else []
    first, second, bad = (backup(kind, job, **bitmap) for job in (J, K, B))
    scenes = [do("block-dirty-bitmap-add", node="n0", name="all", disabled=True)]
    scenes += [do("block-dirty-bitmap-merge", node="n0", target="all", bitmaps=["m"])]
    scenes += [together(first, second), wait(K, "waiting"), cancel(J), *waits(J, K)]
    scenes += [*unsure, *LOOK, together(first, bad), *waits(J, B), *unsure, *LOOK]
    pending = together(backup(kind, J, auto_finalize=False, **bitmap), second)
    for ending in (cancel(J, force=True), do("job-finalize", id=J)):
        scenes += [dirty_again, pending, wait(K, "waiting"), FULL_SPEED, wait(J, "pending")]
        scenes += [do("query-named-block-nodes"), ending, *waits(J, K), *LOOK]
    return scenes


@pytest.mark.parametrize(
    ("kind", "mode"), [*((KINDS[0], mode) for mode in MODES), (KINDS[1], "always")]
)
def test_bitmaps(tmp_path: Path, mode: str, kind: str) -> None:
    """While jobs run and afterwards, and what is kept of them in the images."""
    compare(tmp_path, MORE_IMAGES, [*NODES, *with_bitmaps(kind, mode)], state=())
    for name in ("top", "other", "bad"):
        theirs, ours = (tmp_path / side / f"{name}.qcow2" for side in SIDES)
        facts = [tools.run("qemu-img", "info", "--output=json", image) for image in (theirs, ours)]
        kept = [json.loads(fact)["format-specific"]["data"]["bitmaps"] for fact in facts]
        assert kept[0] == kept[1]
        if name != "bad":
            tools.run("qemu-img", "check", "-q", ours)


REFUSED: Requests = [
    transaction(backup("blockdev-backup", J), backup("blockdev-backup", J)),
    transaction(backup("blockdev-backup", J), backup("blockdev-backup", K, device="n0")),
    transaction(backup("blockdev-backup", J), backup("blockdev-backup", K, target="t0")),
    transaction(backup("blockdev-backup", J), backup("blockdev-backup", K, job_id=J)),
    transaction(backup("blockdev-backup", J), backup("blockdev-backup", K, target="no")),
    transaction(backup("blockdev-backup", J), backup("blockdev-backup", K, speed=-1)),
    transaction(backup("blockdev-backup", J), backup("drive-backup", K, device="no")),
    transaction(backup("drive-backup", J), backup("drive-backup", K, target="no/where")),
    transaction(backup("drive-backup", J), act("abort")),
    together(backup("drive-backup", J), act("abort")),
    together(backup("drive-backup", J), act("block-dirty-bitmap-clear", node="n1", name="m")),
    transaction(
        backup("blockdev-backup", J, sync="bitmap", bitmap="m", bitmap_mode="on-success"),
        act("block-dirty-bitmap-clear", node="n0", name="m"),
    ),
    transaction(
        act("block-dirty-bitmap-clear", node="n0", name="m"),
        backup("blockdev-backup", J, sync="incremental", bitmap="m"),
        backup("blockdev-backup", K, sync="incremental", bitmap="no"),
    ),
    transaction(act("block-dirty-bitmap-clear", node="n0", name="m"), act("abort")),
    *[
        transaction(act(kind, job_id="m", device="n0", **more), **completion)
        for kind, more in (
            ("blockdev-mirror", {"target": "t0", "sync": "full"}),
            ("drive-mirror", {"target": "m.img", "sync": "full"}),
            ("block-commit", {}),
            ("block-stream", {}),
        )
        for completion in ({}, {"completion_mode": "grouped"})
    ],
]
"""None of them leaves a job, a filter, a busy bitmap or a bit of one changed."""

TAKEN: Requests = [
    transaction(
        act("block-dirty-bitmap-add", node="n1", name="since", persistent=True),
        act("block-dirty-bitmap-clear", node="n1", name="m"),
        backup("blockdev-backup", K),
    ),
    wait(K, "null"),
    transaction(
        backup("blockdev-backup", K, sync="incremental", bitmap="m"),
        act("block-dirty-bitmap-add", node="n1", name="later", disabled=True),
    ),
    wait(K, "null"),
    transaction(
        act(
            "blockdev-snapshot-sync",
            node_name="n0",
            snapshot_node_name="o",
            snapshot_file="o.qcow2",
        ),
        backup("drive-backup", J, device="n0", speed=0),
    ),
    wait(J, "null"),
]


def test_what_is_taken_and_what_is_not(tmp_path: Path) -> None:
    requests = [*NODES, USER]
    for request in [*REFUSED, *TAKEN]:
        requests += [request] if "wait" not in request else [request, *LOOK]
        requests += LOOK if request in REFUSED else []
    session = compare(tmp_path, MORE_IMAGES, requests, state=())
    replies = [reply for request, reply in session.exchanges if request in REFUSED]
    assert len(replies) == len(REFUSED)
    assert all("error" in reply for reply in replies)
    sides = [sorted(path.name for path in (tmp_path / side).iterdir()) for side in SIDES]
    assert sides[0] == sides[1]
