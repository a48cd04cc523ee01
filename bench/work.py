"""The pieces of work. Each takes a command (ours or theirs) and a fresh folder, gives seconds."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from bench.sessions import OURS, Session, qcow2, run

Work = Callable[[tuple[str, ...], Path], float]


class Row(NamedTuple):
    """``unit`` is what it is counted in; ``goal`` and ``stretch`` are ratios to aim at."""

    name: str
    work: Work
    unit: str
    goal: str
    stretch: str


ROWS: list[Row] = []


def row(name: str, unit: str = "s", *, goal: str = "", stretch: str = "") -> Callable[[Work], Work]:
    def declare(work: Work) -> Work:
        ROWS.append(Row(name, work, unit, goal, stretch))
        return work

    return declare


@row("start to the first QMP reply")
def start(command: tuple[str, ...], folder: Path) -> float:
    with Session(command, folder) as session:
        return session.started


@row("memory at rest", unit="MiB", goal="2.5", stretch="1.5")
def memory_at_rest(command: tuple[str, ...], folder: Path) -> float:
    with Session(command, folder) as session:
        session.do("query-jobs")
        return session.memory() / (1 << 20)


@row("1,000 trivial commands, one by one", goal="0.5", stretch="0.2")
def trivial(command: tuple[str, ...], folder: Path) -> float:
    with Session(command, folder) as session:
        session.do("query-jobs")
        began = time.perf_counter()
        for _ in range(1000):
            session.do("query-jobs")
        return time.perf_counter() - began


def _nodes(command: tuple[str, ...], folder: Path, count: int) -> tuple[float, float]:
    adds = [("blockdev-add", {"driver": "null-co", "node-name": f"n{i}"}) for i in range(count)]
    with Session(command, folder) as session:
        session.do("blockdev-add", driver="null-co", node_name="first")
        began = time.perf_counter()
        session.batch(adds)
        added = time.perf_counter() - began
        began = time.perf_counter()
        session.do("query-named-block-nodes", flat=True)
        return added, time.perf_counter() - began


@row("1,000 nodes added", goal="0.3", stretch="0.1")
def thousand(command: tuple[str, ...], folder: Path) -> float:
    return _nodes(command, folder, 1000)[0]


@row("5,000 nodes added", goal="0.15", stretch="0.05")
def five_thousand(command: tuple[str, ...], folder: Path) -> float:
    return _nodes(command, folder, 5000)[0]


@row("query of 5,000 nodes", goal="0.5", stretch="0.1")
def query(command: tuple[str, ...], folder: Path) -> float:
    return _nodes(command, folder, 5000)[1]


def _chain(command: tuple[str, ...], folder: Path) -> tuple[float, float]:
    run("qemu-img", "create", "-q", "-f", "qcow2", "base.qcow2", "64M", folder=folder)
    with Session(command, folder) as session:
        session.do("blockdev-add", node_name="n0", **qcow2("base.qcow2"))
        session.do("blockdev-add", driver="raw", node_name="user", file="n0")
        began = time.perf_counter()
        for i in range(200):
            session.do(
                "blockdev-snapshot-sync",
                node_name=f"n{i}",
                snapshot_node_name=f"n{i + 1}",
                snapshot_file=f"s{i}.qcow2",
            )
        built = time.perf_counter() - began
        began = time.perf_counter()
        session.do("query-named-block-nodes", flat=True)
        return built, time.perf_counter() - began


@row("chain of 200 overlays by live snapshots", goal="0.5", stretch="0.2")
def chain(command: tuple[str, ...], folder: Path) -> float:
    return _chain(command, folder)[0]


@row("flat query of the chain of 200", goal="0.05", stretch="0.01")
def chain_query(command: tuple[str, ...], folder: Path) -> float:
    return _chain(command, folder)[1]


@row("stream of 1 GiB, with fsync", goal="0.8", stretch="0.5")
def stream(command: tuple[str, ...], folder: Path) -> float:
    run("qemu-img", "create", "-q", "-f", "qcow2", "base.qcow2", "1G", folder=folder)
    run("qemu-io", "-f", "qcow2", "-c", "write -P 7 0 1G", "base.qcow2", folder=folder)
    make = ("qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2")
    run(*make, "top.qcow2", folder=folder)
    run("sync", folder=folder)
    with Session(command, folder) as session:
        session.do("blockdev-add", node_name="n0", **qcow2("top.qcow2"))
        began = time.perf_counter()
        session.send("block-stream", job_id="j", device="n0")
        session.until("BLOCK_JOB_COMPLETED")
        took = time.perf_counter() - began
    sound(folder, "top.qcow2", "base.qcow2")
    return took


FULL_MIB = 4096
"""The disk that the goals are for (``--full``)."""


class Disk:
    """The disk that is copied: short of what the goals are for unless that is asked for."""

    mib = int(os.environ.get("BENCH_DISK_MIB", "1024"))


def sound(folder: Path, image: str, same_as: str = "") -> None:
    """Raises CalledProcessError unless ``image`` is, and shows what ``same_as`` does."""
    run("qemu-img", "check", "-q", image, folder=folder)
    if same_as:
        run("qemu-img", "compare", "-q", same_as, image, folder=folder)


def half_used_disk(folder: Path) -> None:
    """Half of it in use, in extents of 1 MiB."""
    run("qemu-img", "create", "-q", "-f", "qcow2", "d.qcow2", f"{Disk.mib}M", folder=folder)
    writes = [word for i in range(0, Disk.mib, 2) for word in ("-c", f"write -q -P 7 {i}M 1M")]
    run("qemu-io", "-f", "qcow2", *writes, "d.qcow2", folder=folder)


def _backup(
    command: tuple[str, ...], folder: Path, *, direct: bool = False, **options: Any
) -> float:
    """Until the target is on the disk; QEMU sees to that when the image is closed."""
    run("qemu-img", "create", "-q", "-f", "qcow2", "t.qcow2", f"{Disk.mib}M", folder=folder)
    run("sync", folder=folder)
    with Session(command, folder) as session:
        session.do("blockdev-add", node_name="n0", **qcow2("d.qcow2", direct=direct))
        session.do("blockdev-add", node_name="t0", **qcow2("t.qcow2", direct=direct))
        began = time.perf_counter()
        session.send("blockdev-backup", job_id="j", device="n0", target="t0", **options)
        session.until("BLOCK_JOB_COMPLETED")
        target = os.open(folder / "t.qcow2", os.O_RDONLY)
        os.fsync(target)
        os.close(target)
        return time.perf_counter() - began


@row("full backup, half of the disk in use, fsync", goal="0.9", stretch="0.67")
def full_backup(command: tuple[str, ...], folder: Path) -> float:
    half_used_disk(folder)
    took = _backup(command, folder, sync="full")
    sound(folder, "t.qcow2", "d.qcow2")
    return took


@row("full backup, O_DIRECT at both ends", goal="0.9", stretch="0.7")
def direct_backup(command: tuple[str, ...], folder: Path) -> float:
    half_used_disk(folder)
    took = _backup(command, folder, direct=True, sync="full")
    sound(folder, "t.qcow2", "d.qcow2")
    return took


@row("incremental backup of 5 % of the disk, fsync", goal="1.0", stretch="0.5")
def incremental_backup(command: tuple[str, ...], folder: Path) -> float:
    half_used_disk(folder)
    run("qemu-img", "bitmap", "--add", "-g", "64k", "d.qcow2", "b", folder=folder)
    clusters = Disk.mib * 16
    places = sorted({i * 7919 % clusters for i in range(clusters // 20)})
    writes = [word for at in places for word in ("-c", f"write -q -P 8 {at * 64}k 64k")]
    run("qemu-io", "-f", "qcow2", *writes, "d.qcow2", folder=folder)
    took = _backup(command, folder, sync="incremental", bitmap="b")
    sound(folder, "t.qcow2")
    run("qemu-img", "rebase", "-u", "-b", "d.qcow2", "-F", "qcow2", "t.qcow2", folder=folder)
    sound(folder, "t.qcow2", "d.qcow2")
    return took


def _qemu_io(command: tuple[str, ...], folder: Path, requests: list[str]) -> float:
    """qemu-io's requests in one process: its own program, or our monitor's command."""
    run("qemu-img", "create", "-q", "-f", "qcow2", "d.qcow2", "1G", folder=folder)
    run("qemu-io", "-f", "qcow2", "-c", "write -P 7 0 1G", "d.qcow2", folder=folder)
    if command == OURS:
        lines = "".join(f'qemu-io d "{request}"\n' for request in requests)
        disk = "if=none,id=d,format=qcow2,file=d.qcow2"
        words = [sys.executable, "-m", "monitor", "--drive", disk]
    else:
        lines = "".join(f"{request}\n" for request in requests)
        words = ["qemu-io", "-f", "qcow2", "d.qcow2"]
    began = time.perf_counter()
    subprocess.run(words, cwd=folder, input=lines, text=True, check=True, capture_output=True)
    return time.perf_counter() - began


@row("qemu-io: 1 GiB read in pieces of 16 MiB")
def sequential_read(command: tuple[str, ...], folder: Path) -> float:
    return _qemu_io(command, folder, [f"read {i * 16}M 16M" for i in range(64)])


@row("qemu-io: 1 GiB written in pieces of 16 MiB")
def sequential_write(command: tuple[str, ...], folder: Path) -> float:
    return _qemu_io(command, folder, [f"write {i * 16}M 16M" for i in range(64)])


@row("qemu-io: 5,000 reads of 4 KiB at random")
def random_read(command: tuple[str, ...], folder: Path) -> float:
    offsets = [(i * 7919 % 262144) * 4 for i in range(5000)]
    return _qemu_io(command, folder, [f"read {offset}k 4k" for offset in offsets])


def _bitmap_adds(command: tuple[str, ...], folder: Path, count: int) -> float:
    run("qemu-img", "create", "-q", "-f", "qcow2", "d.qcow2", "1G", folder=folder)
    adds = [
        {"type": "block-dirty-bitmap-add", "data": {"node": "n0", "name": f"b{i}"}}
        for i in range(count)
    ]
    with Session(command, folder) as session:
        session.do("blockdev-add", node_name="n0", **qcow2("d.qcow2"))
        session.do("block-dirty-bitmap-add", node="n0", name="first")
        began = time.perf_counter()
        session.do("transaction", actions=adds)
        return time.perf_counter() - began


@row("a transaction of 100 bitmap-adds", goal="0.2", stretch="0.05")
def hundred_adds(command: tuple[str, ...], folder: Path) -> float:
    return _bitmap_adds(command, folder, 100)


@row("a transaction of 1,000 bitmap-adds")
def thousand_adds(command: tuple[str, ...], folder: Path) -> float:
    return _bitmap_adds(command, folder, 1000)
