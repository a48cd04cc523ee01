"""Jobs whose disk is full, really: a small tmpfs with something on it that goes away in time."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from tests.support import tools
from tests.support.bench import Bench
from tests.support.graphs import run
from tests.support.guests import MIB, contents

SIZE = 8 * MIB
HELD = 3 * MIB
"""Bytes of the disk; of random data in it, which does not fit beside the ballast."""
POLICIES = ("report", "stop", "enospc", "ignore")
TARGETS = {"raw": {}, "qcow2": {}, "compressed": {"compress": True}}
COPIES = [("backup", kind) for kind in TARGETS] + [("mirror", "raw"), ("mirror", "qcow2")]
JOBS = [*COPIES, ("stream", ""), ("commit", ""), ("active", "")]


class Full(Bench):
    """A chain, of which the image that a job writes to lies on the full disk."""

    def __init__(self, folder: Path, small: Path, job: str, kind: str) -> None:
        super().__init__()
        self.job = job
        self.ballast = small / "ballast"
        self.fmt = "raw" if kind == "raw" else "qcow2"
        self.target = small / "target"
        self.more = TARGETS.get(kind, {})
        written = {"stream": "top", "commit": "low", "active": "low"}.get(job)
        self.images = {n: (small if n == written else folder) / n for n in ("low", "mid", "top")}
        self.noise = folder / "noise"
        self.noise.write_bytes(random.Random(1).randbytes(HELD))

    def make(self) -> bytes:
        """The images; what the disk shows. Data is in the middle, but for a stream to pass over."""
        below: Path | None = None
        for image in self.images.values():
            backing = ["-b", below, "-F", "qcow2"] if below else []
            tools.run("qemu-img", "create", "-q", "-f", "qcow2", *backing, image, str(SIZE))
            below = image
        write = f"write -q -s {self.noise} {MIB} {HELD}"
        tools.run("qemu-io", "-f", "qcow2", "-c", write, self.images["mid"])
        tools.run("qemu-io", "-f", "qcow2", "-c", "write -q -P 7 0 100k", self.images["top"])
        tools.run("qemu-img", "create", "-q", "-f", self.fmt, self.target, str(SIZE))
        self.ballast.write_bytes(bytes(2 * MIB))
        shown = self.noise.with_name("shown")
        tools.run("qemu-img", "convert", "-O", "raw", self.images["top"], shown)
        return shown.read_bytes()

    async def begin(self, policy: str) -> None:
        both = {"on_source_error": policy, "on_target_error": policy}
        copy = {"device": "d0", "target": str(self.target), "sync": "full", **both}
        copy |= {"mode": "existing", "format": self.fmt, **self.more}
        command, options = {
            "backup": ("drive-backup", copy),
            "mirror": ("drive-mirror", copy),
            "stream": ("block-stream", {"device": "disk", "on_error": policy}),
            "commit": (
                "block-commit",
                {"device": "d0", "top": str(self.images["mid"]), "on_error": policy},
            ),
            "active": ("block-commit", {"device": "d0", "on_error": policy}),
        }[self.job]
        await self.do(command, job_id="j", **options)

    async def over(self) -> dict[str, Any]:
        """What is told of the end, of a job that is completed where it wants that."""
        if self.job in ("mirror", "active"):
            snapshot = await self.engine.job_ended("j")
            if snapshot.status == "ready":
                await self.do("block-job-complete", device="j")
        await self.ended()
        return self.named("BLOCK_JOB_COMPLETED")[-1]

    async def refused(self) -> None:
        """Until an error was told of."""
        while not self.named("BLOCK_JOB_ERROR"):
            await asyncio.sleep(0)

    def copy(self) -> Path:
        """The image that shows the disk in the end."""
        written = {"stream": "top", "commit": "top", "active": "low"}.get(self.job)
        return self.images[written] if written else self.target


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("job", "kind"), JOBS)
def test_a_full_disk(tmp_path: Path, full: Path, job: str, kind: str, policy: str) -> None:
    """The disk shows what it did, whatever becomes of the job; with room again the job succeeds."""
    bench_of = Full(tmp_path, full, job, kind)
    shown = bench_of.make()

    async def main() -> None:
        bench = bench_of
        await bench.open(bench.images["top"], "qcow2")
        try:
            await bench.begin(policy)
            await bench.refused()
            assert bench.drive.node is not None
            assert contents(bench.drive.node) == shown
            if policy == "report":
                assert (await bench.over())["error"] == "No space left on device"
                bench.ballast.unlink()
                await bench.begin(policy)
            elif policy == "ignore":
                bench.ballast.unlink()
            else:
                assert (await bench.engine.job_ended("j")).status == "paused"
                (info,) = await bench.do("query-block-jobs")
                assert (info.io_status, info.paused) == ("nospace", True)
                bench.ballast.unlink()
                await bench.do("block-job-resume", device="j")
            end = await bench.over()
            if (job, policy) == ("stream", "ignore"):  # what was passed over is there no more
                assert end.pop("error") == "No space left on device"
                await bench.begin(policy)
                end = await bench.over()
            assert "error" not in end
            assert contents(bench.drive.node) == shown
            actions = {error["action"] for error in bench.named("BLOCK_JOB_ERROR")}
            assert actions == {"stop" if policy == "enospc" else policy}
        finally:
            await bench.engine.shut_down()

    run(main())
    assert not bench_of.ballast.exists()
    for image in (*bench_of.images.values(), *[bench_of.target] * (bench_of.fmt == "qcow2")):
        tools.run("qemu-img", "check", "-q", image)
    fmt = bench_of.fmt if bench_of.copy() == bench_of.target else "qcow2"
    model = tmp_path / "shown"
    tools.run("qemu-img", "compare", "-q", "-f", fmt, "-F", "raw", bench_of.copy(), model)
