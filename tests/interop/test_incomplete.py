"""A target that a job has not come to the end of tells so, to whoever opens it later.

The mark is a header extension, which QEMU passes over and keeps.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from monitor.engine.jobs.block import BlockJob
from tests.support import tools
from tests.support.bench import Bench
from tests.support.graphs import run
from tests.support.guests import MIB, make_disk
from tests.support.killing import told_of


async def found(bench: Bench, image: Path, size: int) -> None:
    """An empty image that is there already, as the node ``found``."""
    tools.run("qemu-img", "create", "-q", "-f", "qcow2", image, str(size))
    file = {"driver": "file", "filename": str(image)}
    await bench.do("blockdev-add", node_name="found", driver="qcow2", file=file)


def notes(bench: Bench) -> list[str]:
    return [data["text"] for data in bench.named("X_BLKMON_NOTE")]


@pytest.mark.parametrize(
    "job", ["drive-backup", "drive-mirror", "blockdev-backup", "blockdev-mirror"]
)
def test_until_its_end_the_target_is_marked(tmp_path: Path, job: str) -> None:
    """One that the job makes is born so, one that it finds gets the mark."""
    disk, target, killed = make_disk(tmp_path, "raw"), tmp_path / "target", tmp_path / "killed"
    command, kind = job.split("-")
    told = f"'{killed}' is incomplete: {kind} 'j' of '{disk}' has not ended"

    async def main() -> None:
        bench = Bench()
        await bench.open(disk, "raw")
        options = {"job_id": "j", "device": "d0", "sync": "full", "speed": MIB}
        if command == "drive":
            options |= {"target": str(target), "format": "qcow2"}
        else:
            await found(bench, target, disk.stat().st_size)
            options["target"] = "found"
        await bench.do(job, **options)
        while not bench.engine.jobs()[0].current:
            await asyncio.sleep(0)
        killed.write_bytes(target.read_bytes())  # what a kill would leave now
        await bench.do("block-job-set-speed", device="j", speed=0)
        if kind == "mirror":
            assert (await bench.engine.job_ended("j")).status == "ready"
            await bench.do("block-job-complete", device="j")
        await bench.ended()
        await bench.engine.shut_down()
        assert notes(bench) == []
        assert await told_of(target) == []
        assert await told_of(killed) == [told]
        tools.run("qemu-io", "-f", "qcow2", "-c", "write -P 7 0 64k", killed)
        assert await told_of(killed) == [told]  # QEMU has kept it
        monitor = [sys.executable, "-m", "monitor", "--drive", f"file={killed},id=d"]
        session = subprocess.run([*monitor, "-c", "check d"], capture_output=True, text=True)
        assert session.stderr == f"blkmon: {told}\n"
        tools.run("qemu-img", "check", "-q", killed)

    run(main())
    tools.run("qemu-img", "compare", "-q", "-F", "raw", target, disk)


@pytest.mark.parametrize("job", ["drive-backup", "drive-mirror"])
def test_what_a_job_makes_is_marked_from_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: str
) -> None:
    """Killed before the job's own first step, it tells as well; nobody is told who made it."""
    disk, target = make_disk(tmp_path, "raw"), tmp_path / "target"
    monkeypatch.setattr(BlockJob, "mark_target", lambda *_: None)

    async def main() -> None:
        bench = Bench()
        await bench.open(disk, "raw")
        options = {"job_id": "j", "device": "d0", "sync": "full", "target": str(target)}
        await bench.do(job, format="qcow2", speed=1, **options)
        assert notes(bench) == []
        (tmp_path / "killed").write_bytes(target.read_bytes())
        await bench.engine.shut_down()

    run(main())
    (told,) = asyncio.run(told_of(tmp_path / "killed"))
    assert f"is incomplete: {job[6:]} 'j' of '{disk}'" in told


def test_one_that_was_cancelled_stays_marked_until_a_job_fills_it(tmp_path: Path) -> None:
    disk, target = make_disk(tmp_path, "raw"), tmp_path / "target"

    async def main() -> None:
        bench = Bench()
        await bench.open(disk, "raw")
        options = {"job_id": "j", "device": "d0", "sync": "full", "target": str(target)}
        await bench.do("drive-backup", format="qcow2", speed=1, **options)
        while not bench.engine.jobs()[0].current:
            await asyncio.sleep(0)
        await bench.do("block-job-cancel", device="j")
        await bench.ended()
        assert len(await told_of(target)) == 1
        await bench.do("drive-backup", format="qcow2", mode="existing", **options)
        await bench.ended()
        await bench.engine.shut_down()
        assert await told_of(target) == []

    run(main())
    tools.run("qemu-img", "compare", "-q", "-F", "raw", target, disk)
