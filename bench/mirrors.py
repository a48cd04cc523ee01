"""Mirrors and commits, until what they copied is on the disk."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from bench.sessions import Session, qcow2, run
from bench.work import DISK_MIB, half_used_disk, row


def _copied(command: tuple[str, ...], folder: Path, work: str, **options: Any) -> float:
    """From the request to the end of a job that is completed as soon as it is ready."""
    run("sync", folder=folder)
    with Session(command, folder) as session:
        session.do("blockdev-add", node_name="n0", **qcow2("d.qcow2"))
        if work == "blockdev-mirror":
            session.do("blockdev-add", node_name="t0", **qcow2("t.qcow2"))
        began = time.perf_counter()
        session.send(work, job_id="j", device="n0", **options)
        session.until("BLOCK_JOB_READY")
        session.send("job-complete", id="j")
        session.until("BLOCK_JOB_COMPLETED")
        return time.perf_counter() - began


@row("full mirror, half of the disk in use", goal="0.9", stretch="0.67")
def mirror(command: tuple[str, ...], folder: Path) -> float:
    half_used_disk(folder)
    run("qemu-img", "create", "-q", "-f", "qcow2", "t.qcow2", f"{DISK_MIB}M", folder=folder)
    took = _copied(command, folder, "blockdev-mirror", target="t0", sync="full")
    run("qemu-img", "compare", "d.qcow2", "t.qcow2", folder=folder)
    return took


@row("commit of the active image, half of the disk", goal="0.8", stretch="0.5")
def commit(command: tuple[str, ...], folder: Path) -> float:
    run("qemu-img", "create", "-q", "-f", "qcow2", "base.qcow2", f"{DISK_MIB}M", folder=folder)
    half_used_disk(folder)
    run("qemu-img", "rebase", "-u", "-b", "base.qcow2", "-F", "qcow2", "d.qcow2", folder=folder)
    took = _copied(command, folder, "block-commit")
    run("qemu-img", "compare", "d.qcow2", "base.qcow2", folder=folder)
    return took
