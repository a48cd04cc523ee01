"""Disks that end within a sector: their copies are of whole sectors, which end with zeroes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.bench import Bench
from tests.support.graphs import run
from tests.support.guests import contents

SIZE = 100003
WHOLE = 100352
DATA = (b"data" * 16384 + bytes(20000)).ljust(SIZE, b"e")
COPY = DATA.ljust(WHOLE, b"\0")
JOB = {"job_id": "j", "device": "d0", "sync": "full"}


async def opened(folder: Path) -> Bench:
    (folder / "disk").write_bytes(DATA)
    bench = Bench()
    await bench.open(folder / "disk", "raw")
    return bench


async def add_target(bench: Bench, path: Path, fmt: str, **rules: Any) -> None:
    file: dict[str, Any] = {"driver": "file", "filename": str(path)}
    if rules:
        file = {"driver": "blkdebug", "image": file, **rules}
    await bench.do("blockdev-add", node_name="target", driver=fmt, file=file)


async def copied(bench: Bench, command: str, **options: Any) -> None:
    await bench.do(command, **JOB, **options)
    job = await bench.engine.job_ended("j")
    assert job.error is None
    if command.endswith("mirror"):
        await bench.do("block-job-cancel", device="j")
    await bench.ended()


@pytest.mark.parametrize(
    ("command", "fmt", "options"),
    [
        ("drive-mirror", "raw", {}),
        ("drive-mirror", "qcow2", {}),
        ("drive-backup", "raw", {}),
        ("drive-backup", "qcow2", {}),
        ("drive-backup", "qcow2", {"compress": True}),
    ],
)
def test_new_images(tmp_path: Path, command: str, fmt: str, options: dict[str, Any]) -> None:
    path = tmp_path / "copy"

    async def main() -> None:
        bench = await opened(tmp_path)
        try:
            await copied(bench, command, target=str(path), format=fmt, **options)
            await add_target(bench, path, fmt)
            assert contents(bench.engine.graph.nodes["target"]) == COPY
        finally:
            await bench.engine.shut_down()

    run(main())


@pytest.mark.parametrize("policy", ["report", "ignore", "stop"])
@pytest.mark.parametrize("command", ["blockdev-mirror", "blockdev-backup"])
def test_images_that_have_been_written_to(tmp_path: Path, command: str, policy: str) -> None:
    """Nothing of that is left behind the end of the disk."""
    path = tmp_path / "copy"
    path.write_bytes(b"x" * WHOLE)
    first = {"event": "none", "iotype": "write-zeroes", "once": True}
    rules = {} if policy == "report" else {"inject-error": [first]}

    async def main() -> None:
        bench = await opened(tmp_path)
        try:
            await add_target(bench, path, "raw", **rules)
            await bench.do(command, **JOB, target="target", on_target_error=policy)
            job = await bench.engine.job_ended("j")
            if policy == "stop":
                await bench.do("block-job-resume", device="j")
                job = await bench.engine.job_ended("j")
            assert job.error is None
            assert len(bench.named("BLOCK_JOB_ERROR")) == len(rules)
        finally:
            await bench.engine.shut_down()
        assert path.read_bytes() == COPY

    run(main())
