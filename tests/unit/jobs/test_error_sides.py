"""Whose error it is, where the host copies: the source's, or the target's."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from tests.support.bench import Bench
from tests.support.graphs import run
from tests.support.qcow2 import new_image, open_qcow2, write

MIB = 1 << 20

FULL = [{"event": "cluster_alloc", "errno": errno.ENOSPC}]


def qcow2(path: Path, name: str, data: bytes = b"", **options: Any) -> dict[str, Any]:
    """Options for a new image; one with rules of blkdebug's below it."""
    image = new_image(MIB)
    if data:
        driver = open_qcow2(image)
        write(driver, 0, data)
        driver.close()
    path.write_bytes(bytes(image.content))
    file: dict[str, Any] = {"driver": "file", "filename": str(path)}
    if "inject-error" in options:
        file = {"driver": "blkdebug", "image": file, "inject-error": options.pop("inject-error")}
    return {"driver": "qcow2", "node_name": name, "file": file, **options}


@pytest.mark.parametrize("kind", ["mirror", "backup", "commit"])
def test_a_target_without_room_is_the_targets_error(tmp_path: Path, kind: str) -> None:
    """Room is asked for before the host is: the error was taken for one of the source's, and
    judged by its policy."""

    async def main() -> None:
        bench = Bench()
        do = bench.do
        await do("blockdev-add", **qcow2(tmp_path / "target", "target", **{"inject-error": FULL}))
        data = b"data" * (MIB // 4)
        if kind == "commit":
            await do("blockdev-add", **qcow2(tmp_path / "top", "top", data, backing="target"))
            await do("blockdev-add", **qcow2(tmp_path / "active", "active", backing="top"))
            await do(
                "block-commit", job_id="j", device="active", top_node="top", base_node="target",
                on_error="stop",
            )  # fmt: skip
        else:
            (tmp_path / "data").write_bytes(data)
            file = {"driver": "file", "filename": str(tmp_path / "data")}
            await do("blockdev-add", node_name="disk", driver="raw", file=file)
            await do(
                f"blockdev-{kind}", job_id="j", device="disk", target="target", sync="full",
                on_source_error="report", on_target_error="stop",
            )  # fmt: skip
        job = await bench.engine.job_ended("j")
        assert bench.named("BLOCK_JOB_ERROR") == [
            {"device": "j", "operation": "write", "action": "stop"}
        ]
        assert job.status == "paused"
        await bench.engine.shut_down()

    run(main())
