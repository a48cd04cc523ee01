"""Zeroes for a target that must have them written as data: they take as long as data does, so no
drained section waits for more of them, and they count for the speed limit."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from monitor.engine.drivers.blkdebug import BlkdebugDriver
from monitor.engine.drivers.memory import MemoryDriver
from monitor.engine.drivers.qcow2 import Qcow2Driver
from monitor.engine.drivers.zeroes import zero
from monitor.engine.jobs.copying import Piece
from tests.support.bench import Bench
from tests.support.graphs import run
from tests.support.qcow2 import new_image, open_qcow2, write
from tests.unit.jobs.test_carrying import StandIn, carry

MIB = 1 << 20
SIZE = 24 * MIB

CANNOT = [{"event": "pwritev_zero", "iotype": "write-zeroes", "errno": errno.ENOTSUP}]


class CannotZero(MemoryDriver):
    """Keeps how much it was asked to write at once."""

    def __init__(self, size: int, can: bool = False) -> None:
        super().__init__(data=b"o" * size)
        self.can = can
        self.asked: list[int] = []

    def write_zeroes(
        self, offset: int, length: int, may_unmap: bool = False, no_fallback: bool = False
    ) -> None:
        if no_fallback and not self.can:
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
        self.asked.append(length)
        super().write_zeroes(offset, length, may_unmap, no_fallback)


class Zeroes:
    """A plan of two large pieces."""

    grain = 64 << 10

    def __init__(self, target: CannotZero) -> None:
        self.target = target
        self.pieces = [Piece(100, SIZE // 2, zero=True), Piece(SIZE // 2 + 100, MIB, zero=True)]
        self.finished = 0

    def next(self, most: int) -> Piece | None:
        return self.pieces.pop(0) if self.pieces else None

    def work(self, piece: Piece, buffer: memoryview) -> None:
        most = len(buffer)
        piece.zeroed(zero(self.target, piece.offset, piece.length, may_unmap=True, most=most))

    def done(self, piece: Piece) -> None:
        self.finished += piece.length

    def ignored(self, piece: Piece, error: OSError) -> None:
        raise AssertionError


@pytest.mark.parametrize("can", [False, True])
def test_a_limit_holds_for_zeroes_that_are_data(can: bool) -> None:
    target = CannotZero(SIZE, can)
    plan: Any = Zeroes(target)
    job = StandIn(speed=MIB)
    began = job.clock.monotonic()
    carry(job, plan)
    whole = SIZE // 2 + MIB
    assert plan.finished == sum(target.asked) == whole
    assert target.contents() == b"o" * 100 + bytes(whole) + b"o" * (SIZE - whole - 100)
    if can:
        assert target.asked == [SIZE // 2, MIB]
        assert job.clock.monotonic() == began
    else:
        assert target.asked == [MIB - 100, *[MIB] * (SIZE // 2 // MIB - 1), 100, MIB]
        assert job.clock.monotonic() - began >= whole / MIB - 2


@pytest.mark.parametrize("kind", ["mirror", "backup", "commit", "stream"])
def test_they_are_written_in_small_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    asked: list[int] = []
    driver: Any = Qcow2Driver if kind == "stream" else BlkdebugDriver
    plain = driver.write_zeroes

    def noted(self: Any, offset: int, length: int, *how: bool) -> None:
        plain(self, offset, length, *how)
        asked.append(length)

    async def main() -> None:
        bench = Bench()
        do = bench.do
        target = tmp_path / "target"
        if kind == "stream":  # old images have no clusters of zeroes
            image = new_image(SIZE, version=2)
            target.write_bytes(bytes(image.content))
            await do("blockdev-add", **layer("base", tmp_path, SIZE))
            await do("blockdev-add", **layer("middle", tmp_path, SIZE, zeroed=True, backing="base"))
            file = {"driver": "file", "filename": str(target)}
            await do("blockdev-add", driver="qcow2", node_name="top", file=file, backing="middle")
            asked.clear()
            await do("block-stream", job_id="j", device="top", base_node="base")
        else:
            target.write_bytes(b"o" * SIZE)
            file = {"driver": "file", "filename": str(target)}
            file = {"driver": "blkdebug", "image": file, "inject-error": CANNOT}
            await do("blockdev-add", driver="raw", node_name="target", file=file)
            if kind == "commit":
                zeroed = layer("top", tmp_path, SIZE, zeroed=True, backing="target")
                await do("blockdev-add", **zeroed)
                await do("blockdev-add", **layer("active", tmp_path, SIZE, backing="top"))
                await do(
                    "block-commit", job_id="j", device="active", top_node="top",
                    base_node="target",
                )  # fmt: skip
            else:
                (tmp_path / "disk").touch()
                os.truncate(tmp_path / "disk", SIZE)
                file = {"driver": "file", "filename": str(tmp_path / "disk")}
                await do("blockdev-add", driver="raw", node_name="disk", file=file)
                await do(
                    f"blockdev-{kind}", job_id="j", device="disk", target="target", sync="full"
                )
        job = await bench.engine.job_ended("j")
        if job.status == "ready":
            await do("block-job-complete", device="j")
        await bench.ended()
        (ended,) = bench.named("BLOCK_JOB_COMPLETED")
        assert "error" not in ended
        assert ended["len"] == ended["offset"]
        if kind == "stream":
            assert all(run.kind == 0 for run in bench.engine.graph.nodes["top"].map(0, SIZE))
        await bench.engine.shut_down()

    monkeypatch.setattr(driver, "write_zeroes", noted)
    run(main())
    assert sum(asked) == SIZE
    assert max(asked) <= MIB + 2 * 65536
    if kind != "stream":
        assert (tmp_path / "target").read_bytes() == bytes(SIZE)


def layer(name: str, folder: Path, size: int, *, zeroed: bool = False, **options: Any) -> Any:
    """Options for a new qcow2 image, which holds zeroes all over or nothing."""
    image = new_image(size)
    driver = open_qcow2(image)
    if zeroed:
        driver.write_zeroes(0, size)
    else:
        write(driver, 0, b"x")
    driver.close()
    (folder / name).write_bytes(bytes(image.content))
    file = {"driver": "file", "filename": str(folder / name)}
    return {"driver": "qcow2", "node_name": name, "file": file, **options}
