"""``python -m bench [-n RUNS] [--full] [--markdown] [WORDS…]``: rows whose names hold all WORDS."""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import bench.bitmaps
import bench.budgets
import bench.latency
import bench.mirrors
import bench.nbd
import bench.programs
import bench.tables  # noqa: F401
from bench.sessions import OURS, QSD
from bench.work import FULL_MIB, ROWS, Disk, Row, Work


def measure(work: Work, runs: int) -> tuple[float, float]:
    """Medians of ours and theirs, taken in turn."""
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(runs):
        for command, seconds in ((OURS, ours), (QSD, theirs)):
            with tempfile.TemporaryDirectory(prefix="blkmon-bench-") as folder:
                seconds.append(work(command, Path(folder)))
    return statistics.median(ours), statistics.median(theirs)


def _plain(row: Row, ours: float, theirs: float) -> str:
    measured = f"{ours:8.3f}{row.unit} {theirs:8.3f}{row.unit} {ours / theirs:7.2f}"
    return f"{row.name:54} {measured} {row.goal:>6} {row.stretch:>7}"


def _markdown(row: Row, ours: float, theirs: float) -> str:
    digits = 2 if ours / theirs < 10 else 0
    return f"| {row.name} | {ours / theirs:.{digits}f} | {row.goal} | {row.stretch} |"


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("-n", "--runs", type=int, default=5)
    parser.add_argument("--markdown", action="store_true", help="the table of docs/performance.md")
    parser.add_argument("--full", action="store_true", help="disks of the size the goals are for")
    parser.add_argument("words", nargs="*")
    options = parser.parse_args()
    if options.full:
        Disk.mib = FULL_MIB
    if shutil.which("qemu-storage-daemon") is None:
        print("bench: qemu-storage-daemon is not installed (qemu-system-common)", file=sys.stderr)
        return 1
    if options.markdown:
        print("| work | ratio | goal | stretch |\n|---|---|---|---|")
    else:
        print(f"{'work':54} {'ours':>9} {'QEMU':>9} {'ratio':>7} {'goal':>6} {'stretch':>7}")
    for row in ROWS:
        if all(word in row.name for word in options.words):
            ours, theirs = measure(row.work, options.runs)
            print((_markdown if options.markdown else _plain)(row, ours, theirs), flush=True)
    return 0


sys.exit(main())
