"""Rows of NBD servers beside qemu-nbd: fio on one connection, a fixed amount of I/O, cached.

With BENCH_CPU=1 in the environment they count the CPU seconds of the server instead of those on the
clock, which say little on a machine that has other things to do.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.sessions import OURS, run
from bench.work import Work, row

MIB = 1 << 20
SIZE = 256 * MIB


@contextmanager
def _serving(
    command: tuple[str, ...], folder: Path, image: str, kind: str
) -> Iterator[tuple[str, int]]:
    """The URI of ``image``, served by ours or by qemu-nbd, and the server's process."""
    path = folder / "nbd.sock"
    if command == OURS:
        node = f"{kind},node-name=n,file.driver=file,file.filename={image}"
        words = [
            *OURS, "--blockdev", node, "--nbd-server", f"addr.type=unix,addr.path={path}",
            "--export", "nbd,id=e,node-name=n,name=,writable=on",
        ]  # fmt: skip
    else:
        # As many connections and as little ceremony as ours; the cache mode is both sides' default.
        words = ["qemu-nbd", "-t", "-e", "8", "-k", str(path), "-f", kind, image]
    server = subprocess.Popen(
        words, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    try:
        while not path.exists():
            time.sleep(0.01)
            assert server.poll() is None
        yield f"nbd+unix:///?socket={path}", server.pid
    finally:
        server.terminate()
        server.communicate(timeout=30)


def _image(folder: Path, kind: str) -> str:
    """A full disk, in the page cache."""
    name = f"disk.{kind}"
    run("qemu-img", "create", "-q", "-f", kind, name, str(SIZE), folder=folder)
    # fio's fill is not timed; a pattern, so that nothing is a hole.
    run("qemu-io", "-f", kind, "-c", f"write -q -P 5 0 {SIZE}", name, folder=folder)
    return name


def _fio(uri: str, folder: Path, *options: str) -> float:
    """Seconds that fio's own clock counts."""
    told = subprocess.run(
        ["fio", "--name=x", "--ioengine=nbd", f"--uri={uri}", f"--size={SIZE}", *options,
         "--output-format=json", "--randrepeat=1", f"--aux-path={folder}"],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    job = json.loads(told.stdout[told.stdout.index("{") :])["jobs"][0]
    assert not job["error"]
    return float(job["job_runtime"]) / 1000


def _cpu(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _row(name: str, kind: str, *options: str, goal: str, stretch: str) -> None:
    def work(command: tuple[str, ...], folder: Path) -> float:
        image = _image(folder, kind)
        with _serving(command, folder, image, kind) as (uri, pid):
            before = _cpu(pid)
            seconds = _fio(uri, folder, *options)
            return _cpu(pid) - before if os.environ.get("BENCH_CPU") else seconds

    declared: Work = work
    row(f"nbd {name}", goal=goal, stretch=stretch)(declared)


_row("raw: 60,000 reads of 4 KiB, depth 1", "raw", "--rw=randread", "--bs=4k", "--iodepth=1",
     "--number_ios=60000", goal="1.0", stretch="0.67")  # fmt: skip
_row("raw: 120,000 reads of 4 KiB, depth 16", "raw", "--rw=randread", "--bs=4k", "--iodepth=16",
     "--number_ios=120000", goal="0.67", stretch="0.43")  # fmt: skip
_row("raw: 120,000 writes of 4 KiB, depth 16", "raw", "--rw=randwrite", "--bs=4k", "--iodepth=16",
     "--number_ios=120000", goal="1.0", stretch="0.63")  # fmt: skip
_row("raw: 4 GiB read in pieces of 1 MiB, depth 4", "raw", "--rw=read", "--bs=1m", "--iodepth=4",
     "--io_size=4g", goal="0.77", stretch="0.4")  # fmt: skip
_row("qcow2: 120,000 reads of 4 KiB, depth 16", "qcow2", "--rw=randread", "--bs=4k",
     "--iodepth=16", "--number_ios=120000", goal="1.25", stretch="0.83")  # fmt: skip
_row("qcow2: 60,000 writes of 4 KiB, depth 16", "qcow2", "--rw=randwrite", "--bs=4k",
     "--iodepth=16", "--number_ios=60000", goal="1.67", stretch="1.0")  # fmt: skip
