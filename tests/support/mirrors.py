"""A disk, a target and a mirror from one to the other, in short."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.bench import Bench

MIB = 1 << 20


@asynccontextmanager
async def disk(path: Path, data: bytes, fmt: str = "raw", **options: Any) -> AsyncIterator[Bench]:
    """A bench with a disk that holds ``data``."""
    path.write_bytes(data)
    bench = Bench()
    await bench.open(path, fmt, **options)
    try:
        yield bench
    finally:
        await bench.engine.shut_down()


async def target(bench: Bench, path: Path, size: int, **file: Any) -> None:
    with path.open("wb") as made:
        made.truncate(size)
    options = {"driver": "file", "filename": str(path)}
    if file:
        options = {"driver": "blkdebug", "image": options, **file}
    await bench.do("blockdev-add", node_name="target", driver="raw", file=options)


async def mirror(bench: Bench, **options: Any) -> None:
    given = {"job_id": "j", "device": "d0", "target": "target", "sync": "full", **options}
    await bench.do("blockdev-mirror", **given)


def graph(bench: Bench) -> list[tuple[str, str]]:
    return sorted((node.name, node.driver.name) for node in bench.nodes())


def guest_writes(bench: Bench, offset: int) -> None:
    with bench.drive.lane():
        bench.drive.roots[0].write(memoryview(b"guest" * 100), offset)
