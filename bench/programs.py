"""Copies beside QEMU's programs: ours as a job of a monitor that runs, theirs from start to end."""

from __future__ import annotations

import os
import time
from pathlib import Path

from bench import mirrors, work
from bench.sessions import OURS, run
from bench.work import Disk, half_used_disk, row, sound


def _timed(folder: Path, image: str, *program: str) -> float:
    """Until ``image`` is on the disk."""
    run("sync", folder=folder)
    began = time.perf_counter()
    run(*program, folder=folder)
    target = os.open(folder / image, os.O_RDONLY)
    os.fsync(target)
    os.close(target)
    return time.perf_counter() - began


@row("full backup, fsync, beside qemu-img convert", goal="1.0", stretch="0.8")
def convert(command: tuple[str, ...], folder: Path) -> float:
    if command == OURS:
        return work.full_backup(command, folder)
    half_used_disk(folder)
    formats = ("-f", "qcow2", "-O", "qcow2", "-t", "writeback")
    took = _timed(folder, "t.qcow2", "qemu-img", "convert", *formats, "d.qcow2", "t.qcow2")
    sound(folder, "t.qcow2", "d.qcow2")
    return took


@row("commit of the active image, fsync, beside qemu-img commit", goal="0.8", stretch="0.5")
def commit(command: tuple[str, ...], folder: Path) -> float:
    """Neither empties what was committed."""
    if command == OURS:
        return mirrors.commit(command, folder)
    run("qemu-img", "create", "-q", "-f", "qcow2", "base.qcow2", f"{Disk.mib}M", folder=folder)
    half_used_disk(folder)
    run("qemu-img", "rebase", "-u", "-b", "base.qcow2", "-F", "qcow2", "d.qcow2", folder=folder)
    program = ("qemu-img", "commit", "-q", "-d", "-f", "qcow2", "-t", "writeback")
    took = _timed(folder, "base.qcow2", *program, "d.qcow2")
    sound(folder, "base.qcow2", "d.qcow2")
    return took
