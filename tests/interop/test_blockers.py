"""What is refused on a node while something else is done with it, as qemu-storage-daemon has it.

The table is (what goes on) x (which node) x (what is asked for); each of the first is one
conversation. What is not refused is undone, or equal on both sides afterwards.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support import tools
from tests.support.qmp_cases.words import IMAGES, Requests, add, do, wait
from tests.support.side_by_side import OURS, QSD, comparable, converse, difference, fill

MORE_IMAGES = [
    ["qemu-img", "create", "-q", "-f", "qcow2", name, "8M"] for name in ("spare.qcow2", "o.qcow2")
]
NODES: Requests = [
    add("low", "base.qcow2"),
    add("middle", "mid.qcow2", backing="low"),
    add("n0", "top.qcow2", backing="middle"),
    add("t0", "empty.qcow2"),
    add("spare", "spare.qcow2"),
    do("blockdev-add", driver="null-co", node_name="sink", size=8 << 20),
]
DROP = do("job-cancel", id="k")
"""Whether a short job is there yet is a matter of time."""
KEPT = {"job_id": "j", "filter_node_name": "f"}


def begin(command: str, **arguments: Any) -> Requests:
    """Paused, since each drained section lets a throttled job of QEMU's go on a bit."""
    begun = do(command, device="n0", speed=1, **KEPT, **arguments)
    return [begun, do("job-pause", id="j"), wait("j", "paused")]


NAMES = ("n0", "middle", "low", "t0", "f")

GOES_ON: dict[str, Requests] = {
    "nothing": [],
    "stream": begin("block-stream"),
    "stream to a base": begin("block-stream", base_node="low"),
    "commit": begin("block-commit", top_node="middle"),
    "active commit": begin("block-commit"),
    "ready": [do("block-commit", device="n0", base_node="middle", **KEPT), wait("j", "ready")],
    "mirror": begin("blockdev-mirror", target="t0", sync="full"),
    "backup": begin("blockdev-backup", target="t0", sync="full"),
}


def tried(job: dict[str, Any]) -> Requests:
    """Begins a job and, where that was taken, drops it again."""
    gone = wait("k", "null") | {"unless-refused": True}
    return [job, DROP, gone]


def asked(node: str) -> Requests:
    """Each kind of operation, on ``node``."""
    requests: Requests = []
    for job in (
        do("blockdev-backup", job_id="k", device=node, target="sink", sync="none"),
        do("blockdev-backup", job_id="k", device="spare", target=node, sync="none"),
        do("blockdev-mirror", job_id="k", device=node, target="sink", sync="none", speed=1),
        do("blockdev-mirror", job_id="k", device="spare", target=node, sync="none", speed=1),
        do("block-commit", job_id="k", device=node, speed=1),
        do("block-commit", job_id="k", device="n0", base_node=node, speed=1),
        do("block-stream", job_id="k", device=node, speed=1),
        do("block-stream", job_id="k", device="n0", base_node=node, speed=1),
    ):
        requests += tried(job)
    requests += [
        do("block_resize", node_name=node, size=8 << 20),
        do("change-backing-file", device=node, image_node_name=node, backing_file="b"),
        do("blockdev-snapshot-internal-sync", device=node, name="s"),
        do("blockdev-snapshot-delete-internal-sync", device=node, name="s"),
        do("blockdev-snapshot", node=node, overlay="sink"),
    ]
    return requests


@pytest.mark.parametrize("what", GOES_ON)
def test_what_is_refused(tmp_path: Path, what: str) -> None:
    tools.need("qemu-storage-daemon", "qemu-img", "qemu-io")
    requests = [*NODES, *GOES_ON[what]]
    for node in NAMES:
        requests += asked(node)
    requests += [do("blockdev-del", node_name=node) for node in NAMES]
    sessions = []
    for side, command in (("theirs", QSD), ("ours", OURS)):
        folder = fill(tmp_path / side, [*IMAGES, *MORE_IMAGES])
        sessions.append(converse(command, folder, requests))
    theirs, ours = sessions
    differences = [
        difference(request, our, their)
        for (request, our), their in zip(ours.exchanges, theirs.replies, strict=True)
        if comparable(our) != comparable(their) and request != DROP
    ]
    assert not differences, "\n".join(differences)
