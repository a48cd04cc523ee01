"""Rows about whole tables: a qcow2 image of 64 GiB in which every cluster is allocated.

QEMU's side is ``qemu-img`` and ``qemu-io``, whose start (some 10 ms) counts; ours is asked in an
engine that runs."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from bench.sessions import OURS, Session, qcow2, run
from bench.work import row

Command = tuple[str, ...]
GIB = 64


def _image(folder: Path) -> None:
    options = ("-f", "qcow2", "-o", "preallocation=metadata")
    run("qemu-img", "create", "-q", *options, "d.qcow2", f"{GIB}G", folder=folder)


def _beside(command: Command, folder: Path, request: str, *theirs: str) -> float:
    _image(folder)
    if command != OURS:
        began = time.perf_counter()
        subprocess.run([*theirs, "d.qcow2"], cwd=folder, check=True, capture_output=True)
        return time.perf_counter() - began
    with Session(command, folder) as session:
        session.do("blockdev-add", node_name="d", **qcow2("d.qcow2"))
        began = time.perf_counter()
        session.do(request, device="d")
        return time.perf_counter() - began


@row("check of a fully allocated qcow2 of 64 GiB", goal="1.0", stretch="0.5")
def check(command: Command, folder: Path) -> float:
    return _beside(command, folder, "x-blkmon-check", "qemu-img", "check")


@row("map of the same", goal="1.0", stretch="0.5")
def map_(command: Command, folder: Path) -> float:
    return _beside(command, folder, "x-blkmon-map", "qemu-img", "map", "--output=json")


def _all_of_it(command: Command, folder: Path, request: str) -> float:
    """``request`` of 1 GiB for each GiB, and a flush: QEMU takes no more at once than 2 GiB."""
    _image(folder)
    requests = [*(request.format(at=f"{i}G") for i in range(GIB)), "flush"]
    if command != OURS:
        words = [word for each in requests for word in ("-c", each)]
        began = time.perf_counter()
        run("qemu-io", "-d", "unmap", "-f", "qcow2", *words, "d.qcow2", folder=folder)
        return time.perf_counter() - began
    with Session(command, folder) as session:
        file = {"driver": "file", "filename": "d.qcow2", "discard": "unmap"}
        session.do("blockdev-add", driver="qcow2", node_name="d", discard="unmap", file=file)
        session.do("human-monitor-command", command_line='qemu-io d "length"')
        began = time.perf_counter()
        for each in requests:
            session.do("human-monitor-command", command_line=f'qemu-io d "{each}"')
        return time.perf_counter() - began


@row("zeroes over 64 GiB of it", goal="1.0", stretch="0.5")
def zero(command: Command, folder: Path) -> float:
    return _all_of_it(command, folder, "write -q -z {at} 1G")


@row("discard of 64 GiB of it", goal="1.0", stretch="0.5")
def discard(command: Command, folder: Path) -> float:
    return _all_of_it(command, folder, "discard -q {at} 1G")
