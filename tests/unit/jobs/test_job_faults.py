"""Each request of a job fails in turn, under each policy: no hang, and no wrong image.

The faults are ``blkdebug``'s: its state counts the requests, and the one whose turn it is fails.
"""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path
from typing import Any

import pytest

from monitor.engine.drivers.blkdebug import BlkdebugDriver
from monitor.engine.drivers.blkdebug.rules import Rules
from monitor.engine.graph.node import Node
from tests.support import tools
from tests.support.bench import Bench
from tests.support.graphs import run
from tests.support.guests import contents

SIZE = 320 << 10
CLUSTER = 64 << 10

EVENTS = {"read": "read_aio", "write": "pwritev", "flush": "flush_to_disk"}


def failing(path: Path, kind: str, number: int, code: int = errno.EIO) -> dict[str, Any]:
    """The options of a file whose request ``number`` of a kind fails once."""
    event = EVENTS[kind]
    return {
        "driver": "blkdebug",
        "image": {"driver": "file", "filename": str(path)},
        "inject-error": [
            {"event": event, "state": number, "iotype": kind, "once": True, "errno": code}
        ],
        "set-state": [
            {"event": event, "state": state, "new_state": state + 1} for state in range(1, number)
        ],
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """low <- mid <- top, and an empty target."""
    tools.need("qemu-img", "qemu-io")
    folder = tmp_path_factory.mktemp("chain")
    below: Path | None = None
    for number, name in enumerate(("low", "mid", "top")):
        backing = ["-b", f"{folder}/{below}", "-F", "qcow2"] if below else []
        below = Path(f"{name}.qcow2")
        tools.run("qemu-img", "create", "-q", "-f", "qcow2", *backing, folder / below, str(SIZE))
        writes = [(number * CLUSTER, CLUSTER), (3 * CLUSTER + number * 8192, 8192)]
        words = [w for at, n in writes for w in ("-c", f"write -P {number + 1} {at} {n}")]
        tools.run("qemu-io", "-f", "qcow2", *words, folder / below)
    tools.run("qemu-img", "create", "-q", "-f", "qcow2", folder / "target.qcow2", str(SIZE))
    top, shown = folder / "top.qcow2", folder / "shown"
    tools.run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", top, shown)
    return folder


class Faulty(Bench):
    """The chain as nodes, with one file that fails."""

    async def build(self, folder: Path, where: str, kind: str, number: int, code: int) -> None:
        backing: str | None = None
        for name in ("low", "mid", "top", "target"):
            path = folder / f"{name}.qcow2"
            file: dict[str, Any] = {"driver": "file", "filename": str(path)}
            if name == where:
                file = failing(path, kind, number, code)
            options = {"driver": "qcow2", "file": file}
            if name == "top":
                await self.open(path, "qcow2", file=file, backing=backing)
            else:
                below = {"backing": backing} if name != "target" else {}
                await self.do("blockdev-add", node_name=name, **options, **below)
            backing = name

    def node(self, name: str) -> Node:
        return self.engine.graph.nodes[name]

    def disarm(self) -> None:
        for node in self.nodes():
            if isinstance(node.driver, BlkdebugDriver):
                node.driver.rules = Rules()

    async def begin(self, job: str, policy: str) -> None:
        match job:
            case "stream":
                await self.do("block-stream", job_id="j", device="disk", on_error=policy)
            case "commit":
                await self.do(
                    "block-commit", job_id="j", device="d0", top_node="mid", on_error=policy
                )
            case "active":
                await self.do("block-commit", job_id="j", device="d0", on_error=policy)
            case "mirror":
                await self.do(
                    "blockdev-mirror",
                    job_id="j",
                    device="d0",
                    target="target",
                    sync="full",
                    on_source_error=policy,
                    on_target_error=policy,
                )

    async def go_on(self) -> None:
        """To the end of the job, whatever it waits for on the way."""
        for _ in range(200):
            found = [snapshot for snapshot in self.engine.jobs() if snapshot.id == "j"]
            if not found:
                return
            snapshot = await self.engine.job_ended("j")
            if snapshot.status in ("paused", "standby"):
                await self.do("block-job-resume", device="j")
            elif snapshot.status == "ready":
                await self.do("block-job-complete", device="j")
            await asyncio.sleep(0)
        raise AssertionError("the job does not end")


def one(folder: Path, job: str, policy: str, where: str, kind: str, number: int) -> bool:
    """One fault. Whether it was met; if not, the job has fewer requests."""
    met = False

    async def main() -> None:
        nonlocal met
        bench = Faulty()
        code = errno.ENOSPC if policy == "enospc" else errno.EIO
        await bench.build(folder, where, kind, number, code)
        try:
            await bench.begin(job, policy)
            await bench.go_on()
            bench.disarm()
            assert bench.drive.node is not None
            assert contents(bench.drive.node) == (folder / "shown").read_bytes()
            (ended,) = bench.named("BLOCK_JOB_COMPLETED")
            met = bool(bench.named("BLOCK_JOB_ERROR")) or "error" in ended
            if policy == "report":
                assert ("error" in ended) == met
            if "error" in ended:
                assert not any(node.is_filter and node.implicit for node in bench.nodes())
        finally:
            await bench.engine.shut_down()

    run(main())
    return met


SIDES = {
    "stream": [("mid", "read"), ("top", "write")],
    "commit": [("mid", "read"), ("low", "write"), ("low", "flush")],
    "active": [("top", "read"), ("low", "write"), ("low", "flush")],
    "mirror": [("top", "read"), ("target", "write"), ("target", "flush")],
}


@pytest.mark.parametrize("policy", ["report", "ignore", "stop", "enospc"])
@pytest.mark.parametrize("job", SIDES)
def test_each_request_fails_in_turn(tmp_path: Path, made: Path, job: str, policy: str) -> None:
    """Images are as they were, or as they should be; nobody waits for ever."""
    met = 0
    for where, kind in SIDES[job]:
        for number in (1, 2, 3, 5):
            folder = tmp_path / f"{where}-{kind}-{number}"
            folder.mkdir()
            for image in made.iterdir():
                (folder / image.name).write_bytes(image.read_bytes())
            if not one(folder, job, policy, where, kind, number):
                break
            met += 1
    assert met >= len(SIDES[job])
