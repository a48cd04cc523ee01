"""``python -m bench [-n RUNS] [WORDS…]``: the rows whose names hold all WORDS, as a table."""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import bench.bitmaps
import bench.mirrors
import bench.nbd  # noqa: F401
from bench.sessions import OURS, QSD
from bench.work import ROWS, UNITS, Work


def measure(work: Work, runs: int) -> tuple[float, float]:
    """Medians of ours and theirs, taken in turn."""
    ours, theirs = [], []
    for _ in range(runs):
        for command, seconds in ((OURS, ours), (QSD, theirs)):
            with tempfile.TemporaryDirectory(prefix="blkmon-bench-") as folder:
                seconds.append(work(command, Path(folder)))
    return statistics.median(ours), statistics.median(theirs)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("-n", "--runs", type=int, default=5)
    parser.add_argument("words", nargs="*")
    options = parser.parse_args()
    if shutil.which("qemu-storage-daemon") is None:
        print("bench: qemu-storage-daemon is not installed (qemu-system-common)", file=sys.stderr)
        return 1
    print(f"{'work':44} {'ours':>9} {'QEMU':>9} {'ratio':>7}")
    for name, work in ROWS.items():
        if all(word in name for word in options.words):
            ours, theirs = measure(work, options.runs)
            unit = UNITS[name]
            print(
                f"{name:44} {ours:8.3f}{unit} {theirs:8.3f}{unit} {ours / theirs:7.2f}", flush=True
            )
    return 0


sys.exit(main())
