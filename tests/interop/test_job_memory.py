"""What a job on a large disk takes: a bounded memory, whatever the size and the clusters."""

from __future__ import annotations

import mmap
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from monitor.engine.jobs.carrying import MEMORY
from tests.support import tools
from tests.support.bench import Bench
from tests.support.graphs import run

SIZE = "4G"
JOBS: dict[str, tuple[str, dict[str, Any]]] = {
    "backup": ("drive-backup", {"sync": "full", "format": "qcow2"}),
    "mirror": ("drive-mirror", {"sync": "full", "format": "qcow2"}),
    "stream": ("block-stream", {}),
    "commit": ("block-commit", {}),
}


@pytest.mark.parametrize(
    ("job", "cluster"), [("backup", "2M"), ("mirror", "4k"), ("stream", "2M"), ("commit", "4k")]
)
def test_four_gigabytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: str, cluster: str
) -> None:
    tools.need("qemu-img", "qemu-io")
    base, top, target = (tmp_path / name for name in ("base", "top", "target"))
    make = ["qemu-img", "create", "-q", "-f", "qcow2", "-o", f"cluster_size={cluster}"]
    tools.run(*make, base, SIZE)
    tools.run(*make, "-b", base, "-F", "qcow2", top)
    for image, byte in ((base, 1), (top, 2)):
        words = [w for at in range(0, 4096, 256) for w in ("-c", f"write -P {byte} {at}M 256k")]
        tools.run("qemu-io", "-t", "unsafe", "-f", "qcow2", *words, image)
    buffers: list[int] = []

    class Counted(mmap.mmap):
        def __new__(cls, fd: int, size: int, **options: Any) -> Counted:
            buffers.append(size)
            return super().__new__(cls, fd, size, **options)

    async def main() -> None:
        bench = Bench()
        await bench.open(top, "qcow2")
        command, options = JOBS[job]
        options = options | ({"target": str(target)} if job in ("backup", "mirror") else {})
        device = "disk" if job == "stream" else "d0"
        tracemalloc.start()
        try:
            await bench.do(command, job_id="j", device=device, **options)
            ended = await bench.engine.job_ended("j")
            taken = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert ended.error is None
        assert buffers
        assert taken + sum(buffers) <= MEMORY
        await bench.engine.shut_down()

    monkeypatch.setattr(mmap, "mmap", Counted)
    run(main())
