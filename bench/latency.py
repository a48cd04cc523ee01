"""How long a command waits while the jobs of the same process copy."""

from __future__ import annotations

import time
from pathlib import Path

from bench.sessions import OURS, Session, qcow2, run
from bench.work import Disk, half_used_disk, row

Command = tuple[str, ...]
JOBS = 4
PAUSE = 0.005
"""Seconds between a reply and the next command: somebody types, and floods nobody."""


def waits(command: Command, folder: Path) -> list[float]:
    """Seconds that each ``query-block-jobs`` took, in order of length, while two mirrors and two
    backups of one disk ran."""
    half_used_disk(folder)
    found = []
    with Session(command, folder) as session:
        for number in range(JOBS):
            target = f"t{number}.qcow2"
            run("qemu-img", "create", "-q", "-f", "qcow2", target, f"{Disk.mib}M", folder=folder)
            source = {**qcow2("d.qcow2"), "read-only": True}
            session.do("blockdev-add", node_name=f"n{number}", **source)
            session.do("blockdev-add", node_name=f"t{number}", **qcow2(target))
        for number in range(JOBS):
            session.do(
                "blockdev-backup" if number % 2 else "blockdev-mirror",
                job_id=f"j{number}",
                device=f"n{number}",
                target=f"t{number}",
                sync="full",
            )
        while True:
            began = time.perf_counter()
            jobs = session.do("query-block-jobs")
            found.append(time.perf_counter() - began)
            if all(job["ready"] for job in jobs):
                break
            time.sleep(PAUSE)
    return sorted(found)


@row("a command while four jobs copy, p99")
def beside_qemu(command: Command, folder: Path) -> float:
    found = waits(command, folder)
    return found[len(found) * 99 // 100]


@row("a command while four jobs copy, p99, beside 50 ms", goal="1")
def beside_a_goal(command: Command, folder: Path) -> float:
    return beside_qemu(command, folder) if command == OURS else 0.050
