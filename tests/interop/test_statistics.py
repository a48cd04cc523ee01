"""Statistics and write thresholds are QEMU's after the same requests of qemu-io.

QEMU counts on a drive what qemu-io does asynchronously, as a guest would; we count all of it.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from tests.support import tools
from tests.support.hmp import HumanMonitor, blkmon, comparable, qemu

IMAGES = [
    ["qemu-img", "create", "-q", "-f", "qcow2", "base.qcow2", "8M"],
    ["qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "top.qcow2"],
    ["qemu-img", "create", "-q", "-f", "raw", "a.img", "1M"],
]

DRIVES = [
    "drive_add 0 if=none,id=d0,node-name=n0,file=top.qcow2,discard=unmap",
    "drive_add 0 if=none,id=r0,node-name=n1,file=a.img,format=raw,discard=unmap",
    "drive_add 0 if=none,id=e0",
]

WORK = [
    'qemu-io d0 "aio_write 1M 64k"',
    'qemu-io d0 "aio_write 2M 64k"',
    'qemu-io d0 "aio_read 0 128k"',
    'qemu-io d0 "aio_read 20M 64k"',
    'qemu-io r0 "aio_write 4k 8k"',
    'qemu-io r0 "aio_read 0 1M"',
    "qemu-io r0 aio_flush",
    'qemu-io n1 "discard 0 64k"',
]

TIMES = ("rd_total_time_ns", "wr_total_time_ns", "flush_total_time_ns", "idle_time_ns")


def _start(tmp_path: Path, side: str) -> Path:
    tools.need("qemu-system-x86_64", "qemu-img")
    folder = tmp_path / side
    folder.mkdir()
    for command in IMAGES:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=20)
    return folder


def _told(monitor: HumanMonitor) -> tuple[str, Any, Any]:
    """What info blockstats and query-blockstats say, without times and names that were made up."""
    drives = monitor.execute("query-blockstats")
    nodes = monitor.execute("query-blockstats", **{"query-nodes": True})
    text = comparable(monitor.type("info blockstats"))
    return text, [_plain(entry) for entry in drives], [_plain(entry) for entry in nodes]


def _plain(entry: dict[str, Any]) -> dict[str, Any]:
    told = dict(entry)
    if told.get("node-name", "").startswith("#block"):
        told["node-name"] = "#block"
        if "driver-specific" in told:  # where metadata lies in the file is each side's own matter
            told["stats"] = {**told["stats"], "wr_highest_offset": "…"}
    told["stats"] = {
        name: "…" if name in TIMES and value else value for name, value in told["stats"].items()
    }
    for inner in ("parent", "backing"):
        if inner in told:
            told[inner] = _plain(told[inner])
    return told


def test_the_figures_are_qemus(tmp_path: Path) -> None:
    told = []
    for side, start in (("qemu", qemu), ("blkmon", blkmon)):
        with start(_start(tmp_path, side)) as monitor:
            for line in DRIVES:
                assert monitor.type(line) == "OK\r\n"
            before = _told(monitor)
            for line in WORK:
                monitor.type(line)
            told.append((before, _told(monitor)))
    (theirs_before, theirs), (ours_before, ours) = told
    assert ours_before == theirs_before
    assert ours == theirs
    assert theirs[1][0]["stats"]["wr_bytes"] == 128 << 10


def test_a_write_threshold_goes_off_once(tmp_path: Path) -> None:
    told = []
    for side, start in (("qemu", qemu), ("blkmon", blkmon)):
        with start(_start(tmp_path, side)) as monitor:
            for line in DRIVES:
                monitor.type(line)
            told.append([_crossing(monitor, *case) for case in CROSSINGS])
    theirs, ours = told
    assert ours == theirs
    assert [len(events) for events, _ in theirs] == [0, 1, 0, 1, 1, 0, 1]


def _crossing(monitor: HumanMonitor, threshold: int | None, line: str) -> tuple[Any, int]:
    if threshold is not None:
        arguments = {"node-name": "n1", "write-threshold": threshold}
        monitor.execute("block-set-write-threshold", **arguments)
    monitor.type(line)
    nodes = monitor.execute("query-named-block-nodes", flat=True)
    (left,) = (node["write_threshold"] for node in nodes if node["node-name"] == "n1")
    return monitor.take_events("BLOCK_WRITE_THRESHOLD"), left


CROSSINGS = [
    (65536, 'qemu-io r0 "write 0 64k"'),
    (None, 'qemu-io r0 "write 32k 64k"'),
    (None, 'qemu-io r0 "write 32k 64k"'),
    (65536, 'qemu-io r0 "write -z 64k 4k"'),
    (4096, 'qemu-io r0 "discard 64k 64k"'),
    (65536, 'qemu-io r0 "read 64k 64k"'),
    (None, 'qemu-io n1 "write 512k 4k"'),
]
