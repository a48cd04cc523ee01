"""Mirrors and commits, until what they copied is on the disk."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from bench.sessions import Session, qcow2, run
from bench.work import Disk, half_used_disk, row, sound


def _copied(
    command: tuple[str, ...], folder: Path, work: str, *, direct: bool = False, **options: Any
) -> float:
    """From the request to the end of a job that is completed as soon as it is ready."""
    run("sync", folder=folder)
    with Session(command, folder) as session:
        session.do("blockdev-add", node_name="n0", **qcow2("d.qcow2", direct=direct))
        if work == "blockdev-mirror":
            session.do("blockdev-add", node_name="t0", **qcow2("t.qcow2", direct=direct))
        began = time.perf_counter()
        session.send(work, job_id="j", device="n0", **options)
        session.until("BLOCK_JOB_READY")
        session.send("job-complete", id="j")
        session.until("BLOCK_JOB_COMPLETED")
        return time.perf_counter() - began


def _mirror(command: tuple[str, ...], folder: Path, *, direct: bool) -> float:
    half_used_disk(folder)
    run("qemu-img", "create", "-q", "-f", "qcow2", "t.qcow2", f"{Disk.mib}M", folder=folder)
    took = _copied(command, folder, "blockdev-mirror", target="t0", sync="full", direct=direct)
    sound(folder, "t.qcow2", "d.qcow2")
    return took


@row("full mirror, half of the disk in use", goal="0.9", stretch="0.67")
def mirror(command: tuple[str, ...], folder: Path) -> float:
    return _mirror(command, folder, direct=False)


@row("full mirror, O_DIRECT at both ends", goal="0.9", stretch="0.7")
def direct_mirror(command: tuple[str, ...], folder: Path) -> float:
    return _mirror(command, folder, direct=True)


@row("commit of the active image, half of the disk", goal="0.8", stretch="0.5")
def commit(command: tuple[str, ...], folder: Path) -> float:
    run("qemu-img", "create", "-q", "-f", "qcow2", "base.qcow2", f"{Disk.mib}M", folder=folder)
    half_used_disk(folder)
    run("qemu-img", "rebase", "-u", "-b", "base.qcow2", "-F", "qcow2", "d.qcow2", folder=folder)
    took = _copied(command, folder, "block-commit")
    sound(folder, "base.qcow2", "d.qcow2")
    return took
