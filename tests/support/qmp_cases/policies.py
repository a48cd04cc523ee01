"""One request of a job's fails once: what is told of it, by each policy, for each type of job.

The disk is one cluster, so that how far a job is when it fails, or stands still, is no matter of
time.
"""

from __future__ import annotations

import errno
from typing import Any, Final

from tests.support.qmp_cases.words import Requests, add, do, wait


def failing(name: str, filename: str, event: str, code: int, **options: Any) -> dict[str, Any]:
    """``blockdev-add`` of an image whose first request after ``event`` fails."""
    rule = {"event": event, "once": True, "immediately": True, "errno": code}
    image = {"driver": "file", "filename": filename}
    file = {"driver": "blkdebug", "image": image, "inject-error": [rule]}
    return do("blockdev-add", driver="qcow2", node_name=name, file=file, **options)


def stream(policy: str, code: int) -> Requests:
    return [
        failing("low", "cluster.qcow2", "read_aio", code),
        add("n0", "over.qcow2", backing="low"),
        do("block-stream", job_id="j", device="n0", on_error=policy),
    ]


def commit(policy: str, code: int) -> Requests:
    return [
        add("low", "blank.qcow2"),
        failing("middle", "cluster.qcow2", "read_aio", code, backing="low"),
        add("n0", "over.qcow2", backing="middle"),
        do("block-commit", job_id="j", device="n0", top_node="middle", on_error=policy),
    ]


def active_commit(policy: str, code: int) -> Requests:
    return [
        failing("low", "blank.qcow2", "write_aio", code),
        add("n0", "cluster.qcow2", backing="low"),
        do("block-commit", job_id="j", device="n0", on_error=policy),
    ]


def reading(command: str, policy: str, code: int) -> Requests:
    return [
        failing("n0", "cluster.qcow2", "read_aio", code),
        add("t0", "blank.qcow2"),
        do(command, job_id="j", device="n0", target="t0", sync="full", on_source_error=policy),
    ]


def writing(command: str, policy: str, code: int) -> Requests:
    return [
        add("n0", "cluster.qcow2"),
        failing("t0", "blank.qcow2", "write_aio", code),
        do(command, job_id="j", device="n0", target="t0", sync="full", on_target_error=policy),
    ]


def beginnings(policy: str, code: int) -> dict[str, Requests]:
    return {
        "stream": stream(policy, code),
        "commit": commit(policy, code),
        "active commit": active_commit(policy, code),
        "backup, reading": reading("blockdev-backup", policy, code),
        "backup, writing": writing("blockdev-backup", policy, code),
        "mirror, reading": reading("blockdev-mirror", policy, code),
        "mirror, writing": writing("blockdev-mirror", policy, code),
    }


STANDS: Final = [
    wait("j", "paused"),
    do("query-block-jobs"),
    do("block-job-complete", device="j"),
    do("block-job-cancel", device="j"),
    do("block-job-resume", device="j"),
]
"""A job that an error has stopped, as if the user had paused it."""


def case(job: str, begun: Requests, policy: str, code: int) -> Requests:
    stops = policy == "stop" or (code == errno.ENOSPC and policy in ("enospc", "auto"))
    requests = [*begun, *(STANDS if stops else [])]
    if ("mirror" in job or "active" in job) and (stops or policy == "ignore"):
        requests += [wait("j", "ready"), do("block-job-cancel", device="j")]
    return [*requests, wait("j", "null"), do("query-jobs")]


def cases() -> dict[str, Requests]:
    return {
        f"a failure: {job}, {policy}, {errno.errorcode[code]}": case(job, begun, policy, code)
        for policy, codes in (
            ("report", [errno.EIO]),
            ("ignore", [errno.EIO]),
            ("stop", [errno.EIO, errno.ENOSPC]),
            ("enospc", [errno.EIO, errno.ENOSPC]),
            ("auto", [errno.ENOSPC]),
        )
        for code in codes
        for job, begun in beginnings(policy, code).items()
    }


CASES = cases()

UNLOOKED = set(CASES)
"""The names of nodes on blkdebug hold its options in another order."""
