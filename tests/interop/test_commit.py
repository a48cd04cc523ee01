"""Commits of real images: what is in no cell of test_job_matrix.py."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from monitor.engine.embedded import EmbeddedEngine
from tests.support import tools
from tests.support.bench import Bench
from tests.support.graphs import run
from tests.support.guests import MIB, SIZE


@asynccontextmanager
async def shut(engine: EmbeddedEngine) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await engine.shut_down()


def chain(image: Path) -> list[dict[str, Any]]:
    said = tools.run("qemu-img", "info", "--backing-chain", "--output=json", image)
    found: list[dict[str, Any]] = json.loads(said)
    return found


def make_chain(folder: Path, *, size: int = SIZE) -> Path:
    """low <- mid <- top; the middle is longer than what is below it, and hides some of it."""
    tools.need("qemu-img", "qemu-io")
    below: Path | None = None
    for name, length, commands in (
        ("low", size - 2 * MIB, ["write -P 1 0 3M"]),
        ("mid", size, ["write -P 2 1M 1M", "write -z 0 192k", "write -P 4 5M 100k"]),
        ("top", size, ["write -P 3 1500k 100k", "write -z 2M 64k"]),
    ):
        backing = ["-b", below, "-F", "qcow2"] if below else []
        below = folder / f"{name}.qcow2"
        tools.run("qemu-img", "create", "-q", "-f", "qcow2", *backing, below, str(length))
        words = [word for command in commands for word in ("-c", command)]
        tools.run("qemu-io", "-f", "qcow2", *words, below)
    assert below is not None
    return below


def test_a_commit_of_the_middle_changes_nothing_above(tmp_path: Path) -> None:
    """The base grows, zeroes hide what was in it, and it is read-only again in the end."""
    top = make_chain(tmp_path)
    before = tmp_path / "before.raw"
    tools.run("qemu-img", "convert", "-O", "raw", top, before)

    async def main() -> None:
        bench = Bench()
        await bench.open(top, "qcow2")
        async with shut(bench.engine):
            await bench.do(
                "block-commit", job_id="j", device="d0", top=str(tmp_path / "mid.qcow2"), speed=MIB
            )
            nodes = {node.filename: node for node in bench.engine.graph.nodes.values()}
            low = next(n for n in bench.engine.graph.nodes["disk"].chain() if n.backing is None)
            assert not low.read_only
            await bench.do("block-job-set-speed", device="j", speed=0)
            await bench.ended()
            assert low.read_only
            assert low.length() == SIZE
            assert bench.engine.graph.nodes["disk"].backing is low
            assert nodes

    run(main())
    assert [Path(image["filename"]).name for image in chain(top)] == ["top.qcow2", "low.qcow2"]
    tools.run("qemu-img", "compare", "-F", "raw", top, before)
    for name in ("low", "top"):
        tools.run("qemu-img", "check", "-q", tmp_path / f"{name}.qcow2")


def test_commit_waits_and_empties_the_image(tmp_path: Path) -> None:
    """HMP's commit: its file, too, is as short then as QEMU's."""
    (tmp_path / "theirs").mkdir()
    theirs, top = make_chain(tmp_path / "theirs"), make_chain(tmp_path)
    tools.run("qemu-img", "commit", "-q", theirs)
    before = tmp_path / "before.raw"
    tools.run("qemu-img", "convert", "-O", "raw", top, before)

    async def main() -> None:
        bench = Bench()
        await bench.open(top, "qcow2")
        async with shut(bench.engine):
            await bench.do("x-blkmon-commit", device="d0")

    run(main())
    tools.run("qemu-img", "compare", "-F", "raw", top, before)
    tools.run("qemu-img", "compare", "-F", "raw", tmp_path / "mid.qcow2", before)
    held = json.loads(tools.run("qemu-img", "map", "--output=json", top))
    assert all(run["depth"] > 0 or not run["present"] for run in held)
    assert top.stat().st_size <= theirs.stat().st_size
    for name in ("mid", "top"):
        tools.run("qemu-img", "check", "-q", tmp_path / f"{name}.qcow2")
