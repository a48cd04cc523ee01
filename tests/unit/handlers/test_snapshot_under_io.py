"""Snapshots while guests write: no write is lost, and none reaches an image that has been left."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import time
from pathlib import Path

import pytest
from msgspec import UNSET

from monitor.engine.drivers.file.driver import FileDriver
from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.schema.extra import CreateImage, DriveAdd, IoRequest
from monitor.engine.schema.graph import BlockdevSnapshotSync
from monitor.engine.schema.query import QueryBlock

SNAPSHOTS = 6
GUESTS = 3
PIECE = 64 << 10
PIECES = 16
"""Pieces of the disk that each guest writes, again and again; each guest has its own."""


def digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


def linger(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest's data stays in flight for longer than a snapshot takes that does not wait for it."""
    write = FileDriver.write

    def slow(driver: FileDriver, buffer: memoryview, offset: int) -> None:
        if len(buffer) == PIECE:
            time.sleep(0.03)
        write(driver, buffer, offset)

    monkeypatch.setattr(FileDriver, "write", slow)


def test_snapshots_while_guests_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    linger(monkeypatch)

    async def main() -> None:
        engine = EmbeddedEngine()
        images = [tmp_path / f"{number}.qcow2" for number in range(SNAPSHOTS + 1)]
        size = GUESTS * PIECES * PIECE
        await engine.execute(CreateImage(filename=str(images[0]), format="qcow2", size=size))
        await engine.execute(DriveAdd(options=f"if=none,id=d0,format=qcow2,file={images[0]}"))
        model: dict[int, int] = {}
        over = asyncio.Event()

        async def guest(number: int) -> None:
            count = 0
            while not over.is_set():
                offset = (number * PIECES + count % PIECES) * PIECE
                pattern = count % 255 + 1
                await engine.execute(
                    IoRequest(
                        device="d0", operation="write", offset=offset, length=PIECE, pattern=pattern
                    )
                )
                model[offset] = pattern
                count += 1

        guests = [asyncio.ensure_future(guest(number)) for number in range(GUESTS)]
        left: dict[Path, bytes] = {}
        for below, image in itertools.pairwise(images):
            written = len(model)
            await engine.execute(BlockdevSnapshotSync(device="d0", snapshot_file=str(image)))
            left[below] = digest(below)
            while len(model) == written < GUESTS * PIECES and not any(g.done() for g in guests):
                await asyncio.sleep(0)
        over.set()
        await asyncio.gather(*guests)
        await engine.shut_down()
        assert {path: digest(path) for path in left} == left

        engine = EmbeddedEngine()  # what is on the disk
        await engine.execute(DriveAdd(options=f"if=none,id=d0,format=qcow2,file={images[-1]}"))
        for offset, pattern in model.items():
            answer = await engine.execute(
                IoRequest(
                    device="d0", operation="read", offset=offset, length=PIECE, pattern=pattern
                )
            )
            assert answer.mismatch is UNSET
        (drive,) = await engine.execute(QueryBlock())
        assert drive.inserted.backing_file_depth == SNAPSHOTS
        await engine.shut_down()

    asyncio.run(main())
