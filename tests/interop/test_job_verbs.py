"""Every verb in every state of every type of block job, as qemu-storage-daemon answers.

A type's life is one conversation: in each state that it comes to, all verbs are tried that leave it
there, then the one that leads on. Another drops it from each state, softly and by force, and begins
anew. The state that only a job of a group waits in is in ``test_job_groups.py``; what no client can
reach (created, aborting) the table of ``unit/jobs/test_state.py`` tells.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.qmp_cases.words import IMAGES, Requests, add, do, wait
from tests.support.side_by_side import compare

OLD = {"cancel", "pause", "resume", "complete"}
"""Verbs on block jobs that call the job ``device``."""

NODES = [
    add("low", "base.qcow2"),
    add("middle", "mid.qcow2", backing="low"),
    add("n0", "top.qcow2", backing="middle"),
    add("t0", "empty.qcow2"),
]

BEGIN: dict[str, dict[str, Any]] = {
    "stream": do("block-stream", job_id="j", device="n0"),
    "commit": do("block-commit", job_id="j", device="n0", top_node="middle"),
    "active commit": do("block-commit", job_id="j", device="n0"),
    "mirror": do("blockdev-mirror", job_id="j", device="n0", target="t0", sync="full"),
    "backup": do("blockdev-backup", job_id="j", device="n0", target="t0", sync="full"),
}
READY = {"active commit", "mirror"}
"""Types that wait to be completed."""


def begin(job: str, **options: Any) -> dict[str, Any]:
    request = BEGIN[job]
    arguments = {"auto-finalize": False, "auto-dismiss": False, **options}
    return {"execute": request["execute"], "arguments": request["arguments"] | arguments}


def verb(name: str, **options: Any) -> Requests:
    """A verb in both languages."""
    old = {"device": "j"} if name in OLD else {"id": "j"}
    return [do(f"block-job-{name}", **old, **options), do(f"job-{name}", id="j")]


def old(name: str, **options: Any) -> dict[str, Any]:
    return verb(name, **options)[0]


def tries(*names: str) -> Requests:
    speeds = [do("block-job-set-speed", device="j", speed=speed) for speed in (-1, 1)]
    return [request for name in names for request in verb(name)] + speeds


def go(name: str, state: str) -> Requests:
    """A verb that leads on, and once more where it has led to."""
    first, again = verb(name)
    return [first, wait("j", state), again]


def life(job: str) -> Requests:
    requests: Requests = [begin(job, speed=1)]
    requests += tries("resume", "complete", "finalize", "dismiss")
    requests += go("pause", "paused")
    requests += tries("pause", "complete", "finalize", "dismiss")
    requests += [old("cancel")]
    full_speed = do("block-job-set-speed", device="j", speed=0)
    if job not in READY:
        requests += [*go("resume", "running"), full_speed]
    else:
        requests += [full_speed, old("resume"), wait("j", "ready")]  # it may be ready at once
        requests += tries("resume", "finalize", "dismiss")
        requests += go("pause", "standby")
        requests += tries("pause", "finalize", "dismiss")
        requests += [old("cancel")]
        requests += go("resume", "ready")
        requests += [do("block-job-set-speed", device="j", speed=0)]
        requests += [old("complete")]
    requests.append(wait("j", "pending"))
    requests += tries("pause", "resume", "complete", "dismiss")
    requests += [do("job-finalize", id="j"), wait("j", "concluded")]
    requests += tries("cancel", "pause", "resume", "complete", "finalize")
    requests += [do("query-jobs"), do("query-block-jobs")]
    requests += verb("dismiss")
    requests += tries("cancel", "pause", "resume", "complete", "finalize")
    return requests


@pytest.mark.parametrize("job", BEGIN)
def test_a_life(tmp_path: Path, job: str) -> None:
    session = compare(tmp_path, IMAGES, [*NODES, *life(job)], state=())
    said = [reply["error"]["desc"] for _, reply in session.exchanges if "error" in reply]
    states = ["running", "paused", "pending", "concluded"]
    for state in states + ["ready", "standby"] * (job in READY):
        assert any(f"in state '{state}' cannot accept" in text for text in said), state


def drops(job: str) -> Requests:
    """Cancelled in each state in each way, and begun anew."""
    running = [begin(job, speed=1)]
    paused = [*running, *go("pause", "paused")]
    ready = [begin(job), wait("j", "ready")]
    standby = [*ready, *go("pause", "standby")]
    pending = [begin(job), wait("j", "pending")]
    soft, force, new = old("cancel"), old("cancel", force=True), do("job-cancel", id="j")
    ends: list[Requests] = [
        [*running, soft],
        [*running, force],
        [*running, new],
        [*paused, soft, force],
        [*paused, new],
    ]
    if job in READY:
        ends += [[*ready, force], [*ready, new], [*standby, soft, force], [*standby, new]]
    else:
        ends += [[*pending, soft], [*pending, force], [*pending, new]]
    over: Requests = [wait("j", "concluded"), do("job-dismiss", id="j")]
    return [request for end in ends for request in [*end, *over]]


@pytest.mark.parametrize("job", BEGIN)
def test_dropped(tmp_path: Path, job: str) -> None:
    compare(tmp_path, IMAGES, [*NODES, *drops(job)], state=())


@pytest.mark.parametrize("job", sorted(READY))
def test_completed_while_it_stands_by(tmp_path: Path, job: str) -> None:
    """It is completed when it is resumed."""
    requests = [begin(job), wait("j", "ready"), *go("pause", "standby"), *verb("complete")]
    requests += [old("resume"), wait("j", "pending"), *verb("complete")]
    requests += [do("job-finalize", id="j"), wait("j", "concluded"), do("job-dismiss", id="j")]
    compare(tmp_path, IMAGES, [*NODES, *requests], state=())


@pytest.mark.parametrize("job", sorted(READY))
def test_a_ready_one_that_is_cancelled_ends_well(tmp_path: Path, job: str) -> None:
    requests = [begin(job), wait("j", "ready"), old("cancel"), wait("j", "pending")]
    requests += [*tries("pause", "resume", "complete", "dismiss"), do("job-finalize", id="j")]
    requests += [wait("j", "concluded"), do("query-jobs"), do("job-dismiss", id="j")]
    compare(tmp_path, IMAGES, [*NODES, *requests], state=())
